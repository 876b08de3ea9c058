"""What the report's charts and their tables show: from metrics, evaluations and posteriors to numbers for the plots."""

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vgg.core.catalogue import DRAWS, MODELS, OF_TABLE_1
from vgg.core.paper import error_rows, rows_of
from vgg.evaluation.errors import mean_error, method_name
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import current, matching
from vgg.report import charts, image_analysis
from vgg.report.comparison_nets import alone
from vgg.report.open_questions import cells
from vgg.report.parts import Lacking
from vgg.runs.cells import CELL
from vgg.runs.run import Run
from vgg.runs.status import epoch_lines

METHODS = ("dense", "multi-crop", "multi-crop & dense")

DRAWN = re.compile(rf"-({'|'.join(DRAWS)})")  # in a cell's name

BOTH = "python evaluate.py -m eval=table4,multicrop,fused"


def short(name: str) -> str:
    """A run's name without its data."""
    return name.partition("/")[2]


def order(name: str) -> tuple[int, int, str]:
    """Runs stand in the order of Table 1, then of training scales; those that follow no cell's pattern come last."""
    cell = CELL.match(short(name))
    if cell is None:
        return len(MODELS), 0, name
    return MODELS.index(cell["model"]), list(charts.SCALE_COLOURS).index(cell["scale"]), name


def curve(run: Run) -> charts.Curve:
    """The columns of a run's metrics over its epochs; of a resumed run as one."""
    columns: charts.Curve = {}
    for line in epoch_lines(run):
        for name, value in line.items():
            epochs, values = columns.setdefault(name, ([], []))
            epochs.append(int(line["epoch"]) + 1)
            values.append(value)
    return columns


def learning_curves(runs: list[Run]) -> list[dict[str, Any]]:
    """Of every run that has finished an epoch: the chart, and what stands beside it."""
    curves = []
    for run in runs:
        columns = curve(run)
        if not columns:
            continue
        about = [] if run.finished else ["not finished"]
        if "val/top1_error" in columns:
            about.insert(0, f"top-1 error {columns['val/top1_error'][1][-1]:.1f} %")
        curves.append(
            {
                "name": short(run.name),
                "about": ", ".join(about),
                "parent": (run.record().get("parent") or "").removeprefix(f"{run.folder.parent.name}/"),
                "chart": charts.learning_curve(f"curve-{run.name}", f"learning curves of {run.name}", columns),
            }
        )
    if not curves:
        raise Lacking("This needs a run that has finished an epoch here.", "python train.py")
    return curves


def depth_chart(lines: list[Classification] | None) -> Markup:
    """Table 3 over depth: from our evaluations, or where those are None the paper's."""
    nets_of = [(row.net, row.weight_layers) for row in rows_of("Table 1")]
    points = defaultdict(list)
    for row in rows_of("Table 3"):
        cell = CELL.fullmatch(row.runs[0])
        if lines is None:
            points[cell["scale"]].append((cell["model"], row.top1, None))
        elif ours := matching(row, lines):
            points[cell["scale"]].append((cell["model"], *mean_error(ours, "top1")))
    if not points:
        raise Lacking("This needs evaluations of Table 3.", "python evaluate.py ablation=table3")
    whose = "paper" if lines is None else "ours"
    return charts.depth(f"depth-{whose}", f"top-1 error over depth, a line a training scale ({whose})", points, nets_of)


def operations_chart(lines: list[Classification]) -> tuple[str, Markup]:
    """Error over multiply-adds of the nets that were trained and evaluated alike, in the way that most of them were.

    Whatever random weights they began with: of a net's own draws, the best.
    """
    by_net: dict[str, dict[tuple[str, ...], list[Classification]]] = defaultdict(dict)
    for net, of_net in alone(lines).items():
        for (trained, *settings), evaluations in sorted(
            of_net.items(), key=lambda item: -mean_error(item[1], "top1")[0]
        ):
            by_net[net][(DRAWN.sub("", trained), *settings)] = evaluations
    ways = Counter(settings for of_net in by_net.values() for settings in of_net)
    if max(ways.values(), default=0) < 2:
        command = "python train.py -m model=D,resnet18 train_scale=S256"
        raise Lacking("This needs two nets with the same training scale, evaluated alike.", command)
    scale, method, q = settings = max(ways, key=lambda settings: (ways[settings], settings))
    points = []
    for net, of_net in by_net.items():
        if settings in of_net:
            points.append(
                (net, net in OF_TABLE_1, of_net[settings][0].multiply_adds[0], *mean_error(of_net[settings], "top1"))
            )
    chart = charts.operations("operations", "top-1 error over multiply-adds, a point a net", points)
    return f"{charts.SCALE_NAMES.get(scale, scale)}, {method}, Q = {q}", chart


