"""Charts as SVG inside an HTML page: its text is text in the page's font, its colours are the page's CSS variables."""

import io
import re
from collections.abc import Callable

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, MultipleLocator, NullLocator
from matplotlib.transforms import Bbox, blended_transform_factory

# Drawn in these, then replaced, so that a page shows light on dark as well. Pixels in a chart keep them.
INK, BLUE, ORANGE, GREEN, VIOLET = "#7a7f87", "#3b6ea5", "#c2703d", "#3f8f6b", "#8a62ad"

PAGE_COLOURS = {
    INK: "currentColor",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    VIOLET: "var(--violet)",
}

SCALE_COLOURS = {"256": BLUE, "384": ORANGE, "jitter": GREEN}

SCALE_NAMES = {"256": "S = 256", "384": "S = 384", "jitter": "S in [256; 512]"}

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.2,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "grid.color": INK,
}

NAME_PLACES = [  # of a point, in points
    (right, up)
    for far in (6, 14, 22, 30, 38, 46)
    for aside in (6, 24)
    for up in (far, -far)
    for right in (aside, -aside)
]

MANY = 3000  # points, from which on a scatter is pixels

Points = dict[str, list[tuple[str, float, tuple[float, float] | None]]]  # by training scale: net, error, 95 % interval

Curve = dict[str, tuple[list[int], list[float]]]  # of a column of metrics.csv: epochs from 1, values


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an <svg> element, one unit a CSS pixel; in a narrow place it shrinks by a quarter, then scrolls.

    `name` is part of every id, which are hashes: unique on the page. Group ids and matplotlib's own CSS are left out.
    """
    file = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None}, dpi=144)
    box, inner = re.search(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>(.*)', file.getvalue(), re.S).groups()
    inner = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", inner, flags=re.S)
    inner = re.sub(r'<g id="[^"]*"', "<g", inner).replace("xlink:href=", "href=")
    for sentinel, colour in PAGE_COLOURS.items():
        inner = inner.replace(sentinel, colour)
    width = float(box.split()[2])
    size = f"max-width:{width:g}px;min-width:{0.75 * width:g}px"
    return Markup(f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}" style="{size}">{inner}')


def drawn(draw: Callable[..., Figure]) -> Callable[..., Markup]:
    """A function that draws a figure, as one that takes `name` and `label` first and gives its SVG."""

    def call(name: str, label: str, *arguments: object) -> Markup:
        with rc_context(STYLE):
            return svg(draw(*arguments), name, label)

    return call


@drawn
def learning_curve(curve: Curve) -> Figure:
    """Section 3.1: errors in %, loss and learning rate over the epochs of one run."""
    figure = Figure((4.8, 4.1))
    grid = {"height_ratios": (3, 1.5, 0.9), "left": 0.17, "right": 0.98, "top": 0.94, "bottom": 0.13, "hspace": 0.38}
    error, loss, rate = figure.subplots(3, sharex=True, gridspec_kw=grid)
    for column, colour in (("train/top1_error", BLUE), ("val/top1_error", ORANGE), ("val/top5_error", GREEN)):
        error.plot(*curve.get(column, ([], [])), "o-", color=colour, markersize=3)
    loss.plot(*curve.get("train/loss", ([], [])), "o-", color=BLUE, markersize=3)
    epochs, rates = curve.get("lr", ([], []))
    rate.step(epochs, rates, color=VIOLET, where="mid")
    for axes, label in ((error, "error, %"), (loss, "loss"), (rate, "learning rate")):
        axes.set_title(label, loc="right", fontsize=11, pad=3)
    error.set_ylim(bottom=0)
    loss.yaxis.set_major_locator(MaxNLocator(3))
    if levels := sorted({float(f"{value:.3g}") for value in rates}):
        rate.set_yscale("log")
        rate.set_ylim(levels[0] / 3, levels[-1] * 3)
        ends = sorted({levels[0], levels[-1]})
        rate.set_yticks(ends, [f"{level:g}" for level in ends])
        rate.yaxis.set_minor_locator(NullLocator())
    rate.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    rate.set_xlabel("epoch")
    return figure


@drawn
def depth(points: Points, nets: list[tuple[str, int]]) -> Figure:
    """Table 3: top-1 error over the nets (name, weight layers) from shallow to deep, a line a training scale."""
    figure = Figure((5.6, 3.9), layout="constrained")
    axes = figure.subplots()
    places = {name: position for position, (name, _) in enumerate(nets)}
    for shift, (scale, colour) in zip((-0.07, 0, 0.07), SCALE_COLOURS.items(), strict=True):
        of_scale = sorted(points.get(scale, []), key=lambda point: places[point[0]])
        if not of_scale:
            continue
        x = [places[net] + shift for net, *_ in of_scale]
        line = [(at, error) for at, (net, error, _) in zip(x, of_scale, strict=True) if net != "A-LRN"]
        axes.plot([at for at, _ in line], [error for _, error in line], "-", color=colour)
        axes.plot(x, [error for _, error, _ in of_scale], "o", color=colour, label=SCALE_NAMES[scale])
        for at, (_, _, interval) in zip(x, of_scale, strict=True):
            if interval:
                axes.plot([at, at], interval, color=colour, linewidth=3, alpha=0.3, solid_capstyle="round")
    axes.set_xticks(range(len(nets)), [f"{name}\n{layers}" for name, layers in nets])
    axes.set_xlim(-0.5, len(nets) - 0.5)
    axes.set_xlabel("net, and its weight layers")
    axes.set_ylabel("top-1 error, %")
    axes.legend()
    return figure


@drawn
def operations(points: list[tuple[str, bool, int, float, tuple[float, float]]]) -> Figure:
    """Top-1 error over multiply-adds. Points: net, whether it is of Table 1, multiply-adds, error, 95 % interval."""
    figure = Figure((7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for _, of_table_1, count, error, interval in points:
        colour = BLUE if of_table_1 else ORANGE
        axes.plot([count / 1e6] * 2, interval, color=colour, linewidth=3, alpha=0.3, solid_capstyle="round")
        axes.plot(count / 1e6, error, "o", color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:g}")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.12)
    axes.set_xlabel("multiply-adds of a training crop, millions")
    axes.set_ylabel("top-1 error, %")
    name_points(axes, [(net, count / 1e6, error) for net, _, count, error, _ in points])
    return figure


def name_points(axes: Axes, points: list[tuple[str, float, float]]) -> None:
    """Write each point's name beside it, where it covers neither a point nor another name, if there is such a place.

    A line leads from the name to its point: between them there may be others.
    """
    axes.figure.draw_without_rendering()  # so that places are known
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": INK, "shrinkA": 0, "shrinkB": 2}
    inside = axes.get_window_extent()
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in axes.transData.transform([at for _, *at in points])]
    for name, *at in sorted(points, key=lambda point: point[1]):
        for right, up in NAME_PLACES:
            style = {"ha": "left" if right > 0 else "right", "va": "center", "fontsize": 11, "arrowprops": line}
            text = axes.annotate(name, at, (right, up), textcoords="offset points", **style)
            text.get_window_extent()  # finds its place
            box = Text.get_window_extent(text)  # without its line
            if not box.count_overlaps(taken) and inside.x0 < box.x0 and box.x1 < inside.x1 and box.y1 < inside.y1:
                break
            text.remove()
        else:
            axes.add_artist(text)
        taken.append(box)


@drawn
def over_q(curves: list[tuple[str, bool, str, list[int], list[float]]], reach: tuple[int, int, float]) -> Figure:
    """Section 4.2: one net's top-1 error over Q; `reach`: lowest and highest Q and highest error of all nets.

    Curves: training scale, whether the run is a variant of that cell, view, test scales, errors.
    """
    figure = Figure((4.2, 3.1), layout="constrained")
    axes = figure.subplots()
    for scale, variant, view, scales, errors in curves:
        dashes = "-" if view == "dense" else "--"
        style = {"linewidth": 0.7, "markersize": 2} if variant else {}
        axes.plot(scales, errors, f"o{dashes}", color=SCALE_COLOURS.get(scale, VIOLET), **style)
    lowest, highest, error = reach
    axes.set(xlim=(lowest - 16, highest + 16), ylim=(0, 1.05 * error))
    axes.xaxis.set_major_locator(MultipleLocator(64))
    axes.set_xlabel("Q")
    axes.set_ylabel("top-1 error, %")
    return figure


@drawn
def methods(groups: list[tuple[str, list[tuple[str, float, tuple[float, float], float | None]]]]) -> Figure:
    """Section 4.3: bars of top-1 error. Groups: nets, then (method, error, 95 % interval, the paper's error)."""
    colours = {"dense": BLUE, "multi-crop": ORANGE, "multi-crop & dense": GREEN}
    count = sum(len(bars) for _, bars in groups)
    figure = Figure((5.8, 0.8 + 0.28 * (count + 1.5 * len(groups))), layout="constrained")
    axes, height, ticks = figure.subplots(), 0.0, []
    at_the_left = blended_transform_factory(figure.transFigure, axes.transData)
    for name, bars in groups:
        axes.text(0.01, height, name, transform=at_the_left, fontweight="bold", va="center", in_layout=False)
        for method, error, interval, paper in bars:
            height += 1
            ticks.append((height, f"{method}  {error:.1f}"))
            axes.barh(height, error, height=0.72, color=colours[method])
            axes.plot(interval, [height, height], color=INK, linewidth=1)
            if paper is not None:
                axes.plot(paper, height, "D", color=INK, fillstyle="none")
        height += 1.5
    axes.set_yticks(*map(list, zip(*ticks, strict=True)))
    axes.set_ylim(height - 0.8, -0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("top-1 error, %")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure


@drawn
def agreement(dense: np.ndarray, multicrop: np.ndarray, right: tuple[np.ndarray, np.ndarray]) -> Figure:
    """Section 4.3: the true class's probability, a point an image. `right`: by dense, by multi-crop."""
    figure = Figure((5.6, 5.4), layout="constrained")
    axes = figure.subplots()
    for chosen, colour, label in (
        (right[0] & right[1], BLUE, "both right"),
        (right[0] & ~right[1], GREEN, "only dense"),
        (~right[0] & right[1], ORANGE, "only multi-crop"),
        (~right[0] & ~right[1], VIOLET, "both wrong"),
    ):
        style = {"markersize": 3, "alpha": 0.6, "markeredgewidth": 0, "rasterized": len(dense) > MANY}
        axes.plot(dense[chosen], multicrop[chosen], "o", color=colour, label=label, **style)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.6)
    axes.set_xlabel("probability of the true class, dense")
    axes.set_ylabel("multi-crop")
    axes.set_aspect("equal")
    figure.legend(loc="outside upper center", ncols=2, markerscale=2)
    return figure


def tree(parents: dict[str, str | None]) -> dict[str, tuple[int, float]]:
    """Where a forest's nodes stand: (column from its root, row); a parent beside the middle of its children."""
    children: dict[str | None, list[str]] = {}
    for node, parent in parents.items():
        children.setdefault(parent, []).append(node)
    places: dict[str, tuple[int, float]] = {}
    leaves = iter(range(len(parents)))

    def put(node: str, column: int) -> float:
        rows = [put(child, column + 1) for child in children.get(node, [])]
        places[node] = column, (rows[0] + rows[-1]) / 2 if rows else float(next(leaves))
        return places[node][1]

    for root in children.get(None, []):
        put(root, 0)
    return places


@drawn
def lineage(parents: dict[str, str | None], states: dict[str, str]) -> Figure:
    """Section 3.1's initialisations, from left to right; states: done, elsewhere, training, stopped, missing."""
    faces = {"done": GREEN, "elsewhere": BLUE, "training": ORANGE, "stopped": VIOLET, "missing": "none"}
    places = tree(parents)
    columns, rows = max(column for column, _ in places.values()) + 1, max(row for _, row in places.values()) + 1
    longest = max(map(len, parents))
    width, half = 0.5 + 0.1 * longest, 0.04 * longest + 0.1  # of a column and of half a box, in inches
    figure = Figure((width * columns + 0.1, 0.46 * rows + 0.1))
    axes: Axes = figure.add_axes((0, 0, 1, 1))
    for node, (column, row) in places.items():
        x, y = (column + 0.5) * width, 0.46 * (row + 0.5)
        state = states[node]
        if (parent := parents[node]) is not None:
            start, level = (places[parent][0] + 0.5) * width + half, 0.46 * (places[parent][1] + 0.5)
            middle = x - width / 2
            axes.plot([start, middle, middle, x - half], [level, level, y, y], color=INK, linewidth=0.8)
        box = FancyBboxPatch((x - half, y - 0.13), 2 * half, 0.26, boxstyle="round,pad=0,rounding_size=0.06")
        box.set(facecolor=(faces[state], 0.22), edgecolor=INK if state == "missing" else faces[state])
        box.set(linestyle=":" if state == "missing" else "-")
        axes.add_patch(box)
        axes.text(x, y, node, ha="center", va="center", alpha=0.65 if state == "missing" else 1)
    axes.set(xlim=(0, width * columns + 0.1), ylim=(0.46 * rows + 0.1, 0))
    axes.set_axis_off()
    return figure
