"""Section 4's tables, ours beside the paper's: `python -m vgg tables`. What was not run shows as a dash."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from vgg import around_tables, box_tables, transfer_tables
from vgg.config import REPOSITORY, UserError, require
from vgg.files import write_whole
from vgg.lines import ERRORS, TRAINING_SCALES, errors, method_name, paper_lines
from vgg.runs import without_seed

TITLES = {
    "Table 3": "Table 3: dense, one test scale (section 4.1)",
    "section 4.1": "Section 4.1: two 3x3 layers against one 5x5, on a centre crop",
    "Table 4": "Table 4: dense, several test scales (section 4.2)",
    "Table 5": "Table 5: dense, multi-crop, and both (section 4.3)",
    "Table 6": "Table 6: several nets (section 4.4)",
    "Table 7": "Table 7: beside others (section 4.5)",
}
SETTINGS = ("views", "softmax", "ceil_mode", "precision", "images_sha256")


def curated(data: str, kind: str = "results") -> Path:
    """Where results that are kept in the repository stand."""
    return REPOSITORY / "results" / (f"{data}.jsonl" if kind == "results" else f"{data}-{kind}.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The evaluations in a file; none where there is no file. Raises UserError naming a line that is damaged."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines() if path.is_file() else [], start=1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is damaged: remove the line") from error
    return lines


def evaluations(data: str, runs: Path, kind: str = "results") -> list[dict[str, Any]]:
    """Every evaluation of a kind on this data, kept or made here; of several with the same key the last."""
    lines = [*read_lines(curated(data, kind)), *read_lines(runs / data / f"{kind}.jsonl")]
    return list({KINDS[kind](line): line for line in lines}.values())


def results(data: str, runs: Path) -> list[dict[str, Any]]:
    """Every classification."""
    return evaluations(data, runs)


def key(line: dict[str, Any]) -> str:
    """What was evaluated, and how: a later line with the same key takes an earlier one's place."""
    return json.dumps([nets(line), *(line[setting] for setting in SETTINGS)])


KINDS = {"results": key, "localisation": box_tables.key, "transfer": transfer_tables.key}


def nets(line: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """The runs of an evaluation or a row with their test scales, in an order of their own."""
    return sorted(zip(line["runs"], map(sorted, line["q"]), strict=True))


def keep(data: str, runs: Path) -> dict[Path, int]:
    """Copy the evaluations made here to results/; the files there, and the number of lines that each then has."""
    found = {curated(data, kind): evaluations(data, runs, kind) for kind in KINDS}
    kept = {path: lines for path, lines in found.items() if lines}
    require(bool(kept), f"nothing to keep: {runs / data / 'results.jsonl'} is missing or empty")
    for path, lines in kept.items():
        with write_whole(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
    return {path: len(lines) for path, lines in kept.items()}


def matching(row: dict[str, Any], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our evaluations of a row's nets, views and scales, the last for each seed, the paper's settings only."""
    found = {}
    for line in lines:
        cells = [without_seed(name.split("/")[1]) for name in line["runs"]]
        settings = line["softmax"] == "last" and not any(line["ceil_mode"]) and len(set(line["seed"])) == 1
        if settings and nets(line | {"runs": cells}) == nets(row) and sorted(line["views"]) == sorted(row["views"]):
            found[line["seed"][0]] = line
    return list(found.values())


def net_name(cell: str) -> str:
    """D-jitter-fc -> D [256;512] FC only."""
    model, scale, *rest = re.match(r"(.+?)-(256|384|jitter)(-fc)?$", cell).groups()
    return f"{model} {TRAINING_SCALES[scale]}" + (" FC only" if rest[0] else "")


def evaluation_name(row: dict[str, Any]) -> list[str]:
    """The nets of a row, its views, and its test scales."""
    many = len(row["runs"]) > 2
    nets = f"{len(row['runs'])} nets, the ILSVRC submission" if many else " + ".join(map(net_name, row["runs"]))
    return [nets, method_name(row["views"]), "each its own" if many else ", ".join(map(str, row["q"][0]))]


def row_cells(row: dict[str, Any], ours: list[dict[str, Any]]) -> list[str]:
    """One line of a table as text."""
    left = [row["method"], str(row["nets"])] if "method" in row else evaluation_name(row)
    cells = [*left, *errors(row, ours, "top1"), *errors(row, ours, "top5"), str(len(ours)) if ours else "–"]
    if "top5_test" in row:
        cells.append("–" if row["top5_test"] is None else f"{row['top5_test']:.1f}")
    return cells


def table(place: str, lines: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of one of the paper's tables, ours beside the paper's."""
    rows = [row for row in paper_lines() if row["place"] == place]
    header = [*(("method", "nets") if "method" in rows[0] else ("net", "evaluation", "Q")), *ERRORS]
    header += ["paper's test"] if "top5_test" in rows[0] else []
    return header, [row_cells(row, matching(row, lines) if "runs" in row else []) for row in rows]


def rendered(data: str, runs: Path, form: str) -> str:
    """Tables 3 to 12 and the networks around it, for one data set, as text, markdown or csv."""
    lines = results(data, runs)
    parts = [described(data, lines)] if form != "csv" else []
    table_of = {"text": text_table, "markdown": markdown_table, "csv": csv_table}[form]
    parts += [table_of(title, *table(place, lines)) for place, title in TITLES.items()]
    parts.append(table_of(around_tables.TITLE, *around_tables.table(lines)))
    parts += [around_tables.commands(lines)] if form != "csv" else []
    parts += [table_of(*found) for found in box_tables.tables(evaluations(data, runs, "localisation"))]
    parts += [table_of(*found) for found in transfer_tables.tables(evaluations(data, runs, "transfer"))]
    return ("\n\n" if form != "csv" else "\n").join(parts)


def described(data: str, lines: list[dict[str, Any]]) -> str:
    """What our numbers are about, in a sentence."""
    if not lines:
        return f"No net was evaluated as a classifier on {data} yet. The paper: ILSVRC-2012 validation, errors in %."
    last = lines[-1]
    scales, widths = (
        ", ".join(f"{value:g}" for value in sorted({value for line in lines for value in line[key]}))
        for key in ("scale", "width")
    )
    left_out = f" ({last['skipped']} more could not be read)" if last.get("skipped") else ""
    return (
        f"Ours: {data}, {last['images']:,} validation images{left_out}, {last['classes']} classes, scale "
        f"{scales}, width {widths}. The paper: ILSVRC-2012 validation, 50,000 images.\n"
        "Errors in %, differences in points, 95 % intervals by Wilson."
    )


def first_number(header: list[str]) -> int:
    """The first column of numbers, which are set flush right."""
    return next(place for place, name in enumerate(header) if name in ("top-1", "error", "ours"))


def text_table(title: str, header: list[str], body: list[list[str]]) -> str:
    left = first_number(header)
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if place < left else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (zip(row, widths, strict=True) for row in (header, *body))
    ]
    return "\n".join([title, lines[0].rstrip(), "─" * len(lines[0]), *(line.rstrip() for line in lines[1:])])


def markdown_table(title: str, header: list[str], body: list[list[str]]) -> str:
    left = first_number(header)
    marks = [":--" if place < left else "--:" for place in range(len(header))]
    return "\n".join([f"**{title}**", "", *("| " + " | ".join(row) + " |" for row in (header, marks, *body))])


def csv_table(title: str, header: list[str], body: list[list[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([["table", *header], *([title.split(":")[0], *row] for row in body)])
    return file.getvalue().rstrip()
