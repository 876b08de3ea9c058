"""Decoded images kept in memory, so that no epoch decodes them again: `data.cache`."""

import math
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import psutil
from PIL import Image

from vgg.core.errors import UserError
from vgg.data.encoded_image import UNREADABLE, Picture
from vgg.data.listing import Listing
from vgg.data.transforms import DECODED, rescaled_size

MOST = 2**30  # bytes that data.cache=auto takes at most, for training and validation images each

SHARE = 4  # of the memory that is free, one part of so many at most

THREADS = 16  # that decode


class Decoded:
    """A picture in memory, as `Picture`: `size` is (width, height), `pixels` has every one of them."""

    def __init__(self, array: np.ndarray):
        self.array, self.size = array, (array.shape[1], array.shape[0])

    def pixels(self, width: int = 0) -> np.ndarray:
        return self.array


class Pictures:
    """Index -> the picture of an image: in memory where it is kept there, otherwise read from its file.

    Raises one of UNREADABLE, here or from the picture's `pixels`, for what is none.
    """

    def __init__(self, images: Listing, kept: dict[int, Decoded] | None = None):
        self.images, self.kept = images, kept or {}

    def __getitem__(self, index: int) -> Picture | Decoded:
        return self.kept.get(index) or Picture(self.images.read(index))

    @property
    def bytes(self) -> int:
        """What is in memory."""
        return sum(picture.array.nbytes for picture in self.kept.values())


def whole(picture: Picture, side: int | None) -> bool:
    """Whether the decoder gives every pixel of a picture, whatever S of at least `side` it is rescaled to.

    None: it is never asked for fewer.
    """
    if not picture.plain_jpeg:
        return True
    width, height = picture.size
    if width * height > Image.MAX_IMAGE_PIXELS:
        return False
    return side is None or math.ceil(width / 2) < DECODED * rescaled_size(picture.size, side)[0]


def keep(
    images: Listing,
    side: int | None,
    cache: Literal["auto", "ram", "none"],
    workers: int,
    ranks: int = 1,
    free: Callable[[], int] = lambda: psutil.virtual_memory().available,
) -> Pictures:
    """The images' pictures, in memory those of which the decoder gives every pixel at each S of at least `side`.

    auto: where all of them take at most MOST bytes, and a part of the free memory, for each of a machine's `ranks`.
    Decoding processes share them; where processes begin without their parent's memory none are kept. Raises UserError
    where ram asks for more than is free.
    """
    limit = min(MOST, free() // SHARE) // ranks
    forked = not workers or multiprocessing.get_start_method() == "fork"
    if cache == "none" or (cache == "auto" and (sum(images.sizes) > limit or not forked)):
        return Pictures(images)
    if not forked:
        raise UserError(
            "data.cache=ram needs processes that share memory, which are not to be had here: data.cache=none"
        )

    def size(index: int) -> int:
        try:
            picture = Picture(images.read(index))
        except UNREADABLE:  # which training says in its turn
            return 0
        return 3 * math.prod(picture.size) if whole(picture, side) else 0

    def decode(index: int) -> Decoded | None:
        try:
            return Decoded(Picture(images.read(index)).pixels())
        except UNREADABLE:
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(size, range(len(images))))
        if cache == "auto" and sum(sizes) > limit:
            return Pictures(images)
        if sum(sizes) > free() // ranks:
            raise UserError(
                f"data.cache=ram: the images of {images.root} take {sum(sizes) / 1e9:.1f} GB in memory, "
                f"{free() / ranks / 1e9:.1f} GB are free: data.cache=none decodes them anew in each epoch"
            )
        indices = [index for index, count in enumerate(sizes) if count]
        return Pictures(images, {i: one for i, one in zip(indices, pool.map(decode, indices), strict=True) if one})
