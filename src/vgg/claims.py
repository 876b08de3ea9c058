"""The paper's claims (sections 3.1 and 4), confirmed or denied by our evaluations: `python -m vgg claims`.

A claim is a list of comparisons of two top-1 errors, y and x, on the same images:
- y < x is confirmed where y is shown to be lower, denied where it is shown to be higher;
- y ≪ x: the same, where x may be at chance, as that is what is claimed;
- y ≥ x is confirmed where y is shown not to be lower by MARGIN, denied where it is shown to be lower, however little;
- y ≤ x is confirmed where y is shown not to be higher by MARGIN, denied where it is shown to be higher by more;
- y ≈ x is confirmed where they are shown to differ by less than MARGIN, denied where by more.
A claim is confirmed where all its comparisons are, denied where one is.

What shows it is Student's t against the spread between seeds, as every net is one draw of many: of the errors of each
side, or where the sides share a net, paired by seed, of the differences. The variance is pooled over all nets of 2
seeds or more, paired ones within their claim, as if they all spread alike: a few seeds of one net say too little about
its own. What the same net shows again counts once. A standard deviation below one image, 100 / images points, counts
as one image. With less than 2 degrees of freedom nothing is shown: one seed of everything shows nothing.

Each comparison tests two statements, the one that would confirm it and the one that would deny it. p is adjusted by
Holm over both statements of all comparisons that have one, so that the chance of any wrong verdict is at most ALPHA;
shown means p < ALPHA.

A net is at chance where the 95 % interval of a seed's error reaches 100 (1 - 1 / classes): it decides nothing and is
in no pool. McNemar's exact test compares two trained nets, those of the lowest seed that both sides have. It says
nothing about another seed, and no verdict rests on it.
"""

import base64
import re
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr
from scipy.stats import binomtest

from vgg.lines import paper_rows
from vgg.scales import multi_scale, single_scale
from vgg.tables import described, net_name, nets, results

MARGIN = 1.0  # points: about one step between neighbouring depths in Table 3, 0.6 to 1.1
ALPHA = 0.05
# Number, section, sentence; then y and x: RUN or RUN+RUN, † for several test scales, @VIEW where it is not dense.
CLAIMS = """
1   4.1  Local response normalisation does not help
         A-LRN-256 ≥ A-256
2a  4.1  The error falls with depth
         B-256 < A-256, C-256 < B-256, D-256 < C-256
2b  4.1  and saturates at 19 layers
         E-256 ≈ D-256
3   4.1  Additional non-linearity helps
         C-256 < B-256
4   4.1  Spatial context helps more
         D-256 < C-256
5   4.1  Small filters beat large ones, on a centre crop
         B-256@center < B-5x5-256@center
6   4.1  Training at many scales helps
         C-jitter < C-256, D-jitter < D-256, E-jitter < E-256,
         C-jitter < C-384, D-jitter < D-384, E-jitter < E-384
7   4.2  Several test scales help
         B-256† < B-256, C-256† < C-256, D-256† < D-256, E-256† < E-256, C-384† < C-384, D-384† < D-384,
         E-384† < E-384, C-jitter† < C-jitter, D-jitter† < D-jitter, E-jitter† < E-jitter
8a  4.3  Multi-crop is a little better than dense
         D-jitter†@multicrop < D-jitter†, E-jitter†@multicrop < E-jitter†
8b  4.3  and the two complement each other
         D-jitter†@fused < D-jitter†, D-jitter†@fused < D-jitter†@multicrop,
         E-jitter†@fused < E-jitter†, E-jitter†@fused < E-jitter†@multicrop
9   4.4  Two nets beat one
         D-jitter+E-jitter†@fused < D-jitter†@fused, D-jitter+E-jitter†@fused < E-jitter†@fused
10  3.1  Net A's layers make deep nets trainable at std 0.01
         D-256-std001 ≪ D-256-std001-noA
11  3.1  Glorot's initialisation makes net A unnecessary
         D-256-glorot-noA ≤ D-256-std001
"""
SCALES = {"256": (256, 256), "384": (384, 384), "jitter": (256, 512)}
VIEWS = {None: ["dense"], "center": ["center"], "multicrop": ["multicrop"], "fused": ["dense", "multicrop"]}
NAME = re.compile(r"([\w-]+?-(256|384|jitter)(?:-fc)?)(.*?)(-noA)?$")  # net, training scale, draw or tag, without A
HEADER = ("comparison", "ours x→y", "diff.", "paper", "McNemar p", "seeds", "adj. p", "verdict")
Cell = tuple[tuple[tuple[str, tuple[int, ...]], ...], tuple[str, ...]]  # (run, its test scales) ..., views
Lines = dict[int, dict[str, Any]]  # evaluations of one cell by seed


