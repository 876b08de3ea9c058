"""Two runs side by side: `python -m vgg compare RUN RUN`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from vgg.core.errors import require
from vgg.core.text import spoken
from vgg.evaluation.errors import method_name
from vgg.evaluation.records import Classification, read
from vgg.evaluation.sampling import groups_in, mcnemar, photo_variance
from vgg.evaluation.selection import current
from vgg.report.image_analysis import evaluated_images
from vgg.report.parts import Lacking
from vgg.runs.identity import differences
from vgg.runs.run import Run
from vgg.runs.status import epoch_lines

NAMED = 10  # images that only one run has right, at most, named for each


def configurations(one: Run, other: Run) -> list[str]:
    """A line for each key of the runs' identities that differs."""
    keys = [line.replace(", now ", "  →  ") for line in differences(one.config(), other.config())]
    return [f"  {key}" for key in keys] or ["  nothing that decides the weights"]


def evaluations(one: Run, other: Run) -> list[tuple[Classification, Classification]]:
    """Pairs of single-net evaluations that differ in the run alone, made on the same images at the same precision."""

    def settings(line: Classification) -> tuple[object, ...]:
        return line.views, line.q, line.softmax, line.ceil_mode, line.mirror, line.precision, line.images_sha256

    def of(run: Run) -> dict[tuple[object, ...], Classification]:
        lines = read(run.folder.parent / f"{Classification.kind}.jsonl", Classification)
        return {settings(line): line for line in current(lines) if line.runs == (run.name,)}

    first, second = of(one), of(other)
    return [(first[key], second[key]) for key in first if key in second]


def paired(first: Classification, second: Classification) -> str:
    """The difference of two errors in points, its 95 % interval over photos, and McNemar's p."""
    difference, variance = second.top1 - first.top1, photo_variance([second], [first])
    if variance is None:
        return f"{difference:+.2f} points; some images were left out, so there is no interval"
    reach = stdtrit(max(len(np.unique(groups_in(first))) - 1, 1), 0.975) * variance**0.5
    interval = f"{difference - reach:+.2f} to {difference + reach:+.2f}"
    return f"{difference:+.2f} points (95 % {interval} over photos), McNemar p = {mcnemar(second, first):.3g}"


def only_right(first: Classification, second: Classification, runs: Path, cache: Path) -> list[str]:
    """How many images only one of two evaluations has right, and the first of them by name where they are here."""
    right = first.correct(), second.correct()
    if len(right[0]) != len(right[1]):
        return []
    try:
        names: Sequence[str] | None = evaluated_images(first, runs, cache).files
    except Lacking:
        names = None
    lines = []
    for line, mine, others in ((first, *right), (second, *right[::-1])):
        indices = np.flatnonzero(mine & ~others)
        named = names is not None and not line.skipped
        first_names = f": {', '.join(names[index] for index in indices[:NAMED])}" if named and len(indices) else ""
        lines.append(
            f"    only {line.runs[0]} is right: {len(indices):,}{first_names}{' …' if len(indices) > NAMED else ''}"
        )
    return lines


def curves(one: Run, other: Run) -> list[str]:
    """The validation errors of both after each epoch, a centre crop."""
    columns = [
        {int(line["epoch"]) + 1: line["val/top1_error"] for line in epoch_lines(run) if "val/top1_error" in line}
        for run in (one, other)
    ]
    epochs = sorted(set().union(*columns))
    cells = [[f"{column[epoch]:.2f}" if epoch in column else "–" for epoch in epochs] for column in columns]
    width = max((len(cell) for row in cells for cell in row), default=1)
    left = max(len(one.name), len(other.name))
    rows = [("epoch", [str(epoch) for epoch in epochs]), (one.name, cells[0]), (other.name, cells[1])]
    return ["  " + "  ".join([name.ljust(left), *(cell.rjust(width) for cell in row)]) for name, row in rows]


def rendered(names: tuple[str, str], runs: Path, cache: Path) -> str:
    """What differs between two runs: configuration, errors on the same images, curves. UserError for no run."""
    one, other = (Run.named(name, runs) for name in names)
    for run in (one, other):
        require((run.folder / "config.yaml").is_file(), f"there is no run {run.name} in {runs}: python -m vgg runs")
    parts = [f"{one.name}  →  {other.name}", *configurations(one, other), "", "top-1 error on the same images"]
    pairs = evaluations(one, other)
    for first, second in pairs:
        q = ", ".join(map(str, first.q[0]))
        parts.append(
            f"  {method_name(first.views)}, Q = {q}: {first.top1:.2f} → {second.top1:.2f} %, {paired(first, second)}"
        )
        parts += only_right(first, second, runs, cache)
    if not pairs:
        parts.append("  none yet: python evaluate.py of both, with the same eval=")
    return "\n".join([*parts, "", f"{spoken('top1_error')} of each epoch's validation, %", *curves(one, other)])
