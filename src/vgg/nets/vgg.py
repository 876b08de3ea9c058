"""Section 2: the networks of Table 1, one module for training and for dense evaluation."""

import torch.nn.functional as F
from torch import Tensor, nn

from vgg.core.scales import PAPER_CROP, left_out, map_side, real_pixels
from vgg.nets.base import FC_LAYERS, FullyConnected, lrn


def layer_names(model: str) -> list[str]:
    """conv1_1 … fc8 of a column of Table 1, in order."""
    convolutions = [
        f"conv{block}_{number}"
        for block, column in enumerate(TABLE_1[model], start=1)
        for number, _ in enumerate(column.replace(" LRN", "").split(), start=1)
    ]
    return [*convolutions, *FC_LAYERS]


# Table 1, read from top to bottom. "3-64" is the paper's conv3-64: 3x3 filters, 64 channels. A ReLU follows every
# convolution, a 2x2 max pool of stride 2 every block; FC-4096, FC-4096, FC-1000 and the soft-max end each column.
# B-5x5 is the shallow net of section 4.1: B with each pair of 3x3 layers replaced by one 5x5 layer.
TABLE_1 = {
    "A": ("3-64", "3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512"),
    "A-LRN": ("3-64 LRN", "3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512"),
    "B": ("3-64 3-64", "3-128 3-128", "3-256 3-256", "3-512 3-512", "3-512 3-512"),
    "C": ("3-64 3-64", "3-128 3-128", "3-256 3-256 1-256", "3-512 3-512 1-512", "3-512 3-512 1-512"),
    "D": ("3-64 3-64", "3-128 3-128", "3-256 3-256 3-256", "3-512 3-512 3-512", "3-512 3-512 3-512"),
    "E": ("3-64 3-64", "3-128 3-128", "3-256 3-256 3-256 3-256", "3-512 3-512 3-512 3-512", "3-512 3-512 3-512 3-512"),
    "B-5x5": ("5-64", "5-128", "5-256", "5-512", "5-512"),
}


def receptive_fields(name: str, scale: float = 1.0) -> dict[str, int]:
    """Side in real pixels of what one unit of each convolution sees, and one of fc6, whose window is a crop's.

    Section 2.3's: two 3x3 layers see as much as one of 5x5. Of fc6 it is more than the crop: on a whole image the
    padding of a crop is the neighbourhood (section 3.2).
    """
    side = step = 1
    fields = {}
    for number, column in enumerate(TABLE_1[name], start=1):
        kernels = [int(entry.split("-")[0]) for entry in column.replace(" LRN", "").split()]
        for layer, kernel in enumerate(kernels, start=1):
            side += (kernel - 1) * step
            fields[f"conv{number}_{layer}"] = side
        if number > left_out(scale):
            side, step = side + step, 2 * step  # a 2x2 max pool
    return fields | {"fc6": side + (map_side(real_pixels(PAPER_CROP, scale), scale) - 1) * step}


class VGG(FullyConnected):
    """A network of Table 1. Layers carry the paper's names: conv1_1 ... conv5_4, fc6, fc7, fc8.

    Args:
        name: a key of `TABLE_1`.
        classes: outputs of fc8.
        scale: 1, 1/2, 1/4 or 1/8 of the paper's pixels; the crop is 224 times that. The first 0, 1, 2 or 3 max pools
            are left out, so that fc6's window is 7x7 and the number of parameters the same at every scale.
        width: factor on every layer's channels, fc6 and fc7 included (1 is the paper).
        dropout: probability after the ReLU of fc6 and fc7, in training mode.
        ceil_mode: round odd sides up in the max pools, as the authors' Caffe did, instead of down.
    """

    first, full = "conv1_1", (64, 7)

    def __init__(
        self,
        name: str,
        classes: int = 1000,
        scale: float = 1.0,
        width: float = 1.0,
        dropout: float = 0.5,
        ceil_mode: bool = False,
    ):
        super().__init__(classes, scale)
        self.ceil_mode = ceil_mode
        self.blocks: list[list[str]] = []
        channels = 3
        for number, column in enumerate(TABLE_1[name], start=1):
            block = []
            for entry in column.split():
                if entry == "LRN":
                    block.append("LRN")
                    continue
                kernel, out = (int(part) for part in entry.split("-"))
                out = max(1, round(out * width))
                block.append(f"conv{number}_{len(block) + 1}")
                self.add_module(block[-1], nn.Conv2d(channels, out, kernel, padding=kernel // 2))
                channels = out
            self.blocks.append(block)
        self.add_fc_layers(channels, map_side(self.crop, scale), width, dropout)

    def last_map(self, x: Tensor) -> Tensor:
        x = self.centred(x)
        for number, block in enumerate(self.blocks, start=1):
            for layer in block:
                x = lrn(x) if layer == "LRN" else F.relu(self.get_submodule(layer)(x), inplace=True)
            if number > left_out(self.scale):
                x = F.max_pool2d(x, 2, ceil_mode=self.ceil_mode)
        return x
