"""Sections 3.1 and 4: training scales S and test scales Q, in the paper's pixels (those of a 224 crop).

S and Q are the smaller side of an isotropically rescaled image. A data set with another crop c uses
round(S * c / 224) real pixels.
"""

import numpy as np

PAPER_CROP = 224
MAX_POOLS = 5


def pooled(side: int, ceil_mode: bool) -> int:
    """Side of a 2x2 max pool's output, stride 2."""
    return -(-side // 2) if ceil_mode else side // 2


def map_side(side: int, ceil_mode: bool = False) -> int:
    """Side of the last max pool's output, in cells, for an input of `side` pixels (224 gives 7)."""
    for _ in range(MAX_POOLS):
        side = pooled(side, ceil_mode)
    return side


def real_pixels(scale: int, crop: int) -> int:
    """Smaller side in real pixels of the paper's scale S or Q at this training crop."""
    return round(scale * crop / PAPER_CROP)


def draw_scale(smin: int, smax: int, rng: np.random.Generator) -> int:
    """S for one access to one image: uniform over the whole numbers smin..smax (section 3.1, scale jittering)."""
    return int(rng.integers(smin, smax + 1))


def single_scale(smin: int, smax: int) -> tuple[int, ...]:
    """Section 4.1: Q = S for fixed S, 0.5 (Smin + Smax) for jittered S."""
    return ((smin + smax) // 2,)


def multi_scale(smin: int, smax: int) -> tuple[int, ...]:
    """Section 4.2: {S - 32, S, S + 32} for fixed S, {Smin, 0.5 (Smin + Smax), Smax} for jittered S."""
    if smin == smax:
        return (smin - 32, smin, smin + 32)
    return (smin, (smin + smax) // 2, smax)
