"""Training through train.py against a bare PyTorch loop on random tensors: what is lost between the disk and the net.

python benchmarks/training.py --imagenette FOLDER --folder PHOTOS    each with train/ and val/; without them the digits

Of train.py: an epoch's images over the seconds from its first step to its validation, the median from the second epoch
on. Of the loop: the same net, batch, precision and threads, for as many steps. The two take turns.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from measure import configured, machine, report, take_turns
from step import bare

from vgg.core.paths import REPOSITORY

EPOCHS = 3
STEPS = 100  # of the loop in a turn, after WARM_UP
WARM_UP = 5


def through_train(overrides: tuple[str, ...]) -> float:
    """Images/s of a run of its own, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, REPOSITORY / "train.py", *overrides, f"dirs.runs={folder}", "logger=csv"]
        subprocess.run(command, check=True, capture_output=True)
        (curves,) = Path(folder).glob("*/*/csv/version_0/metrics.csv")
        with curves.open() as file:
            speeds = [float(row["images_per_second"]) for row in csv.DictReader(file) if row["images_per_second"]]
    return statistics.median(speeds[1:])


def loop(overrides: tuple[str, ...]) -> float:
    """Images/s of the bare loop."""
    cfg = configured(*overrides)
    steps = bare(cfg)
    list(islice(steps, WARM_UP))
    started = time.perf_counter()
    list(islice(steps, STEPS))
    return STEPS * cfg.data.batch / (time.perf_counter() - started)


def cases(given: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "digits, net A", ("data=digits", "model=A")
    yield "digits, net D", ("data=digits", "model=D")
    if given.imagenette:
        yield "Imagenette, net D", ("data=imagenette", f"data.root={given.imagenette}", "model=D")
    if given.folder:
        yield "data=folder, net A", ("data=folder", f"data.root={given.folder}", "data.name=photos", "model=A")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imagenette", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    for what, words in cases(given):
        alone = ("train_scale=S256", "init.from_a=false", "trainer=cpu", f"data.epochs={EPOCHS}")
        both = {"a bare loop": partial(loop, (*words, *alone)), "train.py": partial(through_train, (*words, *alone))}
        report(what, "images/s", take_turns(both, given.turns), "a bare loop")


if __name__ == "__main__":
    main()
