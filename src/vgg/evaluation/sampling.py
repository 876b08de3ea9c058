"""Errors as samples: of photos, which several images may show, and of seeds. docs/claims.md has the reasons.

On the digits the photo is the handwritten digit: several scenes show the same one. Elsewhere every image is one.
"""

import base64
import zlib
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from scipy.special import bdtr, ndtr, stdtrit

from vgg.core.errors import UserError
from vgg.evaluation.records import Classification, Localisation

Z = 1.959964  # of a 95 % interval


def groups_of(form: str, files: Sequence[str]) -> np.ndarray | None:
    """(images,) numbers of the photos, from 0 in the order of first appearance; None where each image is its own."""
    if form != "digits":
        return None
    names = [PurePath(file).stem.partition("-")[0] for file in files]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def packed_groups(groups: np.ndarray | None) -> str | None:
    """As text: the differences between neighbours, compressed. None where each image is its own group."""
    if groups is None or len(set(groups.tolist())) == len(groups):
        return None
    steps = np.diff(groups, prepend=0).astype("<i4")
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode()


def groups_in(line: Classification | Localisation) -> np.ndarray:
    """(images,) numbers of the photos that a line's images show."""
    if line.groups is None:
        return np.arange(line.images)
    try:
        groups = np.frombuffer(zlib.decompress(base64.b64decode(line.groups)), "<i4").cumsum()
    except (ValueError, zlib.error) as error:
        raise UserError(f"the groups of {' + '.join(line.runs)}'s images are damaged: evaluate again") from error
    if len(groups) != line.images:
        raise UserError(f"{' + '.join(line.runs)} has groups of {len(groups)} images for {line.images}: evaluate again")
    return groups


def variance_of_mean(values: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean of values (images,), where images of one group are one sample: cluster-robust."""
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], values - values.mean())
    count = len(sums)
    return float((sums**2).sum() / len(values) ** 2 * count / max(count - 1, 1))


def wilson(share: float, images: float) -> tuple[float, float]:
    """Wilson's 95 % interval, in %, of an error rate 0..1 in so many independent images, which may be a fraction."""
    centre = share + Z * Z / (2 * images)
    half = Z * (share * (1 - share) / images + Z * Z / (4 * images * images)) ** 0.5
    low, high = ((centre + end) / (1 + Z * Z / images) for end in (-half, half))
    return (100 * max(low, 0.0) if share else 0.0), (100 * min(high, 1.0) if share < 1 else 100.0)


def interval(right: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of one evaluation's error, in %: Wilson's, of as many images as its groups are worth."""
    share, images = float((~right).mean()), len(right)
    photos = len(np.unique(groups))
    if photos < images:
        variance = variance_of_mean(~right, groups)
        images = min(share * (1 - share) / variance, images) if variance else photos
    return wilson(share, images)


def mean_interval(lines: Sequence[Classification | Localisation], key: str) -> tuple[float, float]:
    """The 95 % interval, in %, of the mean error of several seeds, over seeds and photos; of one its own.

    Student's t, with the spread between seeds and the cluster-robust variance of the seeds' mean over the photos, and
    Satterthwaite's degrees of freedom.
    """
    if len(lines) == 1:
        return getattr(lines[0], f"{key}_interval")
    errors = np.array([getattr(line, key) for line in lines])
    of_seeds = errors.var(ddof=1) / len(errors)
    of_photos = photo_variance(lines, key=key)
    if of_photos is None:  # which images were left out is not kept: each line's own is an upper bound
        of_photos = float(np.mean([photo_variance([line], key=key) for line in lines]))
    groups = len(np.unique(groups_in(lines[0])))
    spread = of_seeds**2 / (len(errors) - 1) + of_photos**2 / max(groups - 1, 1)
    reach = 0.0
    if spread:
        reach = stdtrit((of_seeds + of_photos) ** 2 / spread, 0.975) * (of_seeds + of_photos) ** 0.5
    return max(float(errors.mean() - reach), 0.0), min(float(errors.mean() + reach), 100.0)


def photo_variance(
    y: Sequence[Classification | Localisation], x: Sequence[Classification | Localisation] = (), key: str = "top1"
) -> float | None:
    """The variance in points² that the sampling of photos gives the mean of y's errors, or that less x's.

    None where the lines are not about the same images one by one: some left out what they could not read.
    """
    lines = [*y, *x]
    images = {(line.images_sha256, line.images) for line in lines}
    if len(images) > 1 or (len(lines) > 1 and any(line.skipped for line in lines)):
        return None
    wrong = [100.0 * np.mean([~line.correct(key) for line in side], axis=0) for side in (y, x) if side]
    return variance_of_mean(wrong[0] - wrong[1] if x else wrong[0], groups_in(lines[0]))


def mcnemar(y: Classification, x: Classification) -> float | None:
    """Two-sided p that the images only one of two nets has right are equally many on both sides; None where the lines
    are not about the same images.

    Exact; where several images show one photo, by Obuchowski's statistic over the photos.
    """
    if (y.images_sha256, y.images) != (x.images_sha256, x.images) or y.skipped or x.skipped:
        return None
    balance = y.correct().astype(int) - x.correct()
    groups = groups_in(y)
    if y.groups is None:
        only_y, only_x = int((balance > 0).sum()), int((balance < 0).sum())
        return float(min(1.0, 2 * bdtr(min(only_y, only_x), only_y + only_x, 0.5))) if only_y + only_x else 1.0
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], balance)
    return float(2 * ndtr(-abs(sums.sum()) / (sums**2).sum() ** 0.5)) if sums.any() else 1.0
