"""The shape of section 4's results in one picture, the paper's above ours: `python -m vgg figure`."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgg.core.catalogue import TRAINING_SCALES
from vgg.core.errors import require
from vgg.core.paper import error_rows
from vgg.evaluation.errors import SCALE_NAMES, mean_error, method_name
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import Origins, by_cell, current, row_cell
from vgg.report.paper_claims import FUSED, MULTI_CROP, Side, several, single

COLOURS = {"C": "#8a6fb0", "D": "#3b6ea5", "E": "#c2703d", "D + E": "#3f8a5c"}

INK = "#444444"

Errors = Callable[[Side], tuple[float, tuple[float, float]] | None]  # a cell's top-1 error and its 95 % interval, in %


def errors_of_paper() -> Errors:
    rows = {row_cell(row): row.top1 for row in error_rows() if row.top1 is not None}

    def error(side: Side) -> tuple[float, tuple[float, float]] | None:
        top1 = rows.get(side.cell)
        return None if top1 is None else (top1, (top1, top1))

    return error


def errors_of(lines: Sequence[Classification]) -> Errors:
    cells = by_cell(current(lines))

    def error(side: Side) -> tuple[float, tuple[float, float]] | None:
        return mean_error(list(cells[side.cell].values()), "top1") if side.cell in cells else None

    return error


def line(axes: Axes, errors: Errors, sides: Sequence[Side], colour: str, label: str = "", dashes: str = "-") -> None:
    """Errors side by side, with their intervals; what was not evaluated is left out."""
    points = [(x, *value) for x, side in enumerate(sides) if (value := errors(side)) is not None]
    if not points:
        return
    x, y, intervals = zip(*points, strict=True)
    below_above = [[error - low for error, (low, _) in zip(y, intervals, strict=True)]]
    below_above.append([high - error for error, (_, high) in zip(y, intervals, strict=True)])
    style = {"color": colour, "label": label or None, "markersize": 4, "linewidth": 1.2, "elinewidth": 0.8}
    axes.errorbar(x, y, below_above, fmt=f"o{dashes}", capsize=2, **style)


def depth(axes: Axes, errors: Errors) -> None:
    """Section 4.1: one test scale, S = Q = 256."""
    line(axes, errors, [single(f"{net}-256") for net in "ABCDE"], INK)
    axes.set_xticks(range(5), ["A\n11", "B\n13", "C\n16, 1×1", "D\n16", "E\n19"])


def scales(axes: Axes, errors: Errors) -> None:
    """Sections 4.1 and 4.2: training scales, at one test scale and at several."""
    for net in "CDE":
        cells = [f"{net}-{scale}" for scale in TRAINING_SCALES]
        line(axes, errors, [single(cell) for cell in cells], COLOURS[net], net)
        line(axes, errors, [several(cell) for cell in cells], COLOURS[net], dashes="--")
    axes.set_xticks(range(len(TRAINING_SCALES)), [SCALE_NAMES[scale] for scale in TRAINING_SCALES])


def views(axes: Axes, errors: Errors) -> None:
    """Sections 4.3 and 4.4: views, and two nets together."""
    ways = (("dense",), MULTI_CROP, FUSED)
    for nets in ("D", "E", "D + E"):
        runs = [f"{net}-jitter" for net in nets.split(" + ")]
        line(axes, errors, [several(*runs, views=way) for way in ways], COLOURS[nets], nets)
    axes.set_xticks(range(3), [method_name(way).replace(" & ", "\n& ") for way in ways])


PANELS = (
    (depth, "depth: S = Q = 256, dense"),
    (scales, "training scale S: one Q (solid), three (dashed)"),
    (views, "views, three Q: S in [256; 512]"),
)


def shape(origins: Origins, path: Path) -> None:
    """Write the figure (SVG): depth, scales and views, in the paper's row and in one of this data.

    Ours are means over seeds with their 95 % intervals over photos and seeds; each row has its own axis. Raises
    UserError where nothing was evaluated.
    """
    lines = origins.ours(Classification)
    require(bool(lines), f"no net was evaluated on {origins.data}: start with python evaluate.py")
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "vgg", "svg.fonttype": "none"}):
        figure = Figure((11, 5.6), layout="constrained")
        grid = figure.subplots(2, len(PANELS), sharey="row")
        rows = (("the paper, ImageNet", errors_of_paper()), (origins.data, errors_of(lines)))
        for row, (whose, errors) in zip(grid, rows, strict=True):
            for axes, (draw, title) in zip(row, PANELS, strict=True):
                draw(axes, errors)
                axes.set_title(title, fontsize=9)
                axes.grid(axis="y", alpha=0.3)
                axes.margins(x=0.12)
                axes.spines[["top", "right"]].set_visible(False)
                if axes.get_legend_handles_labels()[1]:
                    axes.legend(frameon=False, fontsize=8)
            row[0].set_ylabel(f"{whose}\ntop-1 error, %")
        figure.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")
