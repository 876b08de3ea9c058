"""The resident memory of an evaluation of 50,000 images, over its course: flat, once the first batches are through.

python benchmarks/memory.py FOLDER     any photos, in one folder; each stands for many

A small net at the real number of images and classes. The memory is that of the whole process.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from measure import configured, machine
from torch.utils.data import DataLoader

from vgg.data.listing import Listing
from vgg.evaluation.scoring import Scoring, WholeImages, batches, collate, sizes
from vgg.launch.processes import quiet
from vgg.launch.trainer import lightning_trainer
from vgg.nets.vgg import VGG

IMAGES, CLASSES, Q, BATCH = 50_000, 1000, 64, 16


def resident() -> float:
    """In MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


class Watch(pl.Callback):
    """Prints the memory every so many batches."""

    def __init__(self, every: int):
        self.every = every

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        if number % self.every == 0:
            print(f"  {int(module.covered.sum()):6,d} images   {resident():8.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    paths = sorted(folder.iterdir())
    repeated = [paths[number % len(paths)] for number in range(IMAGES)]
    images = Listing(
        folder,
        tuple(str(number) for number in range(CLASSES)),
        tuple(path.name for path in repeated),
        tuple(path.stat().st_size for path in repeated),
        (0,) * IMAGES,
    )
    quiet()
    print(machine())
    net = VGG("A", classes=CLASSES, scale=0.25, width=1 / 16)
    order = batches(sizes(images), Q, BATCH)
    print(f"dense, {IMAGES:,} images in {len(order):,} batches, posteriors of {4 * IMAGES * CLASSES / 1e6:.0f} MB")
    trainer = lightning_trainer(configured("trainer=cpu").trainer, logger=False, callbacks=[Watch(len(order) // 12)])
    loader = DataLoader(WholeImages(images, Q), batch_sampler=order, collate_fn=collate)
    trainer.test(Scoring(net, images, "dense", "last"), loader, verbose=False)
    print(f"  at the end      {resident():8.1f} MB")


if __name__ == "__main__":
    main()
