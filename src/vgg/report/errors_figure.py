"""Pictures of results: `python -m vgg figure` draws errors with their intervals beside the paper's."""

from pathlib import Path

import matplotlib
from matplotlib import pyplot

from vgg.core.errors import require
from vgg.core.paper import error_rows
from vgg.evaluation.errors import mean_error
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import Origins, matching
from vgg.report.tables import evaluation_name

matplotlib.use("svg")


def errors(origins: Origins, path: Path) -> None:
    """Top-1 errors of everything in Tables 3 to 6 that was evaluated on this data, ours and theirs.

    Of several seeds the mean, with its 95 % interval, and a small point for each.
    """
    data, lines = origins.data, origins.ours(Classification)
    measured = [(row, found) for row in error_rows() if row.top1 and (found := matching(row, lines))]
    require(bool(measured), f"no row of Tables 3 to 6 was evaluated on {data}: start with python evaluate.py")
    labels, seen = [], set()
    for row, found in reversed(measured):
        label = "{}, {}, Q = {}".format(*evaluation_name(row))
        if label not in seen:
            seen.add(label)
            labels.append((label, row, found))
    pyplot.rcParams.update({"font.size": 9, "svg.hashsalt": "vgg", "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(figsize=(8, 1.1 + 0.28 * len(labels)), layout="constrained")
    ours, theirs = f"{data}, ours", "ImageNet, the paper"
    for height, (_, row, found) in enumerate(labels):
        error, interval = mean_error(found, "top1")
        axes.plot(interval, [height, height], color="#3b6ea5", linewidth=3, alpha=0.35, solid_capstyle="round")
        axes.plot(error, height, "o", color="#3b6ea5", label=None if height else ours)
        if len(found) > 1:
            axes.plot([line.top1 for line in found], [height] * len(found), ".", color="#3b6ea5", markersize=4)
        axes.plot(row.top1, height, "D", color="#c2703d", fillstyle="none", label=None if height else theirs)
    axes.set_yticks(range(len(labels)), [label for label, *_ in labels])
    axes.set_xlabel("top-1 error, % (bar: 95 % interval over photos and seeds; small points: seeds)")
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    pyplot.close(figure)
