"""Appendix B's Tables 11 and 12, ours beside the paper's."""

import json
from typing import Any

from vgg.lines import VIEW_NAMES, paper_lines
from vgg.runs import without_seed

Line = dict[str, Any]  # of transfer.jsonl, or of the paper's
TITLES = {
    "Table 11": "Table 11: linear SVMs on descriptors (appendix B), %: mAP of VOC, mean class recall of Caltech",
    "Table 12": "Table 12: actions by linear SVMs on descriptors (appendix B), mAP, %",
}
COLUMNS = {
    "Table 11": {
        "voc07_map": "VOC-2007",
        "voc12_map": "VOC-2012",
        "caltech101_recall": "Caltech-101",
        "caltech256_recall": "Caltech-256",
    },
    "Table 12": {"voc12_actions_map": "VOC-2012"},
}
NETS = {("D-jitter",): "D", ("E-jitter",): "E", ("D-jitter", "E-jitter"): "D & E"}  # as the tables call them
SCALES = {"classes": ("stack", [256, 384, 512]), "objects": ("average", [256, 384, 512, 640, 768])}  # the paper's
KEY = ("features", "q", "combine", "labels", "person_boxes", "train", "test", "held_out", "split_seed", "ceil_mode")


def key(line: Line) -> str:
    """What was evaluated, and how: a later line with the same key takes an earlier one's place."""
    settings = [line.get(name) for name in (*KEY, "precision", "images_sha256")]
    return json.dumps([sorted(line["runs"]), len(line["c"]), settings])


def described(line: Line) -> str:
    """What an SVM is given: fc7, Q = 256, 384, 512 stacked."""
    several = {"stack": " stacked", "average": " averaged"}[line["combine"]] if len(line["q"]) > 1 else ""
    boxes = ", image and person box" if line.get("person_boxes") else ""
    return f"{VIEW_NAMES[line['features']]}, Q = {', '.join(map(str, line['q']))}{several}{boxes}"


def protocol(line: Line) -> str:
    """The nets' data and the SVMs', and how much of this trains: imagenette → caltech20, 30 a class."""
    source = " + ".join(dict.fromkeys(name.partition("/")[0] for name in line["runs"]))
    return f"{source} → {line['data']}, {line['train']}{' a class' if line['labels'] == 'classes' else ''}"


def place_of(line: Line) -> tuple[str, str | None, str | None]:
    """(table, the paper's row, its column) that a line stands beside; None where the paper has no such thing.

    Whatever the data, Caltech-101 is 30 training images a class and Caltech-256 60.
    """
    nets = NETS.get(tuple(sorted(without_seed(cell) for cell in line["cells"]))) if line["features"] == "fc7" else None
    if line["labels"] == "actions":
        box = "image and person box" if line["person_boxes"] else "image"
        return "Table 12", nets and f"{nets}, {box}", "voc12_actions_map"
    if (line["combine"], line["q"]) != SCALES[line["labels"]]:
        nets = None
    if line["labels"] == "objects":
        return "Table 11", nets, {2007: "voc07_map", 2012: "voc12_map"}.get(line["year"])
    return "Table 11", nets, {30: "caltech101_recall", 60: "caltech256_recall"}.get(line["train"])


def number(value: Any) -> str:
    """A number, one with its spread, or a dash."""
    if value is None:
        return "–"
    return f"{value[0]:.1f} ± {value[1]:.1f}" if isinstance(value, list) else f"{value:.1f}"


def papers(line: Line) -> str | None:
    """The paper's number for the same nets, descriptors and protocol, and what it is about."""
    place, nets, column = place_of(line)
    for row in paper_lines():
        if row["place"] == place and row["method"] == nets and column in row:
            return f"{number(row[column])} %, {nets} on {COLUMNS[place][column]} ({place})"
    return None


def row_cells(method: str, columns: list[str], paper: Line, line: Line | None) -> list[str]:
    """One line of a table as text."""
    theirs = [number(paper.get(column)) for column in columns]
    if line is None:
        return [method, "–", "–", "–", *theirs]
    mean = line["mean"] if line["spread"] is None else [line["mean"], line["spread"]]
    return [method, described(line), protocol(line), number(mean), *theirs]


def table(place: str, lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    """(header, rows): the paper's rows, with ours of the same nets and descriptors; then our other ones."""
    rows, columns = [], list(COLUMNS[place])
    ours = [line for line in lines if place_of(line)[0] == place]
    papers_rows = [row for row in paper_lines() if row["place"] == place]
    for paper in papers_rows:
        same = [line for line in ours if place_of(line)[1] == paper["method"]]
        rows += [row_cells(paper["method"], columns, paper, line) for line in same or [None]]
    known = {paper["method"] for paper in papers_rows}
    others = [line for line in ours if place_of(line)[1] not in known]
    rows += [row_cells(" + ".join(line["cells"]), columns, {}, line) for line in others]
    return ["net", "descriptor", "data", "ours", *COLUMNS[place].values()], rows


def tables(lines: list[Line]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of both tables."""
    return [(title, *table(place, lines)) for place, title in TITLES.items()]
