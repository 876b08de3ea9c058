"""Section 3.2: class posteriors of whole images, dense or over crops, each view together with its mirror image.

And appendix B's descriptors, which are taken the same way, one layer before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vgg.core.config import DESCRIPTORS, VIEWS
from vgg.nets.base import Network

GRID = 5  # multi-crop: 5 x 5 crops and their mirror images, 50 a scale

CROPS_AT_ONCE = 100

PIXELS = 32  # a side of the grid that an image's pixels are averaged in, as the baseline of descriptors


def grid(side: int, crop: int) -> list[int]:
    """Five regular offsets: the first crop at one border, the last at the other, in steps of (side - crop) / 4."""
    return [round(step * (side - crop) / (GRID - 1)) for step in range(GRID)]


def windows(height: int, width: int, crop: int, view: str) -> list[tuple[int, int]]:
    """(top, left) of this view's crops in a rescaled image; mirror images come on top, except for `center`."""
    bottom, right = height - crop, width - crop
    centre = (round(bottom / 2), round(right / 2))
    if view == "multicrop":
        return [(top, left) for top in grid(height, crop) for left in grid(width, crop)]
    if view == "tencrop":
        return [(0, 0), (0, right), (bottom, 0), (bottom, right), centre]
    if view == "center":
        return [centre]
    raise ValueError(f"{view} is not a view of crops: choose from {', '.join(VIEWS)}")


def with_mirror_images(images: Tensor, mirror: bool) -> Tensor:
    """The images (N, 3, H, W), then with `mirror` their mirror images: (2 N, 3, H, W)."""
    return torch.cat([images, images.flip(3)]) if mirror else images


def dense(net: Network, images: Tensor, softmax: str = "last", mirror: bool = True) -> Tensor:
    """Posteriors (N, classes) of whole images (N, 3, H, W), with `mirror` averaged with their mirror images'.

    softmax "last", the paper's: the class score map is averaged over space, then the soft-max is taken. "first": the
    soft-max of every cell, averaged.
    """
    scores = net.score_map(with_mirror_images(images, mirror)).float()
    if softmax == "first":
        return scores.softmax(1).mean(dim=(2, 3)).view(-1, len(images), scores.shape[1]).mean(0)
    return scores.mean(dim=(2, 3)).softmax(1).view(-1, len(images), scores.shape[1]).mean(0)


def crops(net: Network, images: Tensor, view: str, mirror: bool = True) -> Tensor:
    """Posteriors (N, classes) of rescaled images (N, 3, H, W): the mean over this view's crops.

    With `mirror` over the crops' mirror images too, except for `center`.
    """
    side = net.crop
    stacked = torch.cat([images[:, :, y : y + side, x : x + side] for y, x in windows(*images.shape[2:], side, view)])
    stacked = with_mirror_images(stacked, mirror and view != "center")
    posteriors = torch.cat([net(part).float().softmax(1) for part in stacked.split(CROPS_AT_ONCE)])
    return posteriors.view(-1, len(images), posteriors.shape[1]).mean(0)


def posteriors(net: Network, images: Tensor, view: str, softmax: str = "last", mirror: bool = True) -> Tensor:
    """Posteriors (N, classes) of images rescaled to the test scale, (N, 3, H, W) in 0..255, under one view."""
    return dense(net, images, softmax, mirror) if view == "dense" else crops(net, images, view, mirror)


def descriptors(net: Network, images: Tensor, view: str, mirror: bool = True) -> Tensor:
    """Descriptors (N, D) of whole images (N, 3, H, W) in 0..255, not normalised: appendix B's, or the raw pixels'.

    pixels: minus the net's mean, averaged in a grid over the whole image, whatever its shape; without the mirror image,
    whose mean with them would be a symmetrical image. Any other view: fc7 after its ReLU, or what the last layer of
    another net is given, averaged over space and, with `mirror`, with that of the mirror images.
    """
    if view == "pixels":
        return F.adaptive_avg_pool2d(images - net.mean.view(1, 3, 1, 1), PIXELS).flatten(1)
    cells = net.features(with_mirror_images(images, mirror)).float()
    return cells.mean(dim=(2, 3)).view(-1, len(images), cells.shape[1]).mean(0)


def rows(net: Network, images: Tensor, view: str, softmax: str = "last", mirror: bool = True) -> Tensor:
    """What is kept of each image under one view, (N, columns): its descriptor, or its posteriors."""
    if view in DESCRIPTORS:
        return descriptors(net, images, view, mirror)
    return posteriors(net, images, view, softmax, mirror)


def columns(net: Network, view: str) -> int:
    """How many numbers `rows` has for an image."""
    if view == "pixels":
        return 3 * PIXELS**2
    return net.descriptor if view in DESCRIPTORS else net.classes
