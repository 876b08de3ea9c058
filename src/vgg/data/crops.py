"""Section 3.1's training crops and the order of the images; the validation crops."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from vgg.core.errors import UserError, require
from vgg.core.scales import PAPER_CROP, draw_scale, real_pixels
from vgg.data.colours import COLOUR_SHIFT_DEVIATION
from vgg.data.decoded import Pictures
from vgg.data.encoded_image import UNREADABLE, Picture
from vgg.data.listing import Listing
from vgg.data.transforms import centre_crop, training_crop

ATTEMPTS = 100  # at a readable training image, before it is the disk that is at fault


class TrainingCrops(Dataset):
    """Item (epoch, index) -> (crop (crop, crop, 3) uint8, label, alpha (3,), key, index of an unreadable file or -1).

    An index alone is the one of epoch 0, as Lightning's overfit_batches asks for it.
    alpha is the colour shift's, key the number from 0 to 2^32 - 1 that the image's dropout masks are drawn from.
    Everything random is a function of (seed, epoch, index): it differs between epochs and images, and does not depend
    on workers or ranks. An unreadable image is replaced by another one, drawn from the same numbers.
    """

    def __init__(self, images: Listing, scale: float, smin: int, smax: int, mirror: bool, seed: int):
        self.images, self.seed, self.pictures = images, seed, Pictures(images)
        self.scale, self.mirror, self.crop = scale, mirror, real_pixels(PAPER_CROP, scale)
        self.smin, self.smax = smin, smax

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Any, ...]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.drawn(epoch, index)[:-1]

    def example(self, picture: Picture, index: int, side: int, rng: np.random.Generator) -> tuple[Any, ...]:
        """The crop of an image at smaller side `side`, and what is to be learnt of it."""
        return training_crop(picture, side, self.crop, self.mirror, rng), self.images.labels[index]

    def drawn(self, epoch: int, index: int) -> tuple[Any, ...]:
        """An item, and the S that was drawn for it."""
        rng = np.random.default_rng([self.seed, epoch, index])
        bad = -1
        for _ in range(ATTEMPTS):
            try:
                scale = draw_scale(self.smin, self.smax, rng)
                side = real_pixels(scale, self.scale)
                example = self.example(self.pictures[index], index, side, rng)
                break
            except UNREADABLE:
                bad, index = index, int(rng.integers(len(self.images)))
        else:
            raise UserError(
                f"{ATTEMPTS} images in a row cannot be read, {self.images.path(bad)} the last: is the disk there?"
            )
        alpha = torch.tensor(rng.normal(0, COLOUR_SHIFT_DEVIATION, 3), dtype=torch.float32)
        return *example, alpha, int(rng.integers(2**32)), bad, scale


class TrainingOrder(DistributedSampler):
    """The (epoch, index) keys of one rank's training images, epoch after epoch; each iteration is the next epoch.

    The order of an epoch is a permutation drawn from (seed, epoch). Step k of all ranks together takes its images
    k * batch ... (k + 1) * batch - 1, whatever the number of ranks; the last, partial batch is dropped. An epoch begins
    with the first `next`: loaders throw iterators away unused. Set `epoch` and `start`, in steps, to go on in the
    middle. Lightning lets a DistributedSampler be, and sets its epoch.
    """

    def __init__(self, images: int, batch: int, rank: int, ranks: int, seed: int):
        require(images >= batch, f"data.batch={batch}: there are only {images} training images")
        super().__init__(range(images), ranks, rank, seed=seed)
        self.batch, self.start = batch, 0

    def __len__(self) -> int:
        return len(self.dataset) // self.batch * (self.batch // self.num_replicas)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        whole = len(order) // self.batch * self.batch
        steps = order[:whole].reshape(-1, self.num_replicas, self.batch // self.num_replicas)
        for index in steps[start:, self.rank].flat:
            yield epoch, int(index)


class EveryImageOnce(DistributedSampler):
    """The indices of one rank's images. PyTorch's own repeats some, so that all ranks have as many."""

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))


class CentreCrops(Dataset):
    """Item index -> (central crop (crop, crop, 3) uint8 at smaller side `side`, label, -1), for validation in training.

    An unreadable image is (zeros, -1, its index).
    """

    def __init__(self, images: Listing, side: int, crop: int):
        self.images, self.side, self.crop, self.pictures = images, side, crop, Pictures(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        try:
            crop = centre_crop(self.pictures[index], self.side, self.crop)
        except UNREADABLE:
            return torch.zeros(self.crop, self.crop, 3, dtype=torch.uint8), -1, index
        return crop, self.images.labels[index], -1