@dataclass
class Comparison:
    """Two cells of a claim and what came of it: errors in %, differences y - x in points, nan where there is none."""

    label: str
    sign: str
    paired: bool  # the sides share a net: both have the same seeds
    pool: str  # comparisons with the same have one spread
    sides: tuple[Lines, Lines]  # y, x
    paper: float  # the paper's difference
    p: float = nan  # adjusted
    verdict: str = "undecided"  # or confirmed, denied, at chance, not run

    @property
    def errors(self) -> list[np.ndarray]:
        """Of y and of x, one a seed."""
        return [np.array([line["top1"] for line in side.values()]) for side in self.sides]

    @property
    def means(self) -> list[float]:
        return [float(errors.mean()) if len(errors) else nan for errors in self.errors]

    @property
    def difference(self) -> float:
        return self.means[0] - self.means[1]

    @property
    def at_chance(self) -> list[bool]:
        """Whether y is, whether x is."""
        return [
            any(line["top1_interval"][1] >= 100 * (1 - 1 / line["classes"]) for line in side.values())
            for side in self.sides
        ]

    @property
    def samples(self) -> list[tuple[str, np.ndarray]]:
        """What spreads from seed to seed, by net: the differences of paired sides, else the errors of each."""
        y, x = self.errors
        names = [re.sub(r"-seed\d+$", "", next(iter(side.values()))["runs"][0]) for side in self.sides]
        return [(names[0], y - x)] if self.paired else [(names[0], y), (names[1], x)]

    @property
    def images(self) -> set[tuple[str, int]]:
        return {(line["images_sha256"], line["images"]) for side in self.sides for line in side.values()}

    @property
    def mcnemar(self) -> float:
        """Exact two-sided p, from the images that only one of the two nets has right."""
        common = self.sides[0].keys() & self.sides[1].keys()
        lines = [side[min(common)] for side in self.sides if common]
        right = [correct(line) for line in lines]
        if len({(line["images_sha256"], line["images"]) for line in lines}) != 1 or any(bits is None for bits in right):
            return nan
        only_y, only_x = int((right[0] > right[1]).sum()), int((right[0] < right[1]).sum())
        return float(binomtest(only_y, only_y + only_x).pvalue) if only_y + only_x else 1.0


@dataclass
class Claim:
    number: str
    section: str
    text: str
    comparisons: list[Comparison]

    @property
    def verdict(self) -> str:
        verdicts = {comparison.verdict for comparison in self.comparisons}
        return "denied" if "denied" in verdicts else verdicts.pop() if len(verdicts) == 1 else "undecided"


