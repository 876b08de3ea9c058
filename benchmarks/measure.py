"""How the benchmarks measure: alternatives take turns, and each turn gives one ratio; a busy machine slows them all.

The configuration that the benchmarks of the net take, and what is said of the machine, stand here too.
"""

import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from hydra import compose, initialize_config_dir

from vgg.core.compose import typed
from vgg.core.config import TrainConfig
from vgg.core.paths import REPOSITORY


@dataclass(frozen=True)
class Measured:
    """One alternative's speeds, a turn each."""

    speeds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.speeds)


def take_turns(alternatives: dict[str, Callable[[], float]], turns: int) -> dict[str, Measured]:
    """Each alternative, called, gives a speed; the first turn warms up and is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(turns + 1):
        for name, measure in alternatives.items():
            speed = measure()
            if turn:
                speeds[name].append(speed)
    return {name: Measured(values) for name, values in speeds.items()}


def report(what: str, unit: str, measured: dict[str, Measured], reference: str) -> None:
    """A line for each alternative: its median speed, and the median and the range of its ratio to the reference."""
    print(f"\n{what}, {unit}")
    for name, one in measured.items():
        ratios = sorted(a / b for a, b in zip(one.speeds, measured[reference].speeds, strict=True))
        ratio = f"{statistics.median(ratios):6.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"  {name:<58} {one.median:9.1f}   {'the reference' if name == reference else ratio}")


def configured(*overrides: str) -> TrainConfig:
    """As the command line would give it."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return typed(compose("train", overrides=list(overrides)), TrainConfig)


def machine() -> str:
    """What the figures depend on."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores; torch {torch.__version__}"
