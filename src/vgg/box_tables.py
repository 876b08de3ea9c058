"""Appendix A's tables, ours beside the paper's: boxes for the true class, for five classes, and beside others."""

import json
from typing import Any

from vgg.lines import TRAINING_SCALES, errors, paper_lines
from vgg.plan import CELL
from vgg.runs import without_seed

TITLES = {
    "Table 8": "Table 8: localisation error on a central crop, the class given (appendix A)",
    "Table 9": "Table 9: top-5 localisation error, dense boxes merged (appendix A)",
    "Table 10": "Table 10: localisation beside others (appendix A)",
}
PROTOCOLS = {"full": "five classes, dense boxes merged", "ground_truth": "the true class, central crop"}
ERROR = ("error", "95 %", "paper", "diff.", "constant box", "seeds")
NETS = ("net", "fine-tuned", "boxes", "Q")


def key(line: dict[str, Any]) -> str:
    """What tells an evaluation from others: a later line with the same takes an earlier one's place."""
    kept = ("runs", "q", "protocol", "classes_by", "k", "t", "precision", "images_sha256")
    return json.dumps([line[name] for name in kept])


def paper_rows() -> list[dict[str, Any]]:
    """The rows about nets of this grid."""
    return [row for row in paper_lines() if "protocol" in row]


def same(row: dict[str, Any], line: dict[str, Any]) -> bool:
    """Whether a line is about a row's nets, scales and protocol, whatever the data."""
    ours = dict(zip(map(without_seed, line["cells"]), map(sorted, line["q"]), strict=True))
    return row["protocol"] == line["protocol"] and ours == dict(zip(row["runs"], map(sorted, row["q"]), strict=True))


def paper_row(line: dict[str, Any]) -> dict[str, Any] | None:
    """The paper's row for the same nets, scales and protocol."""
    return next((row for row in paper_rows() if same(row, line)), None)


def net_cells(row: dict[str, Any]) -> list[str]:
    """Nets, fine-tuned layers, kind of boxes and test scales of a row."""
    found = [CELL.match(cell) for cell in row["runs"]]
    names = " + ".join(f"{cell['model']} {TRAINING_SCALES[cell['scale']]}" for cell in found)
    fine_tuned = "first two FC" if found[0]["fc"] else "all"
    return [names, fine_tuned, found[0]["boxes"].upper(), "; ".join(", ".join(map(str, q)) for q in row["q"])]


def cells_of(row: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    """Our error in the mean over seeds, its interval, the paper's, the difference, a constant box's error, the seeds.

    `lines` are of all evaluations; of each seed the last one of the row's nets counts.
    """
    ours = [line for line in lines if "runs" in row and len(set(line["seed"])) == 1 and same(row, line)]
    found = list({line["seed"][0]: line for line in ours}.values())
    constant = f"{found[0]['constant_box_error']:.1f}" if found else "–"  # of the images, whatever the net
    return [*errors(row, found, "error"), constant, str(len(found)) if found else "–"]


def table(place: str, lines: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of one of these tables."""
    rows = [row for row in paper_lines() if row["place"] == place]
    left = NETS if "runs" in rows[0] and "method" not in rows[0] else ("method",)
    header, body = [*left, *ERROR], []
    for row in rows:
        cells = [*([row["method"]] if "method" in row else net_cells(row)), *cells_of(row, lines)]
        if "error_test" in row:
            cells.append("–" if row["error_test"] is None else f"{row['error_test']:.1f}")
        body.append(cells)
    return header + (["paper's test"] if "error_test" in rows[0] else []), body


def tables(lines: list[dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of the three tables."""
    return [(title, *table(place, lines)) for place, title in TITLES.items()]
