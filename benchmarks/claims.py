"""How often the rule of `python -m vgg claims` decides wrongly, and how much it decides. docs/claims.md has the table.

python benchmarks/claims.py [--grids 10000]

Grids are drawn: 3 to 10 seeds; spreads between a net's seeds that are equal, or differ by up to a factor of 20; nets
whose draws correlate with their parents' by 0, 0.5 and 0.9; views of a net that share its draw. A wrong verdict is
counted against the true errors: without any difference, with differences at the margins, with every step of a claim
but one far beyond, with all that can be true plainly so, and with the paper's own differences, once and three times.
Beside the rule stands Welch's test of every comparison, with Holm's adjustment over both statements of all of them.
"""

import argparse
import time
from itertools import product

import numpy as np
from scipy.special import betaincinv

from vgg.report.decision import ALPHA, MARGIN, Estimate, decided, estimate, holm, of_claim, statements, welch_freedom
from vgg.report.paper_claims import CLAIMS, MULTI_CROP, Claim, Side, parent, related

SIDES = list(dict.fromkeys(side for claim in CLAIMS for step in claim.steps for pair in step for side in pair))
NETS = list(dict.fromkeys(run for side in SIDES for run in side.runs))
SEEDS = range(3, 11)
SPREADS = {"equal": (1.0, 1.0), "up to 20-fold": (0.35, 7.0)}  # points; log-uniform between
CORRELATIONS = (0.0, 0.5, 0.9)
VIEW = 0.1  # of a net's spread: what its views spread besides
PHOTOS = 0.5  # points: the standard error from the images lies between 0 and this
CLUSTERS = 500  # groups of images that it is estimated from
PAPER = {
    **{"A-256": 29.6, "A-LRN-256": 29.7, "B-256": 28.7, "C-256": 28.1, "D-256": 27.0, "E-256": 27.3, "B-5x5-256": 35.7},
    **{"C-384": 28.1, "D-384": 26.8, "E-384": 26.9, "C-jitter": 27.3, "D-jitter": 25.6, "E-jitter": 25.5},
    **{"D-256-std001": 27.0, "D-256-std001-noA": 60.0, "D-256-glorot-noA": 27.0},
}
TRUTHS = (
    "no difference",
    "at the margins",
    "one step short",
    "all else true",
    "the paper's",
    "three times the paper's",
)
Errors = dict[Side, np.ndarray]


def true_errors(truth: str) -> dict[Side, float]:
    """In %, up to a constant, of every cell."""
    net, extra = dict.fromkeys(NETS, 0.0), dict.fromkeys(SIDES, 0.0)
    if truth in TRUTHS[1:4]:
        net |= {"A-LRN-256": -MARGIN, "D-256-glorot-noA": MARGIN}
        net |= {f"E-{scale}": MARGIN for scale in ("256", "384", "jitter")}
    if truth in TRUTHS[2:4]:
        net |= {"A-256": 40.0, "A-LRN-256": 40 - MARGIN, "B-256": 20.0, "B-5x5-256": 20.0}
    if truth == "one step short":  # D is not below C, fused is not below multi-crop
        extra = {side: -20.0 if side.views != ("dense",) else 0.0 for side in SIDES}
    if truth == "all else true":
        net |= {"B-5x5-256": 40.0, "D-256-std001-noA": 40.0}
        of_views = {("dense",): 0, MULTI_CROP: -10}
        extra = {side: -20.0 * side.several + of_views.get(side.views, -20) for side in SIDES}
    if truth in TRUTHS[4:]:
        times = 1 + 2 * (truth == TRUTHS[5])
        net = {name: times * error for name, error in PAPER.items()}
        net |= {"A-LRN-256": net["A-256"] + 0.1, "E-256": net["D-256"] + 0.3}  # what is said to be equal
        of_views = {MULTI_CROP: -0.2, ("dense", "multicrop"): -0.4}
        extra = {
            side: times * (-0.5 * side.several + of_views.get(side.views, 0) - 0.7 * (len(side.runs) - 1))
            for side in SIDES
        }
    return {side: float(np.mean([net[run] for run in side.runs])) + extra[side] for side in SIDES}


def true_verdicts(errors: dict[Side, float]) -> np.ndarray:
    """(claims, 2) bool: whether it is right to confirm a claim, and to deny it."""
    verdicts = []
    for claim in CLAIMS:
        steps = np.round([np.mean([errors[y] - errors[x] for y, x in step]) for step in claim.steps], 9)
        verdicts.append(
            {
                "<": (all(steps < 0), any(steps > 0)),
                "≪": (all(steps < 0), any(steps > 0)),
                "≥": (steps[0] > -MARGIN, steps[0] < 0),
                "≤": (steps[0] < MARGIN, steps[0] > MARGIN),
                "≈": (abs(steps[0]) < MARGIN, abs(steps[0]) > MARGIN),
            }[claim.sign]
        )
    return np.array(verdicts)


def drawn(
    rng: np.random.Generator, truth: dict[Side, float], shape: tuple[int, int], spread: str, rho: float
) -> Errors:
    """Errors (grids, seeds) of every cell."""
    draws: dict[str, np.ndarray] = {}

    def draw(net: str) -> np.ndarray:
        if net not in draws:
            start, fresh = parent(net), rng.standard_normal(shape)
            draws[net] = fresh if start is None else rho * draw(start) + (1 - rho**2) ** 0.5 * fresh
        return draws[net]

    low, high = np.log(SPREADS[spread])
    spreads = {net: np.exp(rng.uniform(low, high, (shape[0], 1))) for net in NETS}
    return {
        side: truth[side]
        + sum(spreads[net] * draw(net) for net in side.runs) / len(side.runs)
        + VIEW * sum(spreads[net] for net in side.runs) / len(side.runs) * rng.standard_normal(shape)
        for side in SIDES
    }


