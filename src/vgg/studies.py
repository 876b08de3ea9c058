"""What the paper leaves open, from the evaluations made: the order of soft-max and average, rounding of the pools,
the error over Q. `python -m vgg studies`; the commands that make the evaluations stand in the README.
"""

from pathlib import Path
from typing import Any

from vgg.lines import method_name
from vgg.tables import described, nets, results, text_table

HEADER = ["nets", "evaluation", "Q", "", "top-1", "95 %", "top-5"]


def cells(line: dict[str, Any], what: str) -> list[str]:
    q = ", ".join(map(str, line["q"][0])) if len({tuple(q) for q in line["q"]}) == 1 else "each its own"
    low, high = line["top1_interval"]
    names = " + ".join(name.partition("/")[2] for name in line["runs"])
    return [
        names,
        method_name(line["views"]),
        q,
        what,
        f"{line['top1']:.2f}",
        f"{low:.1f}–{high:.1f}",
        f"{line['top5']:.2f}",
    ]


def pairs(lines: list[dict[str, Any]], key: str, names: dict[Any, str]) -> list[list[str]]:
    """Rows of the evaluations that differ in nothing but `key`, beside each other."""
    groups: dict[str, dict[Any, dict[str, Any]]] = {}
    for line in lines:
        value = line[key] if key == "softmax" else line[key][0]
        other = [line["ceil_mode"] if key == "softmax" else line["softmax"], line["precision"], line["images_sha256"]]
        groups.setdefault(str([nets(line), line["views"], other]), {})[value] = line
    return [cells(group[value], name) for group in groups.values() if len(group) > 1 for value, name in names.items()]


def over_q(lines: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of one net, dense, at one test scale each, where there are at least three of them; by net, then by Q."""
    single = [line for line in lines if len(line["runs"]) == len(line["q"][0]) == 1 and line["views"] == ["dense"]]
    single = [line for line in single if line["softmax"] == "last" and not line["ceil_mode"][0]]
    many = [line for line in single if sum(line["runs"] == other["runs"] for other in single) >= 3]
    return [cells(line, "") for line in sorted(many, key=lambda line: (line["runs"], line["q"]))]


def rendered(data: str, runs: Path) -> str:
    """The three studies as text; a study without evaluations says so."""
    lines = results(data, runs)
    studies = {
        "Scores averaged over space, then the soft-max (the paper), against the soft-max first": pairs(
            lines, "softmax", {"last": "soft-max last", "first": "soft-max first"}
        ),
        "Max pools that round odd sides down against up (as the authors' Caffe did)": pairs(
            lines, "ceil_mode", {False: "down", True: "up"}
        ),
        "The error over the test scale Q, dense": over_q(lines),
    }
    parts = [described(data, lines)]
    for title, body in studies.items():
        parts.append(text_table(title, HEADER, body) if body else f"{title}\nnot run")
    return "\n\n".join(parts)
