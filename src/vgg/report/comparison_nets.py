"""The networks around it, each by its best evaluation alone, beside the published errors (section 4.5 and after)."""

from collections import defaultdict
from collections.abc import Sequence

from vgg.core.catalogue import FC6_WINDOWS
from vgg.core.paper import ErrorRow, paper_rows
from vgg.core.scales import SCALES
from vgg.evaluation.errors import ERRORS, YOURS, both_errors, mean_error, method_name
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import current, settled
from vgg.runs.cells import CELL, without_seed

TITLE = "The networks around it: the best evaluation of each net alone"

YEARS = {
    "lenet5": 1998,
    **dict.fromkeys(("alexnet", "alexnet-towers"), 2012),
    "zfnet": 2013,
    **dict.fromkeys(("A", "B", "C", "D", "E", "googlenet"), 2014),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), 2015),
    **dict.fromkeys(("wide_resnet50_2", "resnext50_32x4d", "densenet121"), 2016),
    **dict.fromkeys(("seresnet50", "senet154"), 2017),
}

METHODS = {  # of Table 7, by net
    **dict.fromkeys(("alexnet", "alexnet-towers"), "Krizhevsky et al."),
    "zfnet": "Zeiler & Fergus",
    "googlenet": "GoogLeNet",
}

Way = tuple[str, ...]  # training scale and variant, views, test scales


def alone(lines: Sequence[Classification]) -> dict[str, dict[Way, list[Classification]]]:
    """Net -> way of training and evaluation -> evaluations of it alone, the last for each seed.

    With the soft-max last and pools that round down; nets that something else was changed of stand under ways of their
    own. "published" stands in the place of the training scale of weights that were not trained here.
    """
    by_net: dict[str, dict[Way, dict[int, Classification]]] = defaultdict(lambda: defaultdict(dict))
    for line in settled(current(lines)):
        cell = without_seed(line.cells[0])
        if len(line.runs) == 1 and line.softmax == "last" and not line.ceil_mode[0] and CELL.match(cell):
            net = CELL.match(cell)["model"]
            trained = "published" if any(line.source_sha256) else cell.removeprefix(f"{net}-")
            way = trained, method_name(line.views), ", ".join(map(str, sorted(line.q[0])))
            by_net[net][way][line.seed[0]] = line
    return {net: {way: list(by_seed.values()) for way, by_seed in by_way.items()} for net, by_way in by_net.items()}


def best(evaluations: dict[Way, list[Classification]]) -> tuple[Way, list[Classification]]:
    """How a net alone has the lowest top-1 error in the mean over seeds, and those evaluations; nothing of nothing."""
    return min(evaluations.items(), key=lambda item: mean_error(item[1], "top1")[0], default=((), []))


def published_errors(net: str) -> ErrorRow:
    """The lowest errors in the paper of one net alone: of Table 7, or of a net of Table 1 in Tables 3 to 5."""
    rows = [
        row
        for row in paper_rows()
        if isinstance(row, ErrorRow)
        and (
            (row.place == "Table 7" and row.method == METHODS.get(net) and row.nets == 1)
            or (len(row.runs) == 1 and row.runs[0].rpartition("-")[0] == net)
        )
    ]
    lowest = {
        key: min((value for row in rows if (value := getattr(row, key)) is not None), default=None)
        for key in ("top1", "top5")
    }
    return ErrorRow(place="", **lowest)


def table(
    lines: Sequence[Classification], yours: Sequence[Classification] | None = None
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the nets of the paper's time and after, the best evaluation of each beside the published."""
    body, of_ours, of_yours = [], alone(lines), alone(yours or [])
    for net, year in YEARS.items():
        way, ours = best(of_ours.get(net, {}))
        counts = ["–", "–"]
        if ours:
            counts = [f"{count[0] / 1e6:,.2f}" for count in (ours[0].parameters, ours[0].multiply_adds)]
        name = ", ".join([*way[:2], f"Q = {way[2]}"]) if ours else "–"
        theirs = None if yours is None else best(of_yours.get(net, {}))[1]
        body.append([net, str(year), *counts, name, *both_errors(published_errors(net), ours, theirs)])
    header = ["net", "year", "million parameters", "million multiply-adds", "evaluation", *ERRORS]
    return header + list(YOURS if yours is not None else ()), body


def geometry(lines: Sequence[Classification]) -> str:
    """What a smaller scale changes in these nets, in a sentence; nothing of scale 1."""
    scales = sorted({scale for line in lines for scale in line.scale} - {1.0})
    return "".join(
        f"\nAt scale {scale:g}, fc6 of AlexNet takes {alexnet}x{alexnet} cells and of ZFNet {zfnet}x{zfnet} (at "
        "scale 1 6x6); the libraries' nets keep their strides, LeNet-5 its 32x32 input."
        for scale, alexnet, zfnet in zip(SCALES, *FC6_WINDOWS.values(), strict=True)
        if scale in scales
    )


def commands(lines: Sequence[Classification]) -> str:
    """What made each row of `table`, and what their scale changes in the nets."""
    ours = {net: best(by_way)[1] for net, by_way in alone(lines).items() if net in YEARS}
    rows = [f"{net}: {ours[net][-1].command}" for net in YEARS if net in ours]
    about = f"Multiply-adds are those of a training crop.{geometry(lines)}"
    return "\n".join([about, "The rows' commands:", *(rows or ["–"])])
