"""Scoring images with one net: batches of one rescaled shape, and a LightningModule that keeps the rows."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vgg.data.encoded_image import UNREADABLE, Picture
from vgg.data.listing import Listing, size
from vgg.data.transforms import channels_last, rescale, rescaled_size
from vgg.evaluation import posteriors, views
from vgg.nets.base import Network


class WholeImages(Dataset):
    """Item index -> (image rescaled to smaller side `side`, uint8 (H, W, 3), index)."""

    def __init__(self, images: Listing, side: int):
        self.images, self.side = images, side

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            return rescale(Picture(self.images.read(index)), self.side), index
        except UNREADABLE:
            return torch.zeros(0, dtype=torch.uint8), index


def collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """(the readable images, their indices)."""
    whole = [(image, index) for image, index in items if image.numel()]
    images = torch.stack([image for image, _ in whole]) if whole else torch.zeros(0, 1, 1, 3, dtype=torch.uint8)
    return images, torch.tensor([index for _, index in whole], dtype=torch.long)


def sizes(images: Listing, quiet: bool = False) -> list[tuple[int, int] | None]:
    """(width, height) of every image, from the files' headers; None where a file has none."""
    numbers = tqdm(range(len(images)), "sizes of the images", leave=False, disable=True if quiet else None)
    return [size(images, index) for index in numbers]


def batches(sizes: list[tuple[int, int] | None], side: int, count: int) -> list[list[int]]:
    """Indices in batches of equal rescaled shape, large ones first: memory is at its highest at the start.

    Images that are more than twice as long as wide go in smaller batches, of no more pixels than such ones have.
    """
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, whole in enumerate(sizes):
        if whole is not None:
            shapes[rescaled_size(whole, side)].append(index)
    return [
        indices[start : start + at_once]
        for (width, height), indices in sorted(shapes.items(), key=lambda item: -max(item[0]))
        for at_once in [max(1, min(count, 2 * count * side**2 // (width * height)))]
        for start in range(0, len(indices), at_once)
    ]


class Scoring(pl.LightningModule):
    """One net under one view and softmax order, with or without mirror images; rows gather on the host."""

    def __init__(self, net: Network, images: Listing, view: str, softmax: str, mirror: bool):
        super().__init__()
        self.net, self.view = net.to(memory_format=torch.channels_last), view
        self.softmax, self.mirror = softmax, mirror
        self.rows = np.zeros((len(images), views.columns(net, view)), dtype=np.float32)
        self.covered = np.zeros(len(images), dtype=bool)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        images, indices = batch
        if len(indices):
            rows = views.rows(self.net, channels_last(images), self.view, self.softmax, self.mirror)
            self.rows[indices.cpu().numpy()] = rows.float().cpu().numpy()
            self.covered[indices.cpu().numpy()] = True

    def save(self, path: Path) -> None:
        posteriors.save(path, self.rows, self.covered)

    @staticmethod
    def merge(shards: list[Path], path: Path, origin: dict[str, Any] | None = None) -> None:
        """One array from the ranks' rows."""
        rows, covered = posteriors.read(shards[0])
        for shard in shards[1:]:
            more, mask = posteriors.read(shard)
            rows[mask], covered[mask] = more[mask], True
        posteriors.save(path, rows, covered, origin)
