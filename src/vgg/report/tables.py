"""Section 4's tables, ours beside the paper's: `python -m vgg tables`. What was not run shows as a dash.

Ours are the lines that results/ keeps; a user's, of runs/, stand in columns of their own, or with `--mine` in the place
of ours. Nothing is averaged over both.
"""

import csv
import io
from collections.abc import Sequence

from vgg.appendix.localisation import tables as localisation_tables
from vgg.appendix.transfer import tables as transfer_tables
from vgg.core.paper import ErrorRow, rows_of
from vgg.evaluation.errors import ERRORS, SCALE_NAMES, YOURS, both_errors, method_name, without_mirror_images
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import Origins, by_cell, current, row_cell, settled
from vgg.report import comparison_nets
from vgg.runs.cells import CELL

TITLES = {
    "Table 3": "Table 3: dense, one test scale (section 4.1)",
    "section 4.1": "Section 4.1: two 3x3 layers against one 5x5, on a centre crop",
    "Table 4": "Table 4: dense, several test scales (section 4.2)",
    "Table 5": "Table 5: dense, multi-crop, and both (section 4.3)",
    "Table 6": "Table 6: several nets (section 4.4)",
    "Table 7": "Table 7: beside others (section 4.5)",
}


def net_name(cell: str) -> str:
    """D-jitter-fc -> D [256;512] FC only; a draw or start of its own stays behind it."""
    parts = CELL.match(cell)
    rest = cell[parts.end("scale") :].removeprefix("-fc")
    return f"{parts['model']} {SCALE_NAMES[parts['scale']]}" + (" FC only" if parts["fc"] else "") + rest


def evaluation_name(row: ErrorRow) -> list[str]:
    """The nets of a row, its views, and its test scales."""
    many = len(row.runs) > 2
    names = f"{len(row.runs)} nets, the ILSVRC submission" if many else " + ".join(map(net_name, row.runs))
    return [names, method_name(row.views), "each its own" if many else ", ".join(map(str, row.q[0]))]


def table(
    source: str, lines: Sequence[Classification], yours: Sequence[Classification] | None = None
) -> tuple[list[str], list[list[str]]]:
    """(header, rows) of one of the paper's tables, ours beside the paper's."""
    rows, tested = rows_of(source), source in ("Table 6", "Table 7")
    ours, theirs = by_cell(current(lines)), None if yours is None else by_cell(current(yours))
    left = ("method", "nets") if source == "Table 7" else ("net", "evaluation", "Q")
    header = [*left, *ERRORS, *(YOURS if yours is not None else ()), *(("paper's test",) if tested else ())]
    body = []
    for row in rows:
        of_ours, of_yours = ([] if one is None else list(one.get(row_cell(row), {}).values()) for one in (ours, theirs))
        cells = [row.method, str(row.nets)] if source == "Table 7" else evaluation_name(row)
        cells += both_errors(row, of_ours, None if theirs is None else of_yours)
        if tested:
            cells.append("–" if row.top5_test is None else f"{row.top5_test:.1f}")
        body.append(cells)
    return header, body


def tables(origins: Origins) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of Tables 3 to 7 and the networks around it."""
    lines, yours = origins.ours(Classification), origins.yours(Classification)
    parts = [(title, *table(source, lines, yours)) for source, title in TITLES.items()]
    return [*parts, (comparison_nets.TITLE, *comparison_nets.table(lines, yours))]


def rendered(origins: Origins, form: str) -> str:
    """Tables 3 to 12 and the networks around it, for one data set, as text, markdown, csv or latex."""
    lines = origins.ours(Classification)
    worded = form in ("text", "markdown")
    parts = [described(origins)] if worded else []
    table_of = {"text": text_table, "markdown": markdown_table, "csv": csv_table, "latex": latex_table}[form]
    parts += [table_of(*table_parts) for table_parts in tables(origins)]
    parts += [comparison_nets.commands(lines)] if worded else []
    parts += [table_of(*table_parts) for table_parts in localisation_tables.tables(origins)]
    parts += [table_of(*table_parts) for table_parts in transfer_tables.tables(origins)]
    return ("\n\n" if form != "csv" else "\n").join(parts)


def described(origins: Origins) -> str:
    """What our numbers are about, and whose they are, in sentences."""
    lines = settled(origins.ours(Classification))
    whose = f"yours, of {origins.runs / origins.data}" if origins.of_user else "ours, of results/"
    if not lines:
        return (
            f"No net was evaluated as a classifier on {origins.data} yet ({whose}). The paper: ILSVRC-2012 validation, "
            "errors in %."
        )
    last = lines[-1]
    scales, widths = (
        ", ".join(f"{value:g}" for value in sorted({value for line in lines for value in getattr(line, key)}))
        for key in ("scale", "width")
    )
    left_out = f" ({last.skipped} more could not be read)" if last.skipped else ""
    rates = {falls(line.schedule[0]) for line in lines}
    gone = len(lines) - len(current(lines))
    return (
        f"{origins.data}, {whose}: {last.images:,} validation images{left_out}, {last.classes} classes, scale "
        f"{scales}, width {widths}, {last.precision}{without_mirror_images(last)}.\n"
        "The paper: ILSVRC-2012 validation, 50,000 images.\n"
        f"The learning rate falls {' or '.join(sorted(rates))}.\n"
        "Errors in %, differences in points, 95 % intervals over photos and seeds; ± is the spread between seeds."
        + (f"\nLeft out: {gone} evaluations of weights that were trained anew since." if gone else "")
    )


def falls(schedule: Sequence[tuple[float, float]] | None) -> str:
    """When the learning rate of a training falls."""
    if schedule is None:
        return "on plateaus of the validation error, as in the paper"
    return "to " + ", ".join(f"{factor:g} of it after {share:.0%} of the epochs" for share, factor in schedule)


def first_number(header: list[str]) -> int:
    """The first column of numbers, which are set flush right."""
    return next(column for column, name in enumerate(header) if name in ("top-1", "error", "ours"))


def text_table(title: str, header: list[str], body: list[list[str]]) -> str:
    left = first_number(header)
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width) for number, (cell, width) in enumerate(pairs)
        )
        for pairs in (zip(row, widths, strict=True) for row in (header, *body))
    ]
    return "\n".join([title, lines[0].rstrip(), "─" * len(lines[0]), *(line.rstrip() for line in lines[1:])])


def markdown_table(title: str, header: list[str], body: list[list[str]]) -> str:
    left = first_number(header)
    marks = [":--" if column < left else "--:" for column in range(len(header))]
    return "\n".join([f"**{title}**", "", *("| " + " | ".join(row) + " |" for row in (header, marks, *body))])


LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "–": "--", "×": r"$\times$", "†": r"$\dag$"}
)


def latex_table(title: str, header: list[str], body: list[list[str]]) -> str:
    """With the rules of the package booktabs."""
    left = first_number(header)
    rows = [" & ".join(cell.translate(LATEX) for cell in row) + r" \\" for row in (header, *body)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{title.translate(LATEX)}}}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(header) - left)}}}",
        *(r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"),
        *(r"\end{tabular}", r"\end{table}"),
    ]
    return "\n".join(lines)


def csv_table(title: str, header: list[str], body: list[list[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([["table", *header], *([title.split(":")[0], *row] for row in body)])
    return file.getvalue().rstrip()
