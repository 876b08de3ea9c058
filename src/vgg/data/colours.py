"""Mean and principal components of the training pixels, and the colour shift (section 3.1)."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vgg.core.errors import require
from vgg.data.encoded_image import UNREADABLE, Picture
from vgg.data.listing import Listing


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
        return ((alpha * self.deviations) @ self.components.T)[:, :, None, None]

    def to(self, device: torch.device) -> "Colours":
        return Colours(*(tensor.to(device) for tensor in (self.mean, self.components, self.deviations)))


COLOUR_SHIFT_DEVIATION = 0.1  # of alpha, one draw per component, image and access

COLOUR_SAMPLE = 10_000  # training images at most that the mean and the principal components are computed on


def training_colours(images: Listing, published_mean: tuple[float, ...] | None = None) -> Colours:
    """Mean RGB and principal components of the training pixels, over a fixed sample of at most `COLOUR_SAMPLE`."""
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    sample = np.random.default_rng(0).permutation(len(images))[:COLOUR_SAMPLE]
    for index in tqdm(sample, "mean and principal components of the colours", leave=False, disable=None):
        try:
            image = Image.fromarray(Picture(images.read(index)).pixels())
        except UNREADABLE:
            continue
        image.thumbnail((256, 256), Image.Resampling.BOX)
        pixels = np.asarray(image, dtype=np.float64).reshape(-1, 3)
        count, total, products = count + len(pixels), total + pixels.sum(0), products + pixels.T @ pixels
    require(count > 0, f"no image in {images.root} can be read")
    colours = Colours.of(count, total, products)
    if published_mean is not None:
        return Colours(torch.tensor(published_mean), colours.components, colours.deviations)
    return colours