def with_photos(rng: np.random.Generator, sign: str, found: Estimate, error: np.ndarray) -> Estimate:
    """The estimate on a sample of photos, whose standard error is `error` (grids,) and is itself estimated."""
    if sign in "<≪":
        return found
    sampled = found.difference + error * rng.standard_normal(len(error))
    return Estimate(sampled, found.variance + error**2 * rng.chisquare(CLUSTERS, len(error)) / CLUSTERS, found.freedom)


def by_rule(rng: np.random.Generator, errors: Errors, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(grids, claims): confirmed and denied, as `python -m vgg claims` decides."""

    def of_step(claim: Claim, step: tuple[tuple[Side, Side], ...]) -> Estimate:
        y, x = (sum(errors[pair[place]] for pair in step) / len(step) for place in (0, 1))
        return with_photos(rng, claim.sign, estimate(y, x, related(step)), photos)

    both = [of_claim(claim.sign, [of_step(claim, step) for step in claim.steps]) for claim in CLAIMS]
    return decided(*(np.stack(p, axis=-1) for p in zip(*both, strict=True)))[:2]


def by_comparison(rng: np.random.Generator, errors: Errors, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(grids, claims): a claim is confirmed where all its comparisons are, denied where one is."""
    found = {}
    for claim in CLAIMS:
        for y, x in (pair for step in claim.steps for pair in step if (*pair, claim.sign) not in found):
            same_net = not set(y.runs).isdisjoint(x.runs)
            one = estimate(errors[y], errors[x], related=True) if same_net else welch(errors[y], errors[x])
            found[y, x, claim.sign] = statements(claim.sign, with_photos(rng, claim.sign, one, photos))
    both = holm(np.stack([p[0] for p in found.values()] + [p[1] for p in found.values()], axis=-1)) < ALPHA
    confirmed, denied = (dict(zip(found, part.T, strict=True)) for part in np.split(both, 2, axis=-1))
    keys = [[(y, x, claim.sign) for step in claim.steps for y, x in step] for claim in CLAIMS]
    return (
        np.stack([np.all([confirmed[key] for key in of_claim], axis=0) for of_claim in keys], axis=-1),
        np.stack([np.any([denied[key] for key in of_claim], axis=0) for of_claim in keys], axis=-1),
    )


def welch(y: np.ndarray, x: np.ndarray) -> Estimate:
    """Welch's estimate, however many seeds there are."""
    seeds, of_y, of_x = y.shape[-1], y.var(-1, ddof=1), x.var(-1, ddof=1)
    return Estimate(y.mean(-1) - x.mean(-1), (of_y + of_x) / seeds, welch_freedom(of_y, of_x, seeds))


def upper_bound(wrong: int, grids: int) -> float:
    """Of a rate in %, with 95 % confidence (Clopper and Pearson)."""
    return float(100 * betaincinv(wrong + 1, grids - wrong, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=10_000)
    grids, start = parser.parse_args().grids, time.monotonic()
    rules = {"rule": by_rule, "Welch": by_comparison}
    bounds: dict[tuple[str, int], list[tuple[float, str]]] = {}
    power: dict[tuple[str, int], list[float]] = {}
    for number, (truth, spread, rho, seeds) in enumerate(product(TRUTHS, SPREADS, CORRELATIONS, SEEDS)):
        true = true_errors(truth)
        right = true_verdicts(true)
        rng = np.random.default_rng(number)
        errors = drawn(rng, true, (grids, seeds), spread, rho)
        photos = rng.uniform(0, PHOTOS, grids)
        for rule, decide in rules.items():
            confirmed, denied = decide(np.random.default_rng(number), errors, photos)
            wrong = ((confirmed & ~right[:, 0]) | (denied & ~right[:, 1])).any(-1).sum()
            bounds.setdefault((rule, seeds), []).append((upper_bound(wrong, grids), f"{truth}, {spread}, {rho}"))
            of_grid = ((confirmed & right[:, 0]) | (denied & right[:, 1])).sum(-1)
            power.setdefault((rule, seeds), []).append(float(of_grid.mean()))
    scenarios = len(TRUTHS) * len(SPREADS) * len(CORRELATIONS)
    print(f"{scenarios} scenarios of {grids:,} grids for each number of seeds, {time.monotonic() - start:.0f} s")
    print("highest upper 95 % bound of the rate of any wrong verdict, %; claims decided rightly of", len(CLAIMS))
    print("with the paper's differences, once and three times (mean); least gain over Welch in any scenario")
    print("seeds   rule, bound   Welch, bound   rule, decided   Welch, decided   least gain")
    of_paper = scenarios // len(TRUTHS) * 4
    for seeds in SEEDS:
        ours, other = power["rule", seeds], power["Welch", seeds]
        print(
            f"{seeds:5}   {max(bounds['rule', seeds])[0]:11.2f}   {max(bounds['Welch', seeds])[0]:12.2f}"
            f"   {np.mean(ours[of_paper:]):13.2f}   {np.mean(other[of_paper:]):14.2f}"
            f"   {min(a - b for a, b in zip(ours, other, strict=True)):10.3f}"
        )
    worst = max(bound for seeds in SEEDS for bound in bounds["rule", seeds])
    print(f"the highest: {worst[0]:.2f} % ({worst[1]})")


if __name__ == "__main__":
    main()
