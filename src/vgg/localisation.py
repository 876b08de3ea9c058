"""Appendix A: boxes as a net sees them, crops that show an object, and the training of a box predictor.

A box of an image is (x0, y0, x1, y1) in parts of its width and height; as the net's target and output it is (centre x,
centre y, width, height) relative to the window that the net looks at: the training crop, or a cell's.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics.aggregation import MeanMetric
from torchvision.ops import box_convert

from vgg.boxes import boxes
from vgg.config import TrainConfig, require
from vgg.data import CentreCrops, ImageData, TrainingCrops
from vgg.images import Listing
from vgg.module import Recipe
from vgg.network import VGG
from vgg.pictures import Picture
from vgg.runs import sha256_of_tensors
from vgg.transforms import centre_window, rescaled_size, rescaled_window

OVERLAP = 0.5  # a box is right when the intersection over the union is larger
SHOWN = 0.5  # part of a box that a training crop shows at least
TRIES = 10  # at such a crop


def to_window(boxes: Tensor, size: tuple[int, int], left: float, top: float, crop: int, mirrored: bool) -> Tensor:
    """Boxes (..., 4) of an image that is rescaled to `size` pixels -> as seen from the window, mirrored or not."""
    width, height = size
    x0, y0, x1, y1 = (boxes * boxes.new_tensor([width, height, width, height])).unbind(-1)
    seen = torch.stack([x0 - left, y0 - top, x1 - left, y1 - top], -1) / crop
    centred = box_convert(seen, "xyxy", "cxcywh")
    return torch.cat([1 - centred[..., :1], centred[..., 1:]], -1) if mirrored else centred


def from_window(seen: Tensor, size: tuple[int, int], left: float, top: float, crop: int, mirrored: bool) -> Tensor:
    """The inverse of `to_window`."""
    centred = torch.cat([1 - seen[..., :1], seen[..., 1:]], -1) if mirrored else seen
    x0, y0, x1, y1 = (box_convert(centred, "cxcywh", "xyxy") * crop).unbind(-1)
    width, height = size
    return torch.stack([(x0 + left) / width, (y0 + top) / height, (x1 + left) / width, (y1 + top) / height], -1)


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of corner boxes (..., 4), broadcast against each other; 0 for boxes without an area."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (one, other)]
    return (both / (areas[0] + areas[1] - both)).nan_to_num(0)


def window_on_object(
    boxes: Tensor, size: tuple[int, int], crop: int, rng: np.random.Generator
) -> tuple[int, int, Tensor]:
    """(left, top) of a training crop that shows at least half of one of the boxes (n, 4), and what it shows most of.

    After ten tries it is the crop with a random box in its middle, as far as the image's border allows.
    """
    width, height = size
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    def visible(left: int, top: int) -> Tensor:
        """Areas of the boxes inside the crop, in parts of the image."""
        window = boxes.new_tensor([left / width, top / height, (left + crop) / width, (top + crop) / height])
        low, high = torch.maximum(boxes[:, :2], window[:2]), torch.minimum(boxes[:, 2:], window[2:])
        return (high - low).clamp(min=0).prod(1)

    for _ in range(TRIES):
        left, top = int(rng.integers(width - crop + 1)), int(rng.integers(height - crop + 1))
        inside = visible(left, top)
        if (inside >= SHOWN * areas).any():
            break
    else:
        x0, y0, x1, y1 = boxes[int(rng.integers(len(boxes)))].tolist()
        left = min(max(0, round((x0 + x1) / 2 * width - crop / 2)), width - crop)
        top = min(max(0, round((y0 + y1) / 2 * height - crop / 2)), height - crop)
        inside = visible(left, top)
    return left, top, boxes[inside.argmax()]


class BoxCrops(TrainingCrops):
    """Item (epoch, index) -> (crop, label, box (4,) relative to the crop, alpha, key, an unreadable file or -1).

    alpha and key as of `TrainingCrops`.
    """

    def __init__(self, images: Listing, boxes: list[Tensor], cfg: TrainConfig):
        super().__init__(images, cfg)
        self.boxes = boxes

    def example(self, picture: Picture, index: int, side: int, rng: np.random.Generator) -> tuple[Tensor, int, Tensor]:
        size = rescaled_size(picture.size, side)
        left, top, box = window_on_object(self.boxes[index], size, self.crop, rng)
        window = rescaled_window(picture, side, left, top, self.crop, fast=True)
        mirrored = self.mirror and bool(rng.random() < 0.5)
        seen = to_window(box, size, left, top, self.crop, mirrored)
        return window.flip(1) if mirrored else window, self.images.labels[index], seen


class BoxCentreCrops(CentreCrops):
    """Item row -> (central crop, label, its boxes (most boxes of an image, 4) relative to it, filled up with 0, -1)."""

    def __init__(self, boxes: list[Tensor], *how: object):
        super().__init__(*how)
        self.boxes, self.most = boxes, max(map(len, boxes))

    def __getitem__(self, row: int) -> tuple[Tensor, int, Tensor, int]:
        crop, label, unreadable = super().__getitem__(row)
        found = torch.zeros(self.most, 4)
        if unreadable < 0:
            index = self.indices[row]
            size = rescaled_size(self.pictures[index].size, self.side)
            own = self.boxes[index]
            found[: len(own)] = to_window(own, size, *centre_window(size, self.crop), self.crop, False)
        return crop, label, found, unreadable


class BoxData(ImageData):
    """The images of one run that have boxes, and these."""

    def __init__(self, cfg: TrainConfig, folder: Path):
        super().__init__(cfg, folder)
        found = boxes(cfg, self.train)
        having = [index for index, own in enumerate(found) if len(own)]
        if len(having) < len(self.train):
            print(f"{len(having):,} of the {len(self.train):,} training images have boxes: these are trained on")
        self.train, self.train_boxes = self.train.subset(having), tensors([found[index] for index in having])
        self.val_boxes = tensors(boxes(cfg, self.val))
        refuse_boxless(self.val, self.val_boxes)

    def sums(self) -> dict[str, str]:
        return super().sums() | {"boxes": sha256_of_tensors({"boxes": torch.cat(self.train_boxes + self.val_boxes)})}

    def training_crops(self) -> BoxCrops:
        return BoxCrops(self.train, self.train_boxes, self.cfg)

    def validation_crops(self, *how: int) -> BoxCentreCrops:
        return BoxCentreCrops(self.val_boxes, self.val, *how)


def tensors(boxes: list[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(own).float() for own in boxes]


def refuse_boxless(images: Listing, boxes: list[Tensor]) -> None:
    """An evaluation covers every image: UserError names those without a box of their class."""
    without = [str(images.path(index)) for index, own in enumerate(boxes) if not len(own)]
    require(not without, f"{len(without)} validation images have no box of their class: {', '.join(without[:3])} …")


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


def boxes_of_classes(outputs: Tensor, classes: Tensor) -> Tensor:
    """(N, 4) or (N, 4 * all classes), class by class -> the boxes of the classes (N, L) asked for: (N, L, 4)."""
    if outputs.shape[1] == 4:
        return outputs[:, None].expand(-1, classes.shape[1], -1)
    return outputs.view(len(outputs), -1, 4).take_along_dim(classes[..., None], 1)


def overlap_of_pairs(found: Tensor, boxes: Tensor) -> Tensor:
    """The largest overlap of each centred box (N, 4) with those of its image (N, n, 4): (N,)."""
    one, others = (box_convert(seen.float(), "cxcywh", "xyxy") for seen in (found, boxes))
    return overlaps(one[:, None], others).amax(1)
