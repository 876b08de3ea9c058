"""Appendix A's box predictor as a LightningModule."""

from torch import Tensor
from torchmetrics.aggregation import MeanMetric

from vgg.appendix.localisation.data import BoxData
from vgg.appendix.localisation.geometry import OVERLAP, boxes_of_classes, overlap_of_pairs
from vgg.core.config import TrainConfig
from vgg.nets.vgg import VGG
from vgg.training.modules import Recipe


class BoxPredictor(Recipe):
    """A net whose fc8 gives a box, for each class or for all, under the Euclidean loss 1/2 ||box - target||^2."""

    def __init__(self, net: VGG, cfg: TrainConfig, data: BoxData):
        super().__init__(net, cfg, data, {"box": MeanMetric()})

    def chosen(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(N, 4 or 4 * classes) -> the boxes of these classes (N, 4)."""
        return boxes_of_classes(outputs, labels[:, None])[:, 0]

    def loss(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = self.chosen(outputs.float(), labels)
        right = overlap_of_pairs(found.detach(), targets[:, None]) > OVERLAP
        return (found - targets).square().sum(1).mean() / 2, {"box_error": 100 * (~right).float().mean()}

    def judge(self, outputs: Tensor, labels: Tensor, boxes: Tensor) -> None:
        self.accuracies["box"].update((overlap_of_pairs(self.chosen(outputs, labels), boxes) > OVERLAP).float())
