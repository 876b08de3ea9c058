"""Our training step against a bare PyTorch loop with the same settings, and against torchvision's reference settings.

python benchmarks/step.py

Batches are made beforehand: this is about the step, not about decoding. The alternatives take turns step by step, so
that a machine that is busy for a second slows all of them; a ratio is of the seconds that one part of the steps took.
"""

import argparse
import time
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from measure import Measured, configured, machine, report
from torch import Tensor

from vgg.core.config import TrainConfig
from vgg.core.scales import PAPER_CROP, real_pixels
from vgg.data.colours import Colours
from vgg.data.transforms import channels_last
from vgg.launch.processes import quiet
from vgg.launch.trainer import lightning_trainer
from vgg.training.checkpoints import FiniteLoss
from vgg.training.modules import Classifier

WARM_UP = 2
COLOURS = Colours(torch.tensor([124.0, 117.0, 104.0]), torch.eye(3), torch.tensor([60.0, 15.0, 5.0]))


def batch_of(cfg: TrainConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shape = (cfg.data.batch, *2 * (real_pixels(PAPER_CROP, cfg.data.scale),), 3)
    return (
        torch.randint(256, shape, dtype=torch.uint8, generator=draw),
        torch.randint(10, (cfg.data.batch,), generator=draw),
        COLOURS.shift(0.1 * torch.randn(cfg.data.batch, 3, generator=draw)),
        torch.randint(2**32, (cfg.data.batch,), generator=draw),
    )


def module_of(cfg: TrainConfig) -> Classifier:
    size = {"scale": cfg.data.scale, "width": cfg.data.width, "dropout": cfg.model.dropout}
    return Classifier(cfg.model.name, 10, **size, draw=cfg.init.draw, mean=COLOURS.mean, lr=cfg.learning_rate)


def bare(cfg: TrainConfig) -> Iterator[None]:
    """A step of the same operations each time, but the counting of errors."""
    net = module_of(cfg).net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg.learning_rate, momentum=0.9, weight_decay=5e-4, fused=True)
    crops, labels, shift, keys = batch_of(cfg)
    while True:
        loss = F.cross_entropy(net(channels_last(crops) + shift, keys), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def reference(cfg: TrainConfig) -> Iterator[None]:
    """With what torchvision's training script sets: float32, eager, and N, C, H, W in memory."""
    net = module_of(cfg).net.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg.learning_rate, momentum=0.9, weight_decay=5e-4)
    crops, labels, _, keys = batch_of(cfg)
    while True:
        loss = F.cross_entropy(net(crops.permute(0, 3, 1, 2).float().contiguous(), keys), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


class TakeTurns(pl.Callback):
    """After each step of Lightning's a step of each of the others; the seconds that each of them took."""

    def __init__(self, others: dict[str, Iterator[None]]):
        self.others = others
        self.seconds: dict[str, list[float]] = {name: [] for name in ("ours", *others)}

    def on_train_start(self, *unused: object) -> None:
        self.since = time.perf_counter()

    def on_train_batch_end(self, *unused: object) -> None:
        self.turn_ends("ours")
        for name, steps in self.others.items():
            next(steps)
            self.turn_ends(name)

    def turn_ends(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name].append(now - self.since)
        self.since = now


def measured(cfg: TrainConfig, others: dict[str, Iterator[None]], steps: int, turns: int) -> dict[str, Measured]:
    """Images/s of the others, and of the LightningModule in Lightning's trainer, whose callback looks at every loss."""
    clock = TakeTurns(others)
    trainer = lightning_trainer(
        cfg.trainer, max_epochs=1, logger=False, callbacks=[FiniteLoss(), clock], num_sanity_val_steps=0
    )
    loader = torch.utils.data.DataLoader([batch_of(cfg)] * (WARM_UP + steps * turns), batch_size=None)
    trainer.fit(module_of(cfg), loader)
    parts = [slice(first, first + steps) for first in range(WARM_UP, WARM_UP + steps * turns, steps)]
    return {
        name: Measured([steps * cfg.data.batch / sum(seconds[part]) for part in parts])
        for name, seconds in clock.seconds.items()
    }


def cases() -> Iterator[tuple[str, tuple[str, ...], int]]:
    yield "net D, 224 crops, full width, batch 4", ("model=D", "data=imagenet", "data.root=/", "data.batch=4"), 2
    yield "net D of the demo, 28 crops", ("model=D", "data=digits"), 40
    yield "net A of the demo, 28 crops", ("model=A", "data=digits"), 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    quiet()
    print(machine())
    loop = "bare loop, ours without Lightning"
    for what, overrides, steps in cases():
        cfg = configured(*overrides, "trainer=cpu")
        others = {loop: bare(cfg), "torchvision's settings: NCHW, float32, eager": reference(cfg)}
        report(f"training steps, {what}", "images/s", measured(cfg, others, steps, turns), loop)
        if cfg.data.width < 1:  # at full width, bf16 on a CPU ends PyTorch 2.14.1 with a corrupted heap
            mixed = configured(*overrides, "trainer=cpu", "trainer.precision=bf16-mixed")
            others = {"bare loop, float32": bare(cfg)}
            report(f"{what}, bf16-mixed", "images/s", measured(mixed, others, steps, turns), "bare loop, float32")


if __name__ == "__main__":
    main()
