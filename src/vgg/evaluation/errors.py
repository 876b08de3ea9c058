"""Errors as cells of a table: ours with their interval, the paper's, the difference, and a user's own."""

from collections.abc import Sequence
from statistics import mean, stdev

from vgg.core.paper import BoxRow, ErrorRow
from vgg.evaluation.records import Classification, Evaluation, Localisation
from vgg.evaluation.sampling import mean_interval

VIEW_NAMES = {"dense": "dense", "multicrop": "multi-crop", "center": "centre crop", "tencrop": "ten crops"}

VIEW_NAMES |= {"fc7": "fc7", "random": "fc7 of random weights", "pixels": "pixels"}

ERRORS = ("top-1", "95 %", "paper", "diff.", "top-5", "95 %", "paper", "diff.", "seeds")

YOURS = ("yours, top-1", "yours, top-5")

SCALE_NAMES = {"256": "256", "384": "384", "jitter": "[256;512]"}

Lines = Sequence[Classification] | Sequence[Localisation]


def method_name(views: Sequence[str]) -> str:
    """As the paper writes it: dense, multi-crop, multi-crop & dense."""
    return " & ".join(VIEW_NAMES[view] for view in sorted(views, reverse=True))


def without_mirror_images(line: Evaluation) -> str:
    """What is said after an evaluation's method where it averages no mirror images in; nothing where it does."""
    return "" if all(line.mirror) else " without mirror images"


def mean_error(lines: Lines, key: str) -> tuple[float, tuple[float, float]]:
    """The mean over seeds of an error ("top1", "top5" or "error"), and its 95 % interval."""
    return mean(getattr(line, key) for line in lines), mean_interval(lines, key)


def with_spread(lines: Lines, key: str) -> str:
    """The mean over seeds and their standard deviation; a dash where there is none."""
    if not lines or getattr(lines[0], key) is None:
        return "–"
    values = [getattr(line, key) for line in lines]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def errors(row: ErrorRow | BoxRow, ours: Lines, key: str) -> list[str]:
    """Our error and its interval, the paper's, and the difference in points; a dash where there is none."""
    of_paper = getattr(row, key)
    paper = f"{of_paper:.1f}" if of_paper is not None else "–"
    if key == "top1" and row.top1_above is not None:
        paper = f"{row.top1_above.runs[0].split('-')[0]} + {row.top1_above.points:.1f}"
    if not ours or getattr(ours[0], key) is None:
        return ["–", "–", paper, "–"]
    error, (low, high) = mean_error(ours, key)
    difference = f"{error - of_paper:+.1f}" if of_paper is not None else "–"
    return [with_spread(ours, key), f"{low:.1f}–{high:.1f}", paper, difference]


def both_errors(row: ErrorRow, ours: Sequence[Classification], yours: Sequence[Classification] | None) -> list[str]:
    """The cells of ERRORS, and where there are any of YOURS."""
    cells = [*errors(row, ours, "top1"), *errors(row, ours, "top5"), str(len(ours)) if ours else "–"]
    return cells if yours is None else [*cells, with_spread(yours, "top1"), with_spread(yours, "top5")]
