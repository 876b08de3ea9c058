"""Sections 3.1 and 4: training scales S and test scales Q, in the paper's pixels, and the geometry of smaller data.

S and Q are the smaller side of an isotropically rescaled image. A data set of scale 1/2, 1/4 or 1/8 has that part of
the paper's pixels, and its nets leave out their first 1, 2 or 3 max pools: the last map of a training crop is 7x7 at
every scale, and the class score map of an image is the paper's.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PAPER_CROP = 224

MAX_POOLS = 5

SCALES = (1.0, 0.5, 0.25, 0.125)


def real_pixels(pixels: int, scale: float) -> int:
    """The paper's pixels, of a crop, S or Q, in real pixels of data of this scale.

    Rounded down: rounding to the nearest gives another map side than the paper's at some Q.
    """
    return math.floor(pixels * scale)


def left_out(scale: float) -> int:
    """How many halvings, the first ones, a net of this scale leaves out: 0, 1, 2 or 3. ValueError for another scale."""
    if scale not in SCALES:
        raise ValueError(f"scale={scale:g} is not one of {', '.join(f'{one:g}' for one in SCALES)}")
    return SCALES.index(scale)


def cell_stride(scale: float) -> int:
    """Real pixels from one cell of the class score map to the next."""
    return 2 ** (MAX_POOLS - left_out(scale))


def map_side(side: int, scale: float, ceil_mode: bool = False) -> int:
    """Side in cells of the last max pool's output, for an input side in real pixels; a training crop gives 7."""
    for _ in range(MAX_POOLS - left_out(scale)):
        side = -(-side // 2) if ceil_mode else side // 2
    return side


def score_map_side(q: int, scale: float, ceil_mode: bool = False) -> int:
    """Side in cells of the class score map on the short side of an image: floor(Q / 32) - 6 at every scale."""
    return map_side(real_pixels(q, scale), scale, ceil_mode) - map_side(real_pixels(PAPER_CROP, scale), scale) + 1


def draw_scale(smin: int, smax: int, rng: "np.random.Generator") -> int:
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
