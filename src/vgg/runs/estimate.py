"""What a plan may need, before it is begun: time, from a speed and the nets' multiply-adds, and disk for posteriors."""

from pathlib import Path
from statistics import mean

import torch

from vgg.core.catalogue import OF_TABLE_1
from vgg.core.config import EvaluateConfig, TrainConfig
from vgg.data import digits
from vgg.data.datasets import listing
from vgg.nets.factory import make
from vgg.runs.plan import Step
from vgg.runs.run import Run

KNOWN = {
    "digits": digits.SCENES,
    "imagenette": {"train": 9_469, "val": 3_925},
    "imagenet": {"train": 1_281_167, "val": 50_000},
}

VALIDATION = 1 / 3  # of a training image's work, which is its forward and backward passes: two and four operations

# Where no speed was measured: counted operations, and these assumptions.
OPERATIONS = 6  # of training, for each multiply-add: two forward, four backward

H100 = 989e12  # operations a second in bf16, without sparsity, by the data sheet of the H100 SXM

SUSTAINED = 0.3  # of them

EIGHT = 7.2  # times as fast as one


def multiply_adds(cfg: TrainConfig, net: str | None = None) -> int:
    """Of one training crop through this configuration's net, or another at its scale and width."""
    with torch.device("meta"):
        return make(net or cfg.model.name, cfg.data.classes or 1000, cfg.data.scale, cfg.data.width).multiply_adds()


def images(cfg: TrainConfig | EvaluateConfig, split: str) -> int:
    """How many: known for the data that everybody has, otherwise counted."""
    if cfg.data.form in KNOWN:
        return KNOWN[cfg.data.form][split]
    return len(listing(cfg.data, Path(cfg.dirs.cache), split))


def setting(cfg: TrainConfig) -> tuple[int | float | str, ...]:
    """What a measured speed holds for, the net apart."""
    return cfg.data.scale, cfg.data.width, cfg.trainer.precision, cfg.trainer.devices, cfg.trainer.num_nodes


def measured_speeds(cfg: TrainConfig) -> dict[int, float]:
    """multiply-adds -> images/s of the finished runs on this data at this scale, width and precision."""
    found: dict[int, list[float]] = {}
    for path in Path(cfg.dirs.runs, cfg.data.name).glob("*/weights.pt"):
        run = Run.of(path.parent)
        own, speed = run.config(), run.record().get("images_per_second")
        if speed and setting(own) == setting(cfg):
            found.setdefault(multiply_adds(own), []).append(speed)
    return {cost: mean(speeds) for cost, speeds in found.items()}


def estimated_seconds(steps: list[Step], cfg: TrainConfig) -> dict[str, float] | None:
    """Run name -> seconds for each unfinished run with its validations, at most: no early end. None where no speed is
    known.

    A net that was not measured is taken to need time in proportion to its multiply-adds.
    """
    speeds = measured_speeds(cfg)
    if cfg.plan.images_per_second is not None:
        net = "D" if cfg.model.name in OF_TABLE_1 else cfg.model.name
        speeds = {multiply_adds(cfg, net): cfg.plan.images_per_second}
    if not speeds:
        return None
    count, seconds = images(cfg, "train") + VALIDATION * images(cfg, "val"), {}
    for step in steps:
        if not step.run.finished:
            cost = multiply_adds(step.cfg)
            nearest = min(speeds, key=lambda known: abs(known - cost))
            seconds[step.run.name] = step.cfg.epochs * count / (speeds[nearest] * nearest / cost)
    return seconds


def h100_seconds(step: Step) -> float:
    """Of one run on one H100 with precision bf16-mixed, at most, by the assumptions above."""
    operations = OPERATIONS * multiply_adds(step.cfg) * step.cfg.epochs * images(step.cfg, "train")
    return operations / (SUSTAINED * H100)


def posterior_bytes(cfg: EvaluateConfig) -> int:
    """Of one array of posteriors: a float for each validation image and class."""
    classes = cfg.data.classes or len(listing(cfg.data, Path(cfg.dirs.cache), "val").classes)
    return 4 * images(cfg, "val") * classes
