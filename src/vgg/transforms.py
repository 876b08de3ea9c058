"""Section 3.1: rescale and crop in one resampling, mirror, RGB colour shift."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP")
warnings.filterwarnings("ignore", module="PIL")  # of a file's odd metadata, without the file's name


def decode(source: str | Path | BinaryIO) -> Image.Image:
    """The picture in a JPEG, PNG or WebP file, on disk or open, as 8-bit RGB, told by content and not by ending.

    Grey, CMYK, palette and 16-bit pictures are converted, an alpha channel is dropped, and an EXIF orientation is
    ignored, as the field does for ImageNet. Raises OSError for anything that is not such a picture.
    """
    with Image.open(source, formats=FORMATS) as image:
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")


def rescaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of an isotropically rescaled image whose smaller side is `side` pixels."""
    width, height = size
    if width <= height:
        return side, max(side, round(height * side / width))
    return max(side, round(width * side / height)), side


def rescale(image: Image.Image, side: int) -> Image.Image:
    """The whole image, smaller side `side` pixels; antialiased bilinear, as everywhere here."""
    return image.resize(rescaled_size(image.size, side), Image.Resampling.BILINEAR)


def rescaled_window(image: Image.Image, side: int, left: int, top: int, crop: int) -> Image.Image:
    """The crop-sized window at (left, top) of `rescale(image, side)`, resampling only what it needs."""
    width, height = rescaled_size(image.size, side)
    x, y = image.width / width, image.height / height
    box = (left * x, top * y, min((left + crop) * x, image.width), min((top + crop) * y, image.height))
    return image.resize((crop, crop), Image.Resampling.BILINEAR, box=box)


def training_crop(image: Image.Image, side: int, crop: int, rng: np.random.Generator) -> Image.Image:
    """One random crop of the image rescaled to smaller side `side`, mirrored half of the time."""
    width, height = rescaled_size(image.size, side)
    left, top = int(rng.integers(width - crop + 1)), int(rng.integers(height - crop + 1))
    window = rescaled_window(image, side, left, top, crop)
    return window.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else window


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) uint8 view of an RGB image, channels last in memory."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class Colours:
    """Mean RGB and principal components of the pixels of a training set, on the 0..255 scale.

    mean: (3,). components: (3, 3), one unit vector a column. deviations: (3,), the square roots of the variances along
    them. Krizhevsky writes eigenvalues where the deviations are meant: those would shift by hundreds of levels.
    """

    mean: Tensor
    components: Tensor
    deviations: Tensor

    @classmethod
    def of(cls, count: int, total: np.ndarray, products: np.ndarray) -> "Colours":
        """From the number of pixels, their RGB sum (3,) and the sum of their outer products (3, 3)."""
        mean = total / count
        variances, components = np.linalg.eigh(products / count - np.outer(mean, mean))
        return cls(*(torch.tensor(a, dtype=torch.float32) for a in (mean, components, np.sqrt(variances.clip(0)))))

    def shift(self, alpha: Tensor) -> Tensor:
        """RGB shift P (alpha * sigma) of each image: alpha (N, 3) -> (N, 3, 1, 1)."""
        return ((alpha * self.deviations.to(alpha)) @ self.components.to(alpha).T)[:, :, None, None]


COLOUR_SHIFT_DEVIATION = 0.1  # of alpha, one draw per component, image and access