def correct(line: dict[str, Any]) -> np.ndarray | None:
    """(images,) bool: classified right; None where the line does not say it of every image."""
    try:
        packed = np.frombuffer(base64.b64decode(line["top1_correct"]), np.uint8)
    except (KeyError, ValueError):
        return None
    whole = len(packed) == -(-line["images"] // 8) and not line.get("skipped")
    return np.unpackbits(packed, count=line["images"]).astype(bool) if whole else None


def cell(line: dict[str, Any]) -> Cell:
    """Of an evaluation of ours or a row of the paper's: what has an error."""
    return tuple((name, tuple(q)) for name, q in nets(line)), tuple(sorted(line["views"]))


def read_side(text: str) -> Cell:
    """The cell that CLAIMS writes like this."""
    names, several, view = re.fullmatch(r"(.+?)(†?)(?:@(.+))?", text).groups()
    rule, runs = multi_scale if several else single_scale, names.split("+")
    return cell({"runs": runs, "q": [rule(*SCALES[NAME.match(run)[2]]) for run in runs], "views": VIEWS[view]})


def by_cell(lines: list[dict[str, Any]]) -> dict[Cell, Lines]:
    """Evaluations with the paper's settings by cell and seed, the last of several. A run with a tag is no cell.

    Runs are named without data and seed; one of the data's default draw is also found under the name that says it.
    """
    found: dict[Cell, Lines] = defaultdict(dict)
    for line in lines:
        seed = line["seed"][0]
        if line["softmax"] != "last" or any(line["ceil_mode"]) or set(line["seed"]) != {seed}:
            continue
        names = [name.removeprefix(f"{line['data']}/").removesuffix(f"-seed{seed}") for name in line["runs"]]
        full = names
        if "draw" in line:  # older lines do not say it
            full = [NAME.sub(rf"\1-{draw}\4", name) for name, draw in zip(names, line["draw"], strict=True)]
            if [name.replace(f"-{line['default_draw']}", "") for name in full] != names:
                continue
        for runs in (names, full):
            found[cell(line | {"runs": runs})][seed] = line
    return found


def compared(text: str, claim: str, found: dict[Cell, Lines], paper: dict[Cell, dict[str, Any]]) -> Comparison:
    """A comparison of a claim with our evaluations and the paper's difference."""
    y, sign, x = text.split()
    cells = read_side(y), read_side(x)
    sides = tuple(found.get(each, {}) for each in cells)
    paired = not dict(cells[0][0]).keys().isdisjoint(dict(cells[1][0]))
    if paired:
        common = sorted(sides[0].keys() & sides[1].keys())
        sides = tuple({seed: side[seed] for seed in common} for side in sides)
    label = re.sub(r"[\w-]+?-(256|384|jitter)", lambda name: net_name(name[0]), text).replace("@", ", ")
    label = re.sub(r"(, \w+)(?= .*\1$)", "", label)  # what both sides have is said once
    difference = paper_difference(*(paper.get(each, {}) for each in cells))
    ours = Comparison(label, sign, paired, claim if paired else "different nets", sides, difference)
    if not all(sides):
        ours.verdict = "not run"
    elif ours.at_chance[0] or (ours.at_chance[1] and sign != "≪"):
        ours.verdict = "at chance"
    return ours


def paper_difference(y: dict[str, Any], x: dict[str, Any]) -> float:
    """Of two rows' top-1 errors, y - x in points; nan where the paper does not have it."""
    if above := x.get("top1_above"):
        return -above["points"] if above["runs"] == y.get("runs") else nan
    errors = y.get("top1"), x.get("top1")
    return nan if None in errors else errors[0] - errors[1]


def pooled(samples: list[tuple[str, np.ndarray]]) -> tuple[float, float]:
    """The variance of samples, each about its own mean, and its degrees of freedom. A net's samples count as one."""
    squares = defaultdict(list)
    for net, values in samples:
        if len(values) > 1:
            squares[net].append((len(values) * np.var(values), len(values) - 1))
    total, freedom = sum((np.mean(of_net, axis=0) for of_net in squares.values()), start=np.zeros(2))
    return total / max(freedom, 1), freedom


def statements(ours: Comparison, pool: tuple[float, float]) -> tuple[float, float] | None:
    """One-sided p of what would confirm and of what would deny the comparison; None where nothing can be shown.

    `pool`: the variance between seeds, and its degrees of freedom.
    """
    sizes, (variance, freedom) = [len(values) for _, values in ours.samples], pool
    if freedom < 2 or len(ours.images) > 1:
        return None
    difference, ((_, images),) = ours.difference, ours.images
    error = max(variance**0.5, 100 / images) * sum(1 / size for size in sizes) ** 0.5

    def below(bound: float) -> float:
        return stdtr(freedom, (difference - bound) / error)

    def above(bound: float) -> float:
        return stdtr(freedom, (bound - difference) / error)

    return {
        "<": (below(0), above(0)),
        "≪": (below(0), above(0)),
        "≥": (above(-MARGIN), below(0)),
        "≤": (below(MARGIN), above(MARGIN)),
        "≈": (max(below(MARGIN), above(-MARGIN)), 2 * min(above(MARGIN), below(-MARGIN))),
    }[ours.sign]


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of a family of tests."""
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def verdicts(lines: list[dict[str, Any]]) -> list[Claim]:
    """Every claim of the paper's, decided by evaluations on one data set."""
    found = by_cell(lines)
    paper = {cell(row): row for row in paper_rows()}
    blocks = [block.split("\n", 1) for block in re.split(r"\n(?=\d)", CLAIMS.strip())]
    texts = {head: [text.strip() for text in body.split(",")] for head, body in blocks}
    each = {text: compared(text, head, found, paper) for head, own in texts.items() for text in own}
    made = [ours for ours in each.values() if ours.verdict == "undecided"]
    pools = defaultdict(list)
    for ours in made:
        chance = [any(ours.at_chance)] if ours.paired else ours.at_chance
        pools[ours.pool] += [sample for sample, at in zip(ours.samples, chance, strict=True) if not at]
    spreads = {pool: pooled(samples) for pool, samples in pools.items()}
    tested = [(ours, p) for ours in made if (p := statements(ours, spreads[ours.pool]))]
    adjusted = holm(np.array([p for _, p in tested]).ravel()).reshape(-1, 2)
    for (ours, _), (confirm, deny) in zip(tested, adjusted.tolist(), strict=True):
        ours.p = deny if deny < ALPHA else min(confirm, deny)
        ours.verdict = "denied" if deny < ALPHA else "confirmed" if confirm < ALPHA else "undecided"
    return [Claim(*head.split(maxsplit=2), [each[text] for text in own]) for head, own in texts.items()]


def number(value: float, form: str) -> str:
    return "–" if isnan(value) else "<0.001" if form == ".3f" and value < 0.001 else format(value, form)


def rendered(data: str, runs: Path, form: str = "text") -> str:
    """Claims, comparisons and the rule as text, at most 120 columns wide, or as markdown."""
    lines = results(data, runs)
    rows = [HEADER]
    for claim in verdicts(lines):
        rows.append((f"{claim.number} {claim.text} (section {claim.section})", *[""] * 6, claim.verdict))
        for ours in claim.comparisons:
            y, x = (number(mean, ".1f") for mean in ours.means)
            seeds = "/".join(str(len(side)) for side in ours.sides)
            differences = number(ours.difference, "+.1f"), number(ours.paper, "+.1f")
            p = number(ours.mcnemar, ".3f"), seeds, number(ours.p, ".3f")
            rows.append(("  " + ours.label, f"{x} → {y}" if any(ours.sides) else "–", *differences, *p, ours.verdict))
    rule = (
        "† at several test scales (section 4.2), otherwise at one (4.1). Dense where no view is named; fused is dense\n"
        "and multi-crop. Errors in %; diff. is y - x in points; seeds: those of y / of x.\n"
        f"MARGIN = {MARGIN:g} point, ALPHA = {ALPHA:g}.\n" + (__doc__ or "").partition("\n")[2].rstrip()
    )
    if form == "markdown":
        rows.insert(1, (":--", *["--:"] * 6, ":--"))
        bold = [row if row[1] else [f"**{value}**" if value else "" for value in row] for row in rows]
        table = "\n".join("| " + " | ".join(row) + " |" for row in bold)
        return "\n\n".join([described(data, lines), table, rule])
    label, *widths = (max(len(row[place]) for row in rows if row[1]) for place in range(len(HEADER)))
    table = []
    for first, *numbers, verdict in rows:
        right = "".join(f"  {value:>{width}}" for value, width in zip(numbers, widths[:-1], strict=True))
        table.append(f"{first:<{label}}{right}  {verdict}")
        if not any(numbers):  # a claim, whose sentence may reach over the numbers
            table[-1] = f"\n{first:<{label + len(right)}}  {verdict}"
    return "\n\n".join([textwrap.fill(described(data, lines), 120), "\n".join(table), rule])
