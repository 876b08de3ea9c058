"""Appendix A, testing: every cell of a map gives boxes of an image's classes; they are kept like posteriors.

A candidate is (x0, y0, x1, y1, score, rank): a box in parts of the image, the class' posterior in that cell, and the
class' rank at that scale by its best cell, from 0.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from vgg.appendix.localisation.geometry import boxes_of_classes, from_window
from vgg.data.transforms import centre_window, channels_last
from vgg.evaluation import posteriors
from vgg.nets.vgg import VGG


def candidates(net: VGG, classifier: VGG, images: Tensor, classes: Tensor) -> Tensor:
    """Of whole images (N, 3, H, W) and their classes (N, L): candidates (N, cells, L, 6), without the mirror image."""
    outputs, scores = net.score_map(images).float(), classifier.score_map(images).float().softmax(1)
    count, (rows, columns) = len(images), outputs.shape[2:]
    wanted = classes[:, None].expand(-1, rows * columns, -1)
    by_cell = outputs.flatten(2).transpose(1, 2).flatten(0, 1)  # (N * cells, outputs)
    seen = boxes_of_classes(by_cell, wanted.flatten(0, 1)).view(count, rows, columns, -1, 4)
    size = (images.shape[3], images.shape[2])
    top = net.stride * torch.arange(rows, device=images.device).view(-1, 1, 1)
    left = net.stride * torch.arange(columns, device=images.device).view(1, -1, 1)
    found = from_window(seen, size, left, top, net.crop, False).clamp(0, 1).flatten(1, 2)
    ranks = scores.amax(dim=(2, 3)).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    score = scores.flatten(2).transpose(1, 2).take_along_dim(wanted, 2)
    rank = ranks.take_along_dim(classes, 1)[:, None].expand_as(score)
    return torch.cat([found, score[..., None], rank[..., None]], -1)


def central(net: VGG, images: Tensor, classes: Tensor) -> Tensor:
    """The same of the central crop alone, whose class is known: (N, 1, L, 6), every score 1 and rank 0."""
    size = (images.shape[3], images.shape[2])
    left, top = centre_window(size, net.crop)
    seen = boxes_of_classes(net(images[:, :, top : top + net.crop, left : left + net.crop]).float(), classes)
    found = from_window(seen, size, left, top, net.crop, False).clamp(0, 1)[:, None]
    return torch.cat([found, torch.ones_like(found[..., :1]), torch.zeros_like(found[..., :1])], -1)


class BoxScoring(pl.LightningModule):
    """One box predictor at one scale; candidates gather on the host. Without a classifier: the central crop alone."""

    def __init__(self, net: VGG, classifier: VGG | None, classes: np.ndarray):
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.classifier = classifier and classifier.to(memory_format=torch.channels_last)
        self.classes = torch.from_numpy(classes)
        self.found: dict[int, np.ndarray] = {}

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        images, indices = channels_last(batch[0]), batch[1]
        if not len(indices):
            return
        classes = self.classes[indices.cpu()].to(images.device)
        if self.classifier is None:
            rows = central(self.net, images, classes)
        else:
            rows = candidates(self.net, self.classifier, images, classes)
        self.found |= dict(zip(indices.tolist(), rows.cpu().numpy(), strict=True))

    def save(self, path: Path) -> None:
        save(path, self.found, len(self.classes))

    @staticmethod
    def merge(shards: list[Path], path: Path, origin: dict[str, Any] | None = None) -> None:
        """One file from the ranks' images."""
        found: dict[int, np.ndarray] = {}
        for shard in shards:
            rows = load(shard)
            found |= {index: own for index, own in enumerate(rows) if len(own)}
        save(path, found, len(rows), origin)


def save(path: Path, found: dict[int, np.ndarray], images: int, origin: dict[str, Any] | None = None) -> None:
    """Keep the candidates (cells, L, 6) of each image; images without any cannot be read."""
    counts = np.array([len(found.get(index, ())) for index in range(images)])
    rows = [found[index] for index in sorted(found)]
    posteriors.save(path, np.concatenate(rows) if rows else np.zeros((0, 1, 6), np.float32), counts, origin)


def load(path: Path) -> list[np.ndarray]:
    """The candidates of each image."""
    rows, counts = posteriors.read(path)
    return np.split(rows, np.cumsum(counts)[:-1])
