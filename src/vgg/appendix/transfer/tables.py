"""Appendix B's Tables 11 and 12, ours beside the paper's."""

from collections.abc import Sequence

from vgg.core.paper import Number, TransferRow, rows_of
from vgg.evaluation.errors import VIEW_NAMES
from vgg.evaluation.records import Transfer
from vgg.evaluation.selection import Origins, current
from vgg.runs.cells import without_seed

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

SCALES = {"classes": ("stack", (256, 384, 512)), "objects": ("average", (256, 384, 512, 640, 768))}  # the paper's


def described(line: Transfer) -> str:
    """What an SVM is given: fc7, Q = 256, 384, 512 stacked."""
    several = {"stack": " stacked", "average": " averaged"}[line.combine] if len(line.q) > 1 else ""
    boxes = ", image and person box" if line.person_boxes else ""
    return f"{VIEW_NAMES[line.features]}, Q = {', '.join(map(str, line.q))}{several}{boxes}"


def protocol(line: Transfer) -> str:
    """The nets' data and the SVMs', and how much of this trains: imagenette → caltech20, 30 a class."""
    source = " + ".join(dict.fromkeys(name.partition("/")[0] for name in line.runs))
    return f"{source} → {line.data}, {line.train}{' a class' if line.labels == 'classes' else ''}"


def place_of(line: Transfer) -> tuple[str, str | None, str | None]:
    """(table, the paper's row, its column) that a line stands beside; None where the paper has no such thing.

    Whatever the data, Caltech-101 is 30 training images a class and Caltech-256 60.
    """
    nets = NETS.get(tuple(sorted(without_seed(cell) for cell in line.cells))) if line.features == "fc7" else None
    if line.labels == "actions":
        box = "image and person box" if line.person_boxes else "image"
        return "Table 12", nets and f"{nets}, {box}", "voc12_actions_map"
    if (line.combine, line.q) != SCALES[line.labels]:
        nets = None
    if line.labels == "objects":
        return "Table 11", nets, {2007: "voc07_map", 2012: "voc12_map"}.get(line.year)
    return "Table 11", nets, {30: "caltech101_recall", 60: "caltech256_recall"}.get(line.train)


def number(value: Number) -> str:
    """A number, one with its spread, or a dash."""
    if value is None:
        return "–"
    return f"{value[0]:.1f} ± {value[1]:.1f}" if isinstance(value, tuple) else f"{value:.1f}"


def mean(line: Transfer) -> str:
    """Our number, over several splits with its spread."""
    return number(line.mean if line.spread is None else (line.mean, line.spread))


def papers(line: Transfer) -> str | None:
    """The paper's number for the same nets, descriptors and protocol, and what it is about."""
    place, nets, column = place_of(line)
    for row in rows_of(place):
        if row.method == nets and column is not None:
            return f"{number(getattr(row, column))} %, {nets} on {COLUMNS[place][column]} ({place})"
    return None


def table(
    place: str, lines: Sequence[Transfer], yours: Sequence[Transfer] | None = None
) -> tuple[list[str], list[list[str]]]:
    """(header, rows): the paper's rows, with ours of the same nets and descriptors; then our other ones.

    A user's stand beside ours with the same settings, or in rows of their own.
    """
    columns = list(COLUMNS[place])
    pairs: dict[str, list[Transfer | None]] = {}  # by what was evaluated: ours, yours
    for side, of_side in enumerate((lines, yours or [])):
        for line in of_side:
            if place_of(line)[0] == place:
                pairs.setdefault(line.key, [None, None])[side] = line

    def row_cells(method: str, row: TransferRow | None, pair: list[Transfer | None]) -> list[str]:
        line = pair[0] or pair[1]
        about = [described(line), protocol(line)] if line else ["–", "–"]
        measured = [mean(one) if one else "–" for one in (pair if yours is not None else pair[:1])]
        return [method, *about, *measured, *(number(row and getattr(row, column)) for column in columns)]

    rows, methods = [], [row.method for row in rows_of(place)]
    placed = [(place_of(pair[0] or pair[1])[1], pair) for pair in pairs.values()]
    for row in rows_of(place):
        same = [pair for method, pair in placed if method == row.method]
        rows += [row_cells(row.method, row, pair) for pair in same or [[None, None]]]
    rows += [
        row_cells(" + ".join((pair[0] or pair[1]).cells), None, pair)
        for method, pair in placed
        if method not in methods
    ]
    header = ["net", "descriptor", "data", "ours", *(("yours",) if yours is not None else ()), *COLUMNS[place].values()]
    return header, rows


def tables(origins: Origins) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of both tables."""
    lines, yours = origins.ours(Transfer), origins.yours(Transfer)
    yours = yours and current(yours)
    return [(title, *table(place, current(lines), yours)) for place, title in TITLES.items()]
