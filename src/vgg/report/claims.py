"""The paper's claims, each confirmed, denied or undecided by our evaluations: `python -m vgg claims`.

docs/claims.md has the rule and its reasons, paper_claims.py the claims, decision.py the tests.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isnan, nan

import numpy as np
import yaml
from scipy.special import ndtri

from vgg.core.errors import UserError, require
from vgg.core.paper import ErrorRow, error_rows
from vgg.core.paths import REPOSITORY
from vgg.evaluation.errors import VIEW_NAMES
from vgg.evaluation.records import Classification
from vgg.evaluation.sampling import mcnemar, photo_variance
from vgg.evaluation.selection import BySeed, Origins, by_cell, current, row_cell
from vgg.report import decision
from vgg.report.decision import ALPHA, MARGIN, SEEDS, Estimate
from vgg.report.paper_claims import CLAIMS, Claim, Side, related
from vgg.report.tables import described, net_name

FIXED_SEEDS = REPOSITORY / "results" / "seeds.yaml"

HEADER = ("comparison", "ours x→y", "diff.", "paper", "McNemar p", "seeds", "adj. p", "verdict")

RULE = (
    "† at several test scales (section 4.2), otherwise at one (4.1). Dense where no view is named; fused is dense and "
    "multi-crop. Errors in %, the means over seeds; diff. is y - x in points; seeds: those of y / of x. A claim is one "
    "test, on the mean of its comparisons' differences seed by seed, or each step that it needs is; p is adjusted by "
    f"Holm over the claims, and p < {ALPHA:g} decides. ≈, ≥ and ≤ are within {MARGIN:g} point, over photos as well. "
    "McNemar's test is of the lowest seed and decides nothing. docs/claims.md has the rule."
)


@dataclass(frozen=True)
class Comparison:
    """Two cells of a claim: our evaluations of y and of x by seed, the paper's difference y - x."""

    label: str
    sign: str
    sides: tuple[BySeed, BySeed]
    paper: float  # points; nan where the paper does not have it

    @property
    def made(self) -> bool:
        """Whether both sides were evaluated."""
        return all(self.sides)

    @property
    def means(self) -> tuple[float, float]:
        """Of y and of x over all their seeds, in %; nan where there is none."""
        y, x = (float(np.mean([line.top1 for line in side.values()])) if side else nan for side in self.sides)
        return y, x

    @property
    def seeds(self) -> list[int]:
        """Those that both sides have."""
        return sorted(self.sides[0].keys() & self.sides[1].keys())

    @property
    def difference(self) -> float:
        """y - x in points, over the seeds of both sides; of others' means where they share none."""
        if not self.seeds:
            return self.means[0] - self.means[1]
        return float(np.mean([self.sides[0][seed].top1 - self.sides[1][seed].top1 for seed in self.seeds]))

    @property
    def holds(self) -> bool:
        """Whether our mean difference is as the claim says, however little."""
        size = self.difference
        return {"<": size < 0, "≪": size < 0, "≥": size > -MARGIN, "≤": size < MARGIN, "≈": abs(size) < MARGIN}[
            self.sign
        ]

    @property
    def mcnemar(self) -> float:
        """McNemar's p of the lowest seed that both sides have, nan without one."""
        p = mcnemar(*(side[self.seeds[0]] for side in self.sides)) if self.seeds else None
        return nan if p is None else p

    @property
    def state(self) -> str:
        return "not run" if not self.made else "holds" if self.holds else "does not hold"


@dataclass(frozen=True)
class Decision:
    """A claim and what came of it."""

    claim: Claim
    steps: tuple[tuple[Comparison, ...], ...]
    verdict: str = "undecided"  # or confirmed, denied, at chance, undecidable here, not run
    reason: str = ""  # why there is no verdict
    p: float = nan  # adjusted
    estimates: tuple[Estimate, ...] = field(default=(), repr=False)

    @property
    def comparisons(self) -> list[Comparison]:
        return [comparison for step in self.steps for comparison in step]

    @property
    def hold(self) -> str:
        """k of n hold."""
        made = [comparison for comparison in self.comparisons if comparison.made]
        return f"{sum(comparison.holds for comparison in made)} of {len(self.comparisons)} hold"

    @property
    def title(self) -> str:
        return f"{self.claim.number} {self.claim.text} (section {self.claim.section})"

    @property
    def summary(self) -> str:
        """What stands beneath a claim: k of n hold, and why it is undecided."""
        return "; ".join(part for part in (self.hold, self.reason) if part)


