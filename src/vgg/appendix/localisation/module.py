"""Appendix A's box predictor as a LightningModule."""

from typing import Any, Literal

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.aggregation import MeanMetric

from vgg.appendix.localisation.geometry import OVERLAP, boxes_of_classes, overlap_of_pairs
from vgg.training.modules import Recipe


class BoxPredictor(Recipe):
    """A net whose fc8 gives a box, under the Euclidean loss 1/2 ||box - target||^2.

    A batch has labels (N,) and boxes as seen from the crop as targets: (N, 4), in validation (N, most of an image, 4).

    Args:
        boxes: "pcr" for a box of each class, "scr" for one of all.
        recipe: as of `Recipe`.
    """

    def __init__(self, boxes: Literal["pcr", "scr"] = "pcr", **recipe: Any):
        super().__init__(**recipe)

    def outputs(self, classes: int) -> int:
        return 4 * classes if self.hparams.boxes == "pcr" else 4

    def metrics(self, classes: int) -> dict[str, Metric]:
        return {"box": MeanMetric()}

    def chosen(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(N, 4 or 4 * classes) -> the boxes of these classes (N, 4)."""
        return boxes_of_classes(outputs, labels[:, None])[:, 0]

    def loss(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = self.chosen(outputs.float(), labels)
        right = overlap_of_pairs(found.detach(), targets[:, None]) > OVERLAP
        return (found - targets).square().sum(1).mean() / 2, {"box_error": 100 * (~right).float().mean()}

    def judge(self, outputs: Tensor, labels: Tensor, boxes: Tensor) -> None:
        self.accuracies["box"].update((overlap_of_pairs(self.chosen(outputs, labels), boxes) > OVERLAP).float())
