"""How long the trainings of a plan may take, from a speed that was measured or given and the nets' multiply-adds."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

from vgg import digits, weights
from vgg.config import TrainConfig
from vgg.images import listing
from vgg.plan import Step
from vgg.runs import Run

TRAINING_IMAGES = {"digits": digits.SCENES["train"], "imagenette": 9_469, "imagenet": 1_281_167}


def multiply_adds(cfg: TrainConfig) -> int:
    """Of one training crop through this configuration's net."""
    with torch.device("meta"):
        return weights.build(cfg, cfg.data.classes or 1000).multiply_adds()


def training_images(cfg: TrainConfig) -> int:
    """Known for the data that everybody has, otherwise counted."""
    if cfg.data.form in TRAINING_IMAGES:
        return TRAINING_IMAGES[cfg.data.form]
    return len(listing(cfg.data, Path(cfg.dirs.cache), "train"))


def setting(cfg: TrainConfig) -> tuple[int, float, str]:
    """What a measured speed holds for, the net apart."""
    return cfg.data.crop, cfg.data.width, cfg.trainer.precision


def measured_speeds(cfg: TrainConfig) -> dict[int, float]:
    """multiply-adds -> images/s of the finished runs on this data with this crop, width and precision."""
    found: dict[int, list[float]] = {}
    for path in Path(cfg.dirs.runs, cfg.data.name).glob("*/weights.pt"):
        run = Run.of(path.parent)
        own, speed = run.config(), run.record().get("images_per_second")
        if speed and setting(own) == setting(cfg):
            found.setdefault(multiply_adds(own), []).append(speed)
    return {cost: mean(speeds) for cost, speeds in found.items()}


def estimated_seconds(steps: list[Step], cfg: TrainConfig) -> dict[str, float] | None:
    """Run name -> seconds of training for each unfinished run, at most: no early end. None where no speed is known.

    A net that was not measured is taken to need time in proportion to its multiply-adds.
    """
    speeds = measured_speeds(cfg)
    if cfg.plan.images_per_second is not None:
        speeds = {multiply_adds(replace(cfg, model=replace(cfg.model, name="D"))): cfg.plan.images_per_second}
    if not speeds:
        return None
    images, seconds = training_images(cfg), {}
    for step in steps:
        if not step.run.finished:
            cost = multiply_adds(step.cfg)
            nearest = min(speeds, key=lambda known: abs(known - cost))
            seconds[step.run.name] = step.cfg.epochs * images / (speeds[nearest] * nearest / cost)
    return seconds


def duration(seconds: float) -> str:
    """As a person says it: 40 s, 12 min, 5.3 h, 17.2 days."""
    for size, unit in ((86_400, "days"), (3_600, "h")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
