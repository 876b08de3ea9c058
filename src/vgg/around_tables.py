"""The networks around it, each by its best evaluation alone, beside the published errors (section 4.5 and after)."""

from collections import defaultdict
from functools import cache
from typing import Any

from vgg.lines import ERRORS, errors, mean_error, method_name, paper_lines
from vgg.plan import CELL
from vgg.runs import without_seed

Line = dict[str, Any]  # an evaluation, as results.jsonl has it
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


@cache
def size(net: str, classes: int, scale: float, width: float) -> tuple[int, int]:
    """A net's parameters, and the multiply-adds of one training crop."""
    import torch  # which takes seconds

    from vgg.around import make

    with torch.device("meta"):
        made = make(net, classes, scale, width)
    return sum(parameter.numel() for parameter in made.parameters()), made.multiply_adds()


def sizes(line: Line) -> tuple[int, int]:
    """Of the first net of an evaluation: parameters, and multiply-adds of a training crop."""
    return size(CELL.match(line["cells"][0])["model"], line["classes"], line["scale"][0], line["width"][0])


def alone(lines: list[Line]) -> dict[str, dict[tuple[str, ...], list[Line]]]:
    """Net -> (training scale and variant, views, test scales) -> evaluations of it alone, the last for each seed.

    With the paper's settings only: the soft-max last, pools that round down. "published" stands in the place of the
    training scale of weights that were not trained here.
    """
    found: dict[str, dict[tuple[str, ...], dict[int, Line]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        cell = without_seed(line["cells"][0])
        if len(line["runs"]) == 1 and line["softmax"] == "last" and not line["ceil_mode"][0] and CELL.match(cell):
            net = CELL.match(cell)["model"]
            trained = "published" if any(line["source_sha256"]) else cell.removeprefix(f"{net}-")
            how = trained, method_name(line["views"]), ", ".join(map(str, sorted(line["q"][0])))
            found[net][how][line["seed"][0]] = line
    return {net: {how: list(own.values()) for how, own in each.items()} for net, each in found.items()}


def best(evaluations: dict[tuple[str, ...], list[Line]]) -> tuple[tuple[str, ...], list[Line]]:
    """How a net alone has the lowest top-1 error in the mean over seeds, and those evaluations; nothing of nothing."""
    return min(evaluations.items(), key=lambda item: mean_error(item[1], "top1")[0], default=((), []))


def published_errors(net: str) -> dict[str, Any]:
    """The lowest errors in the paper of one net alone: of Table 7, or of a net of Table 1 in Tables 3 to 5."""
    rows = [
        row
        for row in paper_lines()
        if (row["place"] == "Table 7" and row["method"] == METHODS.get(net) and row["nets"] == 1)
        or ("top1" in row and len(row.get("runs", [])) == 1 and row["runs"][0].rpartition("-")[0] == net)
    ]
    known = {key: [row[key] for row in rows if row[key] is not None] for key in ("top1", "top5")}
    return {key: min(errors, default=None) for key, errors in known.items()}


def table(lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of the nets of the paper's time and after, the best evaluation of each beside the published."""
    body, found = [], alone(lines)
    for net, year in YEARS.items():
        how, ours = best(found.get(net, {}))
        counts = [f"{count / 1e6:,.2f}" for count in sizes(ours[0])] if ours else ["–", "–"]
        name = [", ".join([*how[:2], f"Q = {how[2]}"])] if ours else ["–"]
        row = published_errors(net)
        cells = [net, str(year), *counts, *name, *errors(row, ours, "top1"), *errors(row, ours, "top5")]
        body.append([*cells, str(len(ours)) if ours else "–"])
    return ["net", "year", "million parameters", "million multiply-adds", "evaluation", *ERRORS], body


def commands(lines: list[Line]) -> str:
    """What made each row of `table`."""
    ours = {net: best(own)[1] for net, own in alone(lines).items() if net in YEARS}
    rows = [f"{net}: {ours[net][-1].get('command', '–')}" for net in YEARS if net in ours]
    return "\n".join(["Multiply-adds are those of a training crop. The rows' commands:", *(rows or ["–"])])
