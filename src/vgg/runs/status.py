"""Every run there is, a line each: `python -m vgg runs`."""

import csv
import fcntl
import time
from pathlib import Path

from vgg.core.errors import require
from vgg.core.text import duration
from vgg.runs.run import Run

HEADER = ("run", "state", "top-1", "top-5", "from", "age")


def epoch_lines(run: Run) -> list[dict[str, float]]:
    """What the CSV logger kept of each epoch, over all resumptions; an epoch that was begun again counts once."""
    found: dict[float, dict[str, float]] = {}
    files = sorted(run.folder.glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    for path in files:
        with path.open() as file:
            for row in csv.DictReader(file):
                values = {key: float(value) for key, value in row.items() if value}
                if "epoch" in values:
                    found.setdefault(values["epoch"], {}).update(values)
    return [found[epoch] for epoch in sorted(found)]


def in_training(run: Run) -> bool:
    """Whether a process of this machine, or of another one that shares the disk, holds the run's lock."""
    lock = run.folder / ".lock"
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def state(run: Run, epochs: list[dict[str, float]]) -> str:
    """Finished, training (with the time left, at most, and where its plan stands), failed, stopped, or planned."""
    if run.finished:
        return "published" if run.published else "finished"
    cfg, done = run.config(), int(epochs[-1]["epoch"]) + 1 if epochs else 0
    if in_training(run):
        text, left = f"epoch {min(done + 1, cfg.epochs)} of {cfg.epochs}", None
        if epochs and epochs[-1].get("images_per_second"):
            last = epochs[-1]
            images = cfg.data.batch * (last["step"] + 1) / done
            left = (cfg.epochs - done) * images / last["images_per_second"]
            text += f", at most {duration(left)} left"
        return text + plan_left(run.record().get("plan"), left)
    if error := run.record().get("error"):
        return f"failed: {error.splitlines()[0]}"
    if any((run.folder / name).is_file() for name in ("last.ckpt", "previous.ckpt")):
        return f"stopped in epoch {min(done + 1, cfg.epochs)} of {cfg.epochs}"
    return "planned"


def plan_left(plan: dict[str, float] | None, left: float | None) -> str:
    """Where a run that needs `left` seconds more stands in its plan; nothing where it is alone."""
    if plan is None:
        return ""
    time = f", about {duration(left + plan['seconds_after'])} left" if left and "seconds_after" in plan else ""
    return f"; run {plan['number']} of {plan['runs']}{time}"


def row(run: Run) -> tuple[str, ...]:
    """The cells of one run's line."""
    record, epochs = run.record(), epoch_lines(run)
    validation = record.get("validation") or {}
    if not validation and (validated := [line for line in epochs if "val/top1_error" in line]):
        validation = {f"{top}_error": validated[-1][f"val/{top}_error"] for top in ("top1", "top5")}
    errors = [f"{validation[key]:.1f} %" if key in validation else "–" for key in ("top1_error", "top5_error")]
    newest = max(path.stat().st_mtime for path in run.folder.iterdir())
    age = duration(max(0.0, time.time() - newest))
    return run.name, state(run, epochs), *errors, record.get("parent") or "–", age


def rendered(runs: Path) -> str:
    """All runs in this folder; errors are of the last validation, a centre crop."""
    found = [Run.of(path.parent) for path in sorted(runs.glob("*/*/config.yaml"))]
    require(bool(found), f"there is no run in {runs}: start with python train.py")
    rows = [HEADER, *map(row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place in (2, 3, 5) else cell.ljust(width) for place, (cell, width) in pairs)
        for pairs in (enumerate(zip(cells, widths, strict=True)) for cells in rows)
    )