def q_charts(lines: list[Classification], runs: Path, cache: Path) -> list[tuple[str, Markup]]:
    """The error over Q of every run with two test scales or more, a chart a net."""
    by_run = image_analysis.over_q(lines, runs, cache)
    curves = defaultdict(list)
    for (run, view), errors in sorted(by_run.items(), key=lambda item: (order(item[0][0]), item[0][1])):
        if view in ("dense", "multicrop") and len(errors) > 1:
            cell = CELL.match(short(run))
            model, scale = (cell["model"], cell["scale"]) if cell else (short(run), "")
            variant = short(run) != f"{model}-{scale}"
            curves[model].append((scale, variant, view, sorted(errors), [errors[q] for q in sorted(errors)]))
    if not curves:
        command = "python evaluate.py -m eval=table3 'test_scale.q=[224],[256],[320],[384],[448],[512]'"
        raise Lacking("This needs a net at two test scales or more.", command)
    drawn = [curves_of_net for of_model in curves.values() for curves_of_net in of_model]
    scales = [q for *_, scales, _ in drawn for q in scales]
    reach = min(scales), max(scales), max(error for *_, errors in drawn for error in errors)
    return [
        (model, charts.over_q(f"q-{model}", f"top-1 error of {model} over the test scale Q", curves_of_net, reach))
        for model, curves_of_net in curves.items()
    ]


def by_method(lines: list[Classification]) -> list[dict[str, Classification]]:
    """Evaluations of the same nets, to the last bit, at the same scales, by method, where there are several."""
    groups: dict[tuple, dict[str, Classification]] = defaultdict(dict)
    for line in sorted(current(lines), key=lambda line: (len(line.runs), order(line.runs[0]))):
        if (method := method_name(line.views)) in METHODS:
            groups[line.nets, line.weights_sha256, line.images_sha256, line.precision][method] = line
    return [group for group in groups.values() if len(group) > 1]


def title(line: Classification) -> str:
    """The nets and test scales of an evaluation."""
    names, _, q, *_ = cells(line, "")
    return f"{names}, Q = {q}" if q[0].isdigit() else f"{names}, {q} Q"


def method_chart(groups: list[dict[str, Classification]]) -> Markup:
    """Bars of every net that was evaluated by several methods, the paper's errors beside."""
    if not groups:
        raise Lacking("This needs a net evaluated dense and multi-crop.", BOTH)
    rows = [row for row in error_rows() if row.top1]
    drawn = []
    for group in groups:
        bars = []
        for method in filter(group.__contains__, METHODS):
            line = group[method]
            paper = [row.top1 for row in rows if matching(row, [line])]  # the same where several tables have it
            bars.append((method, line.top1, line.top1_interval, paper[-1] if paper else None))
        drawn.append((title(line), bars))
    return charts.methods("methods", "top-1 error, dense, multi-crop and both", drawn)


def agreements(groups: list[dict[str, Classification]]) -> list[tuple[str, dict[str, int]]]:
    """Dense against multi-crop, by nets: of the images, how many each has right that the other has not."""
    rows = []
    for group in groups:
        pair = [group[method] for method in METHODS[:2] if method in group]
        if len(pair) < 2 or any(line.skipped for line in pair):
            continue
        dense, multicrop = (line.correct() for line in pair)
        counts = {
            "both right": dense & multicrop,
            "only dense": dense & ~multicrop,
            "only multi-crop": ~dense & multicrop,
            "both wrong": ~dense & ~multicrop,
        }
        rows.append((title(group["dense"]), {name: int(bits.sum()) for name, bits in counts.items()}))
    if not rows:
        raise Lacking("This needs a net evaluated dense and multi-crop.", BOTH)
    return rows


def agreement_chart(groups: list[dict[str, Classification]], runs: Path, cache: Path) -> tuple[str, Markup]:
    """The true class's probability, dense against multi-crop, of the nets with the lowest error that are at hand."""
    pairs = [[group[method] for method in METHODS[:2] if method in group] for group in groups]
    here = [pair for pair in pairs if len(pair) == 2 and all(image_analysis.at_hand(line, cache) for line in pair)]
    if not here:
        raise Lacking(f"This needs a net's dense and multi-crop posteriors in {cache / 'posteriors'}.", BOTH)
    pair = min(here, key=lambda pair: min(line.top1 for line in pair))
    dense, multicrop = (image_analysis.scored(line, runs, cache) for line in pair)
    common = np.intersect1d(dense.indices, multicrop.indices)
    (own_d, right_d), (own_m, right_m) = (
        (scored.true_probability[places], (scored.best == scored.labels)[places])
        for scored in (dense, multicrop)
        for places in [np.searchsorted(scored.indices, common)]
    )
    label = "probability of the true class of each image, dense against multi-crop"
    return title(pair[0]), charts.agreement("agreement", label, own_d, own_m, (right_d, right_m))
