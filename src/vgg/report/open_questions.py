"""What the paper leaves open, from the evaluations made: the order of soft-max and average, rounding of the pools,
the error over Q. `python -m vgg studies`; the commands that make the evaluations stand in docs/evaluation.md.
"""

from collections.abc import Sequence
from typing import Any

from vgg.evaluation.errors import method_name
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import Origins, current
from vgg.report.tables import described, text_table

HEADER = ["nets", "evaluation", "Q", "", "top-1", "95 %", "top-5"]


def cells(line: Classification, what: str) -> list[str]:
    q = ", ".join(map(str, line.q[0])) if len(set(line.q)) == 1 else "each its own"
    low, high = line.top1_interval
    return [
        " + ".join(name.partition("/")[2] for name in line.runs),
        method_name(line.views),
        q,
        what,
        f"{line.top1:.2f}",
        f"{low:.1f}–{high:.1f}",
        "–" if line.top5 is None else f"{line.top5:.2f}",
    ]


def pairs(lines: Sequence[Classification], key: str, names: dict[Any, str]) -> list[list[str]]:
    """Rows of the evaluations of the same weights that differ in nothing but `key`, beside each other."""
    groups: dict[tuple, dict[Any, Classification]] = {}
    for line in current(lines):
        value = line.softmax if key == "softmax" else line.ceil_mode[0]
        other = line.ceil_mode if key == "softmax" else line.softmax
        same = (line.nets, line.views, other, line.mirror, line.precision, line.images_sha256)
        groups.setdefault(same, {})[value] = line
    return [cells(group[value], name) for group in groups.values() if len(group) > 1 for value, name in names.items()]


def over_q(lines: Sequence[Classification]) -> list[list[str]]:
    """Rows of one net, dense, at one test scale each, where there are at least three of them; by net, then by Q."""
    single = [line for line in current(lines) if len(line.runs) == len(line.q[0]) == 1 and line.views == ("dense",)]
    single = [line for line in single if line.softmax == "last" and not line.ceil_mode[0]]
    many = [line for line in single if sum(line.runs == other.runs for other in single) >= 3]
    return [cells(line, "") for line in sorted(many, key=lambda line: (line.runs, line.q))]


def rendered(origins: Origins) -> str:
    """The three studies as text; a study without evaluations says so."""
    lines = origins.ours(Classification)
    studies = {
        "Scores averaged over space, then the soft-max (the paper), against the soft-max first": pairs(
            lines, "softmax", {"last": "soft-max last", "first": "soft-max first"}
        ),
        "Max pools that round odd sides down against up (as the authors' Caffe did)": pairs(
            lines, "ceil_mode", {False: "down", True: "up"}
        ),
        "The error over the test scale Q, dense": over_q(lines),
    }
    parts = [described(origins)]
    for title, body in studies.items():
        parts.append(text_table(title, HEADER, body) if body else f"{title}\nnot run")
    return "\n\n".join(parts)