def seeds_by_data() -> dict[str, tuple[int, ...]]:
    """The seeds that decide about each data set, fixed before the first verdict was read: results/seeds.yaml."""
    try:
        by_data = yaml.safe_load(FIXED_SEEDS.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{FIXED_SEEDS} cannot be read: {str(error).splitlines()[0]}") from error
    require(isinstance(by_data, dict), f"{FIXED_SEEDS}: a line is DATA: [1, 2, 3]")
    for data, seeds in by_data.items():
        whole = isinstance(seeds, list) and all(isinstance(one, int) for one in seeds) and len(set(seeds)) == len(seeds)
        require(whole, f"{FIXED_SEEDS}: {data}: {seeds} is no list of different whole numbers, as [1, 2, 3]")
    return {data: tuple(seeds) for data, seeds in by_data.items()}


def fixed_seeds(data: str) -> tuple[int, ...] | None:
    """The seeds that decide about this data; None where none are fixed."""
    return seeds_by_data().get(data)


def side_name(side: Side) -> str:
    """B 256, D [256;512]†, multi-crop."""
    view = {("dense",): "", ("dense", "multicrop"): ", fused"}.get(side.views)
    view = f", {VIEW_NAMES[side.views[0]]}" if view is None else view
    return " + ".join(map(net_name, side.runs)) + "†" * side.several + view


def label(y: Side, sign: str, x: Side) -> str:
    """A comparison in words; a view that both sides have is said once."""
    left = side_name(y)
    return f"{left.partition(',')[0] if y.views == x.views else left} {sign} {side_name(x)}"


def paper_difference(y: ErrorRow | None, x: ErrorRow | None) -> float:
    """Of two rows' top-1 errors, y - x in points; nan where the paper does not have it."""
    if y is None or x is None:
        return nan
    if x.top1_above is not None:
        return -x.top1_above.points if x.top1_above.runs == y.runs else nan
    return nan if y.top1 is None or x.top1 is None else y.top1 - x.top1


def compared(claim: Claim, evaluated: Mapping, paper: Mapping) -> Decision:
    """A claim with our evaluations and the paper's differences."""
    return Decision(
        claim,
        tuple(
            tuple(
                Comparison(
                    label(y, claim.sign, x),
                    claim.sign,
                    (evaluated.get(y.cell, {}), evaluated.get(x.cell, {})),
                    paper_difference(paper.get(y.cell), paper.get(x.cell)),
                )
                for y, x in step
            )
            for step in claim.steps
        ),
    )


def objection(case: Decision, with_past: Decision, seeds: tuple[int, ...] | None, data: str) -> tuple[str, str] | None:
    """(verdict, reason) where nothing can be tested; None where the claim is tested.

    `with_past` is the claim with the evaluations of weights that are gone as well.
    """
    comparisons = case.comparisons
    for ours, past in zip(comparisons, with_past.comparisons, strict=True):
        gone = sorted(set(past.seeds).difference(ours.seeds).intersection(seeds or past.seeds))
        if gone:
            return "undecided", f"{ours.label}, seed {gone[0]}: a net was trained anew after it was evaluated"
    missing = sum(not comparison.made for comparison in comparisons)
    if missing == len(comparisons):
        return "not run", ""
    if missing:
        return "undecided", f"{missing} of {len(comparisons)} comparisons not run"
    for comparison in comparisons:
        for number, side in enumerate(comparison.sides):
            stuck = [seed for seed, line in sorted(side.items()) if line.at_chance and seed in (seeds or side)]
            if stuck and not (case.claim.sign == "≪" and number == 1):
                return "at chance", f"{', '.join(side[stuck[0]].runs)} is at chance"
    if seeds is None:
        return "undecided", f"results/seeds.yaml fixes no seeds of {data}"
    if len(seeds) < SEEDS:
        return "undecided", f"results/seeds.yaml fixes {len(seeds)} seeds, fewer than {SEEDS} decide nothing"
    lacking = sorted(set(seeds) - set.intersection(*(set(comparison.seeds) for comparison in comparisons)))
    if lacking:
        return "undecided", f"not all cells have seed{'s' * (len(lacking) > 1)} {', '.join(map(str, lacking))}"
    return None


def step_errors(step: Sequence[Comparison], seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(seeds,) each: the mean error of the comparisons' y sides, and of their x sides."""
    y, x = (
        np.array([np.mean([comparison.sides[number][seed].top1 for comparison in step]) for seed in seeds])
        for number in (0, 1)
    )
    return y, x


def one_image(step: Sequence[Comparison]) -> float:
    """What one image changes a step's error by, in points: no standard deviation counts as less."""
    return 100 / images_of(step) / len(step)


def images_of(step: Sequence[Comparison]) -> int:
    return next(iter(step[0].sides[0].values())).images


def estimates(case: Decision, seeds: Sequence[int]) -> tuple[Estimate, ...] | None:
    """Of every step over these seeds; None where the sampling of photos matters and cannot be told."""
    of_steps = []
    for step, sides in zip(case.steps, case.claim.steps, strict=True):
        y, x = step_errors(step, seeds)
        one = decision.estimate(y, x, related(sides), one_image(step))
        if case.claim.sign not in "<≪":
            photos = photos_of(step, seeds)
            if photos is None:
                return None
            one = one._replace(variance=one.variance + photos)
        of_steps.append(one)
    return tuple(of_steps)


def photos_of(step: Sequence[Comparison], seeds: Sequence[int]) -> float | None:
    """The variance in points² that the sampling of photos gives a step's difference, of its one comparison."""
    ((y, x),) = (comparison.sides for comparison in step)
    return photo_variance([y[seed] for seed in seeds], [x[seed] for seed in seeds])


def least_images(claim: Claim, photos: float, images: int) -> int:
    """The fewest images with which the claim could be confirmed, were the nets equal and no seed different."""
    reach = -ndtri(ALPHA / decision.weight(claim.sign))
    return ceil(images * photos * (reach / MARGIN) ** 2)


def needed(case: Decision) -> str:
    """How many seeds would probably decide a claim, from the differences and spreads at hand."""
    common = set.intersection(*(set(comparison.seeds) for comparison in case.comparisons))
    if len(common) < 2:
        return f"at least {SEEDS} seeds would decide it"
    seeds = sorted(common)
    parts = []
    for step, sides in zip(case.steps, case.claim.steps, strict=True):
        y, x = step_errors(step, seeds)
        photos = photos_of(step, seeds) if case.claim.sign not in "<≪" else 0.0
        if photos is None:
            return "images that some lines left out make it undecidable"
        parts.append(decision.Spread.of(y, x, related(sides), one_image(step), photos))
    count = decision.seeds_needed(case.claim.sign, parts, len(CLAIMS))
    if count is None:
        return f"more than {decision.MOST_SEEDS} seeds would be needed"
    return f"about {count} seeds would decide it"


def verdicts(lines: Sequence[Classification], data: str, seeds: tuple[int, ...] | None) -> list[Decision]:
    """Every claim of the paper's, decided by evaluations of one origin on one data set, by these seeds."""
    paper = {row_cell(row): row for row in error_rows()}
    cells, with_past = by_cell(current(lines)), by_cell(lines)
    decisions = [compared(claim, cells, paper) for claim in CLAIMS]
    tested: dict[int, tuple[Estimate, ...]] = {}
    for index, one in enumerate(decisions):
        if (objected := objection(one, compared(one.claim, with_past, paper), seeds, data)) is not None:
            decisions[index] = replace(one, verdict=objected[0], reason=objected[1])
        elif (parts := estimates(one, seeds)) is None:
            decisions[index] = replace(one, reason="some lines left images out: which photos they share is not known")
        else:
            tested[index] = parts
    if tested:
        both = [decision.of_claim(decisions[index].claim.sign, parts) for index, parts in tested.items()]
        confirmed, denied, p = decision.decided(*map(np.array, zip(*both, strict=True)))
        for number, (index, parts) in enumerate(tested.items()):
            verdict = "confirmed" if confirmed[number] else "denied" if denied[number] else "undecided"
            decisions[index] = replace(decisions[index], verdict=verdict, p=float(p[number]), estimates=parts)
    return [explained(one, seeds) for one in decisions]


def explained(case: Decision, seeds: tuple[int, ...] | None) -> Decision:
    """With the number of images that it needs at least, and where it is undecided the number of seeds."""
    reasons = [case.reason] if case.reason else []
    all_made = all(comparison.made for comparison in case.comparisons)
    verdict = case.verdict
    common = set.intersection(*(set(comparison.seeds) for comparison in case.comparisons))
    if all_made and common and case.claim.sign not in "<≪":
        (step,) = case.steps
        images = images_of(step)
        photos = photos_of(step, sorted(common & set(seeds or common)) or sorted(common))
        if photos is not None:
            least = least_images(case.claim, photos, images)
            reasons.append(f"at least {least:,} images are needed to confirm it")
            if verdict == "undecided" and images < least:
                verdict = "undecidable here"
    if verdict == "undecided":
        reasons.append(needed(case) if all_made else f"at least {SEEDS} seeds would decide it")
    return replace(case, verdict=verdict, reason="; ".join(reasons))


def decided(origins: Origins) -> list[Decision]:
    """Every claim, by the evaluations that are shown of this data."""
    return verdicts(origins.ours(Classification), origins.data, fixed_seeds(origins.data))


def number(value: float, form: str) -> str:
    return "–" if isnan(value) else "<0.001" if form == ".3f" and value < 0.001 else format(value, form)


def comparison_cells(ours: Comparison) -> tuple[str, ...]:
    """One comparison's line, as HEADER has it."""
    y, x = (number(mean, ".1f") for mean in ours.means)
    differences = number(ours.difference, "+.1f"), number(ours.paper, "+.1f")
    seeds = "/".join(str(len(side)) for side in ours.sides)
    means = f"{x} → {y}" if any(ours.sides) else "–"
    return (ours.label, means, *differences, number(ours.mcnemar, ".3f"), seeds, "", ours.state)


def rendered(origins: Origins, form: str = "text") -> str:
    """Claims, comparisons and the rule as text, at most 120 columns wide, or as markdown."""
    decisions, seeds = decided(origins), fixed_seeds(origins.data)
    fixed = "Seeds that decide: " + (", ".join(map(str, seeds)) if seeds else "none") + " (results/seeds.yaml)."
    about = [*described(origins).splitlines(), fixed]
    if form == "markdown":
        rows = [HEADER, (":--", *["--:"] * 6, ":--")]
        for one in decisions:
            rows.append((f"**{one.title}**; {one.summary}", *[""] * 5, number(one.p, ".3f"), f"**{one.verdict}**"))
            rows += map(comparison_cells, one.comparisons)
        return "\n\n".join(["\n".join(about), "\n".join("| " + " | ".join(row) + " |" for row in rows), RULE])
    rows = [HEADER, *(comparison_cells(comparison) for one in decisions for comparison in one.comparisons)]
    label, *widths = (max(len(row[column]) for row in rows) for column in range(len(HEADER) - 1))

    def text(first: str, numbers: Sequence[str], last: str) -> str:
        right = "".join(f"  {value:>{width}}" for value, width in zip(numbers, widths, strict=True))
        return f"{first:<{label}}{right}  {last}".rstrip()

    label, reach = label + 2, label + 2 + sum(widths[:-1]) + 2 * (len(widths) - 1)
    table = [text(HEADER[0], HEADER[1:-1], HEADER[-1])]
    for one in decisions:
        table += ["", f"{one.title:<{reach}}  {number(one.p, '.3f'):>{widths[-1]}}  {one.verdict}"]
        table += textwrap.wrap(one.summary, 120, initial_indent="  ", subsequent_indent="  ")
        cells = map(comparison_cells, one.comparisons)
        table += [text("  " + first, numbers, last) for first, *numbers, last in cells]
    wrapped = [textwrap.fill(sentence, 120) for sentence in about]
    return "\n\n".join(["\n".join(wrapped), "\n".join(table), textwrap.fill(RULE, 120)])
