"""How claims are decided: tests of differences between errors, and the family of them. docs/claims.md has the reasons.

Arrays have any leading axes: benchmarks/claims.py measures with 10,000 grids at once what one grid is decided by.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

MARGIN = 1.0  # points: about one step between neighbouring depths in Table 3, 0.6 to 1.1

ALPHA = 0.05

SEEDS = 3  # fewer decide nothing

PAIRED_FROM = 5  # seeds, from which on any two nets are compared seed by seed

POWER = 0.8  # of the number of seeds that would decide a claim

MOST_SEEDS = 1000  # that are tried for it


class Estimate(NamedTuple):
    """A difference y - x in points, the variance of its estimate, and the variance's degrees of freedom."""

    difference: np.ndarray
    variance: np.ndarray
    freedom: np.ndarray


def estimate(y: np.ndarray, x: np.ndarray, related: bool, grain: float = 0.0) -> Estimate:
    """Of errors (..., seeds) in %, column by column of the same seed.

    Seed by seed where the nets are the same or parent and child (`related`), or where there are many seeds; else by
    Welch. No standard deviation counts as less than `grain`.
    """
    seeds = y.shape[-1]
    difference = y.mean(-1) - x.mean(-1)
    if related or seeds >= PAIRED_FROM:
        variance = np.maximum((y - x).var(-1, ddof=1), grain**2) / seeds
        return Estimate(difference, variance, np.full(variance.shape, seeds - 1.0))
    of_y, of_x = (np.maximum(side.var(-1, ddof=1), grain**2) for side in (y, x))
    return Estimate(difference, (of_y + of_x) / seeds, welch_freedom(of_y, of_x, seeds))


def welch_freedom(of_y: np.ndarray, of_x: np.ndarray, seeds: int) -> np.ndarray:
    """Degrees of freedom by Welch, from the variances between the seeds of two sides that have equally many."""
    return (seeds - 1) * (of_y + of_x) ** 2 / np.maximum(of_y**2 + of_x**2, 1e-300)


def statements(sign: str, measured: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p of what would confirm y SIGN x, and of what would deny it."""
    difference, variance, freedom = measured
    error = np.sqrt(np.maximum(variance, 1e-24))

    def below(bound: float) -> np.ndarray:
        return stdtr(freedom, (difference - bound) / error)

    def above(bound: float) -> np.ndarray:
        return stdtr(freedom, (bound - difference) / error)

    if sign in "<≪":
        return below(0), above(0)
    if sign == "≥":
        return above(-MARGIN), below(0)
    if sign == "≤":
        return below(MARGIN), above(MARGIN)
    size = np.abs(difference)
    other_end = stdtr(freedom, (-MARGIN - size) / error)
    return np.maximum(below(MARGIN), above(-MARGIN)), stdtr(freedom, (MARGIN - size) / error) + other_end


def weight(sign: str) -> int:
    """How many of a claim's two statements can be wrong at once: of y ≥ x one, as less than x - MARGIN is below x."""
    return 1 if sign == "≥" else 2


def of_claim(sign: str, steps: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """p of a claim's two statements: it needs every step, and is denied by any one."""
    confirm, deny = zip(*(statements(sign, step) for step in steps), strict=True)
    return weight(sign) * np.max(confirm, axis=0), weight(sign) * len(steps) * np.min(deny, axis=0)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of families of tests (..., tests)."""
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(steps, axis=-1).clip(max=1), -1)
    return adjusted


def decided(confirm: np.ndarray, deny: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(confirmed, denied, adjusted p) of claims (..., claims) from the p of their two statements."""
    p = holm(np.minimum(confirm, deny))
    return (p < ALPHA) & (confirm <= deny), (p < ALPHA) & (deny < confirm), p


class Spread(NamedTuple):
    """What a step's test of n seeds is planned by: all in points², but for the difference, in points."""

    difference: float
    between: float  # variance of one seed's difference y - x
    of_y: float  # variance between the seeds of each side
    of_x: float
    photos: float  # variance that more seeds do not lessen
    related: bool

    @classmethod
    def of(cls, y: np.ndarray, x: np.ndarray, related: bool, grain: float, photos: float) -> "Spread":
        """As it is observed over two seeds or more."""
        between, of_y, of_x = (max(float(values.var(ddof=1)), grain**2) for values in (y - x, y, x))
        return cls(float(y.mean() - x.mean()), between, of_y, of_x, photos, related)

    def planned(self, seeds: int) -> tuple[float, float]:
        """(standard error, degrees of freedom) with so many seeds."""
        if self.related or seeds >= PAIRED_FROM:
            return (self.between / seeds + self.photos) ** 0.5, seeds - 1.0
        error = ((self.of_y + self.of_x) / seeds + self.photos) ** 0.5
        return error, float(welch_freedom(self.of_y, self.of_x, seeds))


def power(sign: str, step: Spread, seeds: int, level: float) -> tuple[float, float]:
    """The chance that a step's test confirms at this level, and that it denies, were all as it looks."""
    error, freedom = step.planned(seeds)
    reach = -stdtrit(freedom, level)

    def below(bound: float) -> float:
        return float(nctdtr(freedom, (step.difference - bound) / error, -reach))

    def above(bound: float) -> float:
        return float(nctdtr(freedom, (bound - step.difference) / error, -reach))

    if sign in "<≪":
        return below(0), above(0)
    if sign == "≥":
        return above(-MARGIN), below(0)
    if sign == "≤":
        return below(MARGIN), above(MARGIN)
    return max(below(MARGIN) + above(-MARGIN) - 1, 0.0), above(MARGIN) + below(-MARGIN)


def seeds_needed(sign: str, steps: Sequence[Spread], claims: int) -> int | None:
    """The fewest seeds that decide a claim with a chance of POWER, as the first of so many; None beyond MOST_SEEDS.

    The differences and spreads are taken as they look.
    """

    def enough(seeds: int) -> bool:
        level = ALPHA / claims / weight(sign)
        confirm = 1 - sum(1 - power(sign, step, seeds, level)[0] for step in steps)
        deny = max(power(sign, step, seeds, level / len(steps))[1] for step in steps)
        return max(confirm, deny) >= POWER

    low, high = SEEDS, SEEDS
    while not enough(high):
        if high == MOST_SEEDS:
            return None
        low, high = high + 1, min(2 * high, MOST_SEEDS)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
