"""Appendix A's crops that show an object, and the LightningDataModule of images that have boxes."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgg.appendix.localisation.annotations import boxes, refuse_boxless
from vgg.appendix.localisation.geometry import to_window
from vgg.data.crops import CentreCrops, TrainingCrops
from vgg.data.datamodule import ImageData
from vgg.data.datasets import data_root
from vgg.data.encoded_image import Picture
from vgg.data.transforms import centre_window, rescaled_size, rescaled_window
from vgg.nets.state_dicts import sha256_of_tensors

SHOWN = 0.5  # part of a box that a training crop shows at least

TRIES = 10  # at such a crop


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

    def __init__(self, boxes: list[Tensor], *how: Any):
        super().__init__(*how)
        self.boxes = boxes

    def example(self, picture: Picture, index: int, side: int, rng: np.random.Generator) -> tuple[Tensor, int, Tensor]:
        size = rescaled_size(picture.size, side)
        left, top, box = window_on_object(self.boxes[index], size, self.crop, rng)
        window = rescaled_window(picture, side, left, top, self.crop, fast=True)
        mirrored = self.mirror and bool(rng.random() < 0.5)
        seen = to_window(box, size, left, top, self.crop, mirrored)
        return window.flip(1) if mirrored else window, self.images.labels[index], seen


class BoxCentreCrops(CentreCrops):
    """Item index -> (central crop, label, its boxes (most of an image, 4) relative to it, filled up with 0, -1)."""

    def __init__(self, boxes: list[Tensor], *how: Any):
        super().__init__(*how)
        self.boxes, self.most = boxes, max(map(len, boxes))

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor, int]:
        crop, label, unreadable = super().__getitem__(index)
        found = torch.zeros(self.most, 4)
        if unreadable < 0:
            size, own = rescaled_size(self.pictures[index].size, self.side), self.boxes[index]
            found[: len(own)] = to_window(own, size, *centre_window(size, self.crop), self.crop, False)
        return crop, label, found, unreadable


class BoxData(ImageData):
    """Training and validation images that have boxes, and these; batches as `BoxPredictor` takes them.

    Args:
        annotations: a CSV file, or a folder of XML files; None: looked for in `root`.
        images: as of `ImageData`.
    """

    def __init__(self, annotations: str | None = None, **images: Any):
        super().__init__(**images)
        root = data_root(self.source, self.cache_dir)
        found = boxes(annotations, root, self.train)
        having = [index for index, own in enumerate(found) if len(own)]
        if len(having) < len(self.train):
            print(f"{len(having):,} of the {len(self.train):,} training images have boxes: these are trained on")
        self.train, self.train_boxes = self.train.subset(having), [found[index] for index in having]
        self.val_boxes = boxes(annotations, root, self.val)
        refuse_boxless(self.val, self.val_boxes)

    def sums(self) -> dict[str, str]:
        return super().sums() | {"boxes": sha256_of_tensors({"boxes": torch.cat(self.train_boxes + self.val_boxes)})}

    def training_crops(self) -> TrainingCrops:
        return super().training_crops(partial(BoxCrops, self.train_boxes))

    def validation_crops(self, *how: int) -> BoxCentreCrops:
        return BoxCentreCrops(self.val_boxes, self.val, *how)
