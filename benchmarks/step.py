"""Our training step against a bare PyTorch loop with the same settings, and against torchvision's reference settings.

python benchmarks/step.py

Batches are made beforehand: this is about the step, not about decoding. Speeds are over all steps but the first two of
each turn.
"""

import argparse
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from measure import configured, machine, report, take_turns
from torch import Tensor

from vgg import initialise, weights
from vgg.__main__ import quiet
from vgg.callbacks import FiniteLoss
from vgg.config import TrainConfig
from vgg.module import Classifier, channels_last
from vgg.network import VGG
from vgg.training import lightning_trainer
from vgg.transforms import Colours

WARM_UP = 2
COLOURS = Colours(torch.tensor([124.0, 117.0, 104.0]), torch.eye(3), torch.tensor([60.0, 15.0, 5.0]))


def batches(cfg: TrainConfig, steps: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shape = (cfg.data.batch, cfg.data.crop, cfg.data.crop, 3)
    made = (
        torch.randint(256, shape, dtype=torch.uint8, generator=draw),
        torch.randint(10, (cfg.data.batch,), generator=draw),
        0.1 * torch.randn(cfg.data.batch, 3, generator=draw),
    )
    return [made] * steps


def net_of(cfg: TrainConfig) -> VGG:
    net = weights.build(cfg, 10)
    initialise.draw(net, cfg.init.draw, cfg.seed)
    net.mean.copy_(COLOURS.mean)
    return net


class Clock(pl.Callback):
    """When the step after the warm-up began, and when the last one ended."""

    def on_train_batch_start(self, trainer: pl.Trainer, *unused: object) -> None:
        if trainer.global_step == WARM_UP:
            self.started = time.perf_counter()

    def on_train_batch_end(self, *unused: object) -> None:
        self.ended = time.perf_counter()


def lightning(cfg: TrainConfig, steps: int) -> float:
    """Images/s of the LightningModule in Lightning's trainer, with the callback that looks at every loss."""
    clock, data = Clock(), SimpleNamespace(colours=lambda: COLOURS)
    trainer = lightning_trainer(
        cfg.trainer, max_epochs=1, logger=False, callbacks=[FiniteLoss(), clock], num_sanity_val_steps=0
    )
    loader = torch.utils.data.DataLoader(batches(cfg, steps), batch_size=None)
    module = Classifier(net_of(cfg), cfg, data)
    module.validation_step = None
    trainer.fit(module, loader)
    return (steps - WARM_UP) * cfg.data.batch / (clock.ended - clock.started)


def bare(cfg: TrainConfig, steps: int) -> float:
    """Images/s of the same operations in a loop."""
    net = net_of(cfg).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg.learning_rate, momentum=0.9, weight_decay=5e-4, fused=True)
    for step, (crops, labels, alpha) in enumerate(batches(cfg, steps)):
        if step == WARM_UP:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=cfg.trainer.precision == "bf16-mixed"):
            loss = F.cross_entropy(net(channels_last(crops) + COLOURS.shift(alpha)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (steps - WARM_UP) * cfg.data.batch / (time.perf_counter() - started)


def reference(cfg: TrainConfig, steps: int) -> float:
    """Images/s with what torchvision's training script sets: float32, eager, and N, C, H, W in memory."""
    net = net_of(cfg).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=cfg.learning_rate, momentum=0.9, weight_decay=5e-4)
    for step, (crops, labels, _) in enumerate(batches(cfg, steps)):
        if step == WARM_UP:
            started = time.perf_counter()
        loss = F.cross_entropy(net(crops.permute(0, 3, 1, 2).float().contiguous()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (steps - WARM_UP) * cfg.data.batch / (time.perf_counter() - started)


def cases() -> Iterator[tuple[str, tuple[str, ...], int]]:
    yield "net D, 224 crops, full width, batch 4", ("model=D", "data=imagenet", "data.root=/", "data.batch=4"), 6
    yield "net D of the demo, 56 crops, batch 32", ("model=D", "data=digits"), 150
    yield "net A of the demo, 56 crops, batch 32", ("model=A", "data=digits"), 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    quiet()
    print(machine())
    for what, overrides, steps in cases():
        cfg = configured(*overrides, "trainer=cpu")
        alternatives = {
            "bare loop, ours without Lightning": lambda cfg=cfg, steps=steps: bare(cfg, steps),
            "ours": lambda cfg=cfg, steps=steps: lightning(cfg, steps),
            "torchvision's settings: NCHW, float32, eager": lambda cfg=cfg, steps=steps: reference(cfg, steps),
        }
        if cfg.data.width < 1:  # at full width, bf16 on a CPU ends PyTorch 2.14.1 with a corrupted heap
            mixed = configured(*overrides, "trainer=cpu", "trainer.precision=bf16-mixed")
            alternatives["ours, bf16-mixed"] = lambda mixed=mixed, steps=steps: lightning(mixed, steps)
        measured = take_turns(alternatives, turns)
        report(f"training steps, {what}", "images/s", measured, next(iter(measured)))


if __name__ == "__main__":
    main()
