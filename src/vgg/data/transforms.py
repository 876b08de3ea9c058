"""Section 3.1: rescale and crop in one resampling, mirror."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vgg.data.encoded_image import Picture


def channels_last(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) on the device -> float (N, 3, H, W) in 0..255, channels last in memory."""
    return images.permute(0, 3, 1, 2).float()


DECODED = 2  # times the rescaled width, at least, that a picture is decoded at

PHASE = 0.05  # source pixels that a window may be off, so that it can be resampled from whole ones


def rescaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of an isotropically rescaled image whose smaller side is `side` pixels."""
    width, height = size
    if width <= height:
        return side, max(side, round(height * side / width))
    return max(side, round(width * side / height)), side


def resample(pixels: np.ndarray, width: int, height: int) -> Tensor:
    """(H, W, 3) uint8 -> (height, width, 3) uint8; antialiased bilinear, as everywhere here."""
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return F.interpolate(images, size=(height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def rescale(picture: Picture, side: int) -> Tensor:
    """The whole image (H, W, 3) uint8 with a smaller side of `side` pixels."""
    return resample(picture.pixels(), *rescaled_size(picture.size, side))


def grown(low: int, high: int, length: int, step: float) -> tuple[int, int]:
    """A part low..high of a rescaled axis, grown until both ends lie on source pixels, or nearly.

    `step` is in source pixels per rescaled one. It grows at least by what the filter sees, except at the axis' ends,
    0 and `length`.
    """
    margin = 1 + math.ceil(1 / step)

    def on_a_pixel(at: int) -> bool:
        return at in (0, length) or abs(at * step - round(at * step)) <= PHASE

    start = next(at for at in range(max(0, low - margin), -1, -1) if on_a_pixel(at))
    stop = next(at for at in range(min(length, high + margin), length + 1) if on_a_pixel(at))
    return start, stop


def rescaled_window(picture: Picture, side: int, left: int, top: int, crop: int, fast: bool = False) -> Tensor:
    """The window (crop, crop, 3) at (left, top) of `rescale(picture, side)`, from what of the picture it needs.

    It is resampled from whole source pixels, at a phase that differs by a few hundredths of a pixel. `fast` lets the
    decoder make large pictures smaller, to no less than `DECODED` times the rescaled size: below it, its sharp filter
    changes what the antialiasing gives by several levels.
    """
    width, height = rescaled_size(picture.size, side)
    pixels = picture.pixels(DECODED * width if fast else 0)
    decoded = round(8 * pixels.shape[1] / picture.size[0]) / 8  # part of the size that the decoder has given
    x_step, y_step = decoded * picture.size[0] / width, decoded * picture.size[1] / height
    (x0, x1), (y0, y1) = grown(left, left + crop, width, x_step), grown(top, top + crop, height, y_step)
    source = pixels[round(y0 * y_step) : round(y1 * y_step), round(x0 * x_step) : round(x1 * x_step)]
    return resample(source, x1 - x0, y1 - y0)[top - y0 :, left - x0 :][:crop, :crop]


def centre_window(size: tuple[int, int], crop: int) -> tuple[int, int]:
    """(left, top) of the central crop in an image of this size."""
    return round((size[0] - crop) / 2), round((size[1] - crop) / 2)


def centre_crop(picture: Picture, side: int, crop: int) -> Tensor:
    """The central crop (crop, crop, 3) of the image rescaled to smaller side `side`."""
    return rescaled_window(picture, side, *centre_window(rescaled_size(picture.size, side), crop), crop)


def training_crop(picture: Picture, side: int, crop: int, mirror: bool, rng: np.random.Generator) -> Tensor:
    """One random crop (crop, crop, 3) of the image at smaller side `side`; with `mirror`, half of them are mirrored."""
    width, height = rescaled_size(picture.size, side)
    left, top = int(rng.integers(width - crop + 1)), int(rng.integers(height - crop + 1))
    window = rescaled_window(picture, side, left, top, crop, fast=True)
    return window.flip(1) if mirror and rng.random() < 0.5 else window
