"""Section 3.2's class score map, seen: at every pixel of its image, and laid over it."""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from vgg.nets.base import Network

COLOURS = "viridis"  # perceptually uniform


def upsampled(scores: Tensor, net: Network, height: int, width: int) -> Tensor:
    """One class's scores (h, w) at every pixel (height, width) of the image that the net computed them on.

    A cell's score stands in the middle of the window that it stands for: that of cell (i, j) begins at pixel
    (net.stride i, net.stride j) and has net.cell pixels a side. Bicubic between cells; beyond the outermost ones their
    values go on.
    """

    def places(pixels: int, cells: int) -> Tensor:
        """The pixels of one axis on the axis of cells, whose first and last cells are at -1 and 1."""
        cell = (torch.arange(pixels) + 0.5 - net.cell / 2) / net.stride
        return (2 * cell / max(1, cells - 1) - 1).clamp(-1, 1)

    y, x = torch.meshgrid(places(height, scores.shape[0]), places(width, scores.shape[1]), indexing="ij")
    score_map = F.grid_sample(
        scores[None, None].float(), torch.stack([x, y], -1)[None], "bicubic", "border", align_corners=True
    )
    return score_map[0, 0]


def overlay(axes: Axes, image: Tensor, scores: Tensor, net: Network) -> AxesImage:
    """Draw one class's scores (h, w) over their image (H, W, 3) uint8 in grey, a dot for each cell.

    The layer of scores is returned, for a colour bar.
    """
    axes.imshow(image.float().mean(2).numpy(), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()
    y, x = np.indices(scores.shape) * net.stride + net.cell / 2 - 0.5
    axes.plot(x.ravel(), y.ravel(), ".", color="white", markersize=3)
    return axes.imshow(upsampled(scores, net, *image.shape[:2]).numpy(), cmap=COLOURS, alpha=0.6)


def beside(image: Tensor, scores: Tensor, net: Network, title: str, label: str) -> Figure:
    """The image (H, W, 3) uint8, and beside it one class's scores (h, w) over it; `label` stands at the colour bar."""
    height, width = image.shape[:2]
    inches = 8 / max(height, width)  # a pixel
    figure = Figure(figsize=(inches * width + 1.3, max(2.4, inches * height / 2 + 0.6)), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image.numpy())
    left.set_axis_off()
    layer = overlay(right, image, scores, net)
    figure.colorbar(layer, ax=right, label=label, fraction=0.05).solids.set_alpha(1)
    figure.suptitle(title, parse_math=False)
    return figure
