"""How fast one decoding process on one core makes training crops, and whole images at Q, from a folder of photos.

python benchmarks/input.py FOLDER     photos of ImageNet's sizes, in one folder

The reference is torchvision's usual way. Everything goes through a DataLoader with one worker, pinned to a core.

Decoding takes two thirds of the time of a crop, and most photos are too small to be halved for any S. Tried and not
kept, for a few percent each: libjpeg-turbo's approximate DCT and upsampling; OpenCV's resizing; exact windows by a
library that resizes boxes; a contiguous copy of the window; decoding only down to the crop's last row by writing a
smaller height into the header (damaged files then give memory that nobody wrote). Slower: decoding at 5/8, 3/4 or 7/8
of the size.
"""

import argparse
import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import simplejpeg
import torch
from measure import machine, report, take_turns
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vgg.data.encoded_image import Picture
from vgg.data.transforms import rescale, training_crop

PASSES = 4  # over the photos, in a turn
NORMALIZE = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Photos(Dataset):
    """Item index -> what `make` gives for the photo's path."""

    def __init__(self, paths: list[Path], make: Callable[[Path], torch.Tensor]):
        self.paths, self.make = paths * PASSES, make

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.make(self.paths[index])


def reference_crop(path: Path) -> torch.Tensor:
    steps = [
        transforms.Resize(random.randint(256, 512)),
        transforms.RandomCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        NORMALIZE,
    ]
    return transforms.Compose(steps)(Image.open(path).convert("RGB"))


def our_crop(path: Path) -> torch.Tensor:
    import numpy as np

    rng = np.random.default_rng([1, random.getrandbits(32)])
    return training_crop(Picture(path.read_bytes()), int(rng.integers(256, 513)), 224, rng)


def decoded_only(path: Path) -> torch.Tensor:
    """libjpeg-turbo with its approximations, and nothing is done with the pixels."""
    simplejpeg.decode_jpeg(path.read_bytes(), fastdct=True, fastupsample=True)
    return torch.zeros(1)


def reference_whole(path: Path) -> torch.Tensor:
    steps = [transforms.Resize(384), transforms.ToTensor(), NORMALIZE]
    return transforms.Compose(steps)(Image.open(path).convert("RGB"))


def our_whole(path: Path) -> torch.Tensor:
    return rescale(Picture(path.read_bytes()), 384)


def pin(worker: int) -> None:
    """Each worker on a core of its own, away from the first one, where the main process is."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1 - worker % len(cores)]})


def speed(photos: Photos, workers: int, batch: int | None) -> float:
    """Images/s after the first batch has come."""
    batches = iter(DataLoader(photos, batch_size=batch, num_workers=workers, worker_init_fn=pin))
    skipped = batch or 10
    next(batches) if batch else list(itertools.islice(batches, skipped))
    started = time.perf_counter()
    for _ in batches:
        pass
    return (len(photos) - skipped) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--turns", type=int, default=8)
    given = parser.parse_args()
    paths = sorted(given.folder.iterdir())
    print(f"{len(paths)} photos; {machine()}")

    def alternative(make: Callable[[Path], torch.Tensor], workers: int = 1, batch: int | None = 64) -> Callable:
        return lambda: speed(Photos(paths, make), workers, batch)

    measured = take_turns(
        {
            "PIL, Resize(S), RandomCrop, flip, ToTensor, Normalize": alternative(reference_crop),
            "ours: decode, S in [256, 512], 224 crop, flip, uint8": alternative(our_crop),
            "decoding only, libjpeg-turbo's fastest": alternative(decoded_only),
            "ours, two workers": alternative(our_crop, workers=2),
        },
        given.turns,
    )
    report("training crops, one worker on one core", "images/s", measured, next(iter(measured)))
    measured = take_turns(
        {
            "PIL, Resize(384), ToTensor, Normalize": alternative(reference_whole, batch=None),
            "ours: decode and rescale to Q = 384, uint8": alternative(our_whole, batch=None),
        },
        given.turns,
    )
    report("whole images at Q = 384, one worker on one core", "images/s", measured, next(iter(measured)))


if __name__ == "__main__":
    main()
