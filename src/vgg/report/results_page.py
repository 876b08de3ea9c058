"""docs/results.md and the README's table: the paper's claims beside our numbers on each data set.

`python -m vgg results > docs/results.md`, and with `--short` the README's table.
"""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

import numpy as np

from vgg.core.paper import ErrorRow, error_rows
from vgg.evaluation.errors import errors
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import BySeed, Cell, Origins, by_cell, curated, current, row_cell
from vgg.report import claims
from vgg.report.claims import Decision, seeds_by_data, side_name
from vgg.report.paper_claims import CLAIMS, Claim, Side
from vgg.report.tables import described

NO_ROW = ErrorRow(place="", top1=None, top5=None)  # of what the paper has no number of

HEADINGS = {
    "3.1": "How random weights are drawn (section 3.1)",
    "4.1": "One test scale (section 4.1)",
    "4.2": "Several test scales (section 4.2)",
    "4.3": "Dense and multi-crop (section 4.3)",
    "4.4": "Several nets (section 4.4)",
}

START = """# Results

The paper's claims, and what nets of this repository come to on data sets that two cores can train on. This page is
made by `python -m vgg results` from [results/](../results), where every evaluation has its command, commit, seed and
versions. When a claim counts as confirmed or denied: [claims](claims.md). How the recipes were chosen:
[pilots](../results/pilots.md).

    python train.py -m ablation=paper seed=1,2,3,4,5,6,7,8,9,10      # the trainings of Tables 3 to 6; it resumes
    python evaluate.py -m ablation=paper seed=1,2,3,4,5,6,7,8,9,10   # their evaluations
    python -m vgg keep                                               # to results/digits.jsonl
    python -m vgg figure                                             # results/digits.svg
    python -m vgg tables                                             # every table of the paper beside ours
    python -m vgg claims                                             # each comparison and its test"""


def evaluated_data() -> dict[str, Origins]:
    """The data sets whose seeds are fixed and that results/ has evaluations on; the user's own runs do not count."""
    return {data: Origins(data, Path("runs")) for data in seeds_by_data() if curated(data).is_file()}


def table(header: Sequence[str], numbers_from: int, rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with numbers flush right from a column on."""
    marks = [":--" if column < numbers_from else "--:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, marks, *rows))


def sides(of_section: Sequence[Claim]) -> list[Side]:
    """What the claims of a section compare, each once, the reference before what is compared with it."""
    comparisons = [comparison for claim in of_section for step in claim.steps for comparison in step]
    return list(dict.fromkeys(side for comparison in comparisons for side in reversed(comparison)))


def errors_table(of_section: Sequence[Claim], evaluated: dict[str, dict[Cell, BySeed]]) -> str:
    """Top-1 errors of every cell that a section's claims compare: the paper's, then on each data set."""
    paper, rows = {row_cell(row): row for row in error_rows()}, []
    for side in sides(of_section):
        row, numbers = paper.get(side.cell, NO_ROW), []
        for cells in evaluated.values():
            lines = list(cells.get(side.cell, {}).values())
            numbers += [*errors(row, lines, "top1")[:2], str(len(lines) or "–")]
        rows.append([side_name(side), ", ".join(map(str, side.q[0])), errors(row, [], "top1")[2], *numbers])
    return table(["net", "Q", "paper", *(name for data in evaluated for name in (data, "95 %", "seeds"))], 2, rows)


def verdict(decision: Decision) -> str:
    """A claim's verdict, the number of its comparisons that hold, and p."""
    if decision.verdict == "not run":
        return "not run"
    p = "" if isnan(decision.p) else f", p = {claims.number(decision.p, '.3f')}".replace("= <", "< ")
    return f"**{decision.verdict}**; {decision.hold}{p}"


def mean_difference(points: Sequence[float]) -> str:
    """Of the comparisons that have one, y - x in points."""
    measured = [one for one in points if not isnan(one)]
    return f"{np.mean(measured):+.1f}" if measured else "–"


def decisions() -> dict[str, list[Decision]]:
    """Every claim on each data set, by the repository's evaluations."""
    return {data: claims.decided(origins) for data, origins in evaluated_data().items()}


def short() -> str:
    """The README's table: of each claim the mean difference of its comparisons in points, and the verdict."""
    decided, paper, rows = decisions(), {row_cell(row): row for row in error_rows()}, []
    for number, claim in enumerate(CLAIMS):
        cells = [mean_difference([one.paper for one in claims.compared(claim, {}, paper).comparisons])]
        for of_data in decided.values():
            ours = mean_difference([one.difference for one in of_data[number].comparisons])
            cells += [ours, verdict(of_data[number])]
        rows.append([f"{claim.number} {claim.text} (section {claim.section})", f"`ablation={claim.ablation}`", *cells])
    return table(["claim", "command", "paper", *(name for data in decided for name in (data, "verdict"))], 2, rows)


def rendered() -> str:
    """The whole page as Markdown."""
    decided = decisions()
    evaluated = {data: by_cell(current(origins.kept(Classification))) for data, origins in evaluated_data().items()}
    parts = [START]
    for data, origins in evaluated_data().items():
        seeds = ", ".join(map(str, seeds_by_data()[data]))
        parts.append(f"{described(origins)} The seeds that decide: {seeds}.".replace("\n", " "))
    parts.append("† at several test scales.")
    for section, heading in HEADINGS.items():
        of_section = [claim for claim in CLAIMS if claim.section == section]
        parts += [f"## {heading}", errors_table(of_section, evaluated)]
        rows = []
        for claim in of_section:
            of_data = {data: decided_claims[CLAIMS.index(claim)] for data, decided_claims in decided.items()}
            reasons = [f"{data}: {one.reason}" for data, one in of_data.items() if one.reason]
            verdicts = map(verdict, of_data.values())
            rows.append([f"{claim.number} {claim.text}", f"`ablation={claim.ablation}`", *verdicts, "; ".join(reasons)])
        parts.append(table(["claim", "command", *decided, ""], 3 + len(decided), rows))
    return "\n\n".join(parts) + "\n"
