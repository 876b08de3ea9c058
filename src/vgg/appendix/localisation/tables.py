"""Appendix A's tables, ours beside the paper's: boxes for the true class, for five classes, and beside others."""

from collections.abc import Sequence

from vgg.core.paper import BoxRow, paper_rows, rows_of
from vgg.evaluation.errors import SCALE_NAMES, errors, with_spread
from vgg.evaluation.records import Localisation
from vgg.evaluation.selection import Origins, current, papers_settings, settled
from vgg.runs.cells import CELL, without_seed

TITLES = {
    "Table 8": "Table 8: localisation error on a central crop, the class given (appendix A)",
    "Table 9": "Table 9: top-5 localisation error, dense boxes merged (appendix A)",
    "Table 10": "Table 10: localisation beside others (appendix A)",
}

PROTOCOLS = {"full": "five classes, dense boxes merged", "ground_truth": "the true class, central crop"}

ERROR = ("error", "95 %", "paper", "diff.", "constant box", "seeds")

NETS = ("net", "fine-tuned", "boxes", "Q")


def same(row: BoxRow, line: Localisation) -> bool:
    """Whether a line is about a row's nets, scales and protocol, whatever the data."""
    ours = dict(zip(map(without_seed, line.cells), map(sorted, line.q), strict=True))
    return row.protocol == line.protocol and ours == dict(zip(row.runs, map(sorted, row.q), strict=True))


def paper_row(line: Localisation) -> BoxRow | None:
    """The paper's row for the same nets, scales and protocol."""
    return next((row for row in paper_rows() if isinstance(row, BoxRow) and same(row, line)), None)


def net_cells(row: BoxRow) -> list[str]:
    """Nets, fine-tuned layers, kind of boxes and test scales of a row."""
    found = [CELL.match(cell) for cell in row.runs]
    names = " + ".join(f"{cell['model']} {SCALE_NAMES[cell['scale']]}" for cell in found)
    fine_tuned = "first two FC" if found[0]["fc"] else "all"
    return [names, fine_tuned, found[0]["boxes"].upper(), "; ".join(", ".join(map(str, q)) for q in row.q)]


def of_row(row: BoxRow, lines: Sequence[Localisation]) -> list[Localisation]:
    """The evaluations of a row's nets with the paper's settings, one a seed."""
    ours = [line for line in lines if row.runs and papers_settings(line) and same(row, line)]
    return list({line.seed[0]: line for line in ours}.values())


def table(
    place: str, lines: Sequence[Localisation], yours: Sequence[Localisation] | None = None
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of one of these tables. A constant box's error is of the images, whatever the net."""
    left = ("method",) if place == "Table 10" else NETS
    header, body = [*left, *ERROR, *(("yours",) if yours is not None else ())], []
    header += ["paper's test"] if place != "Table 8" else []
    for row in rows_of(place):
        ours = of_row(row, lines)
        cells = [row.method] if place == "Table 10" else net_cells(row)
        constant = f"{ours[0].constant_box_error:.1f}" if ours else "–"
        cells += [*errors(row, ours, "error"), constant, str(len(ours)) if ours else "–"]
        cells += [] if yours is None else [with_spread(of_row(row, yours), "error")]
        if place != "Table 8":
            cells.append("–" if row.error_test is None else f"{row.error_test:.1f}")
        body.append(cells)
    return header, body


def tables(origins: Origins) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of the three tables."""
    lines, yours = origins.ours(Localisation), origins.yours(Localisation)
    return [
        (title, *table(place, settled(current(lines)), None if yours is None else settled(current(yours))))
        for place, title in TITLES.items()
    ]
