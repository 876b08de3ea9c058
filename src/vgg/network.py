"""Section 2: the networks of Table 1, one module for training and for dense evaluation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgg.scales import MAX_POOLS, PAPER_CROP, map_side, pooled

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
FC_LAYERS = ("fc6", "fc7", "fc8")
STRIDE = 2**MAX_POOLS  # one cell of the class score map every 32 pixels


def receptive_fields(name: str, crop: int = PAPER_CROP) -> dict[str, int]:
    """Side in pixels of what one unit of each convolution sees of an image, and one of fc6, whose window is a crop's.

    Section 2.3's: two 3x3 layers see as much as one of 5x5. Of fc6 it is more than the crop: on a whole image the
    padding of a crop is the neighbourhood (section 3.2).
    """
    side = step = 1
    found = {}
    for number, column in enumerate(TABLE_1[name], start=1):
        kernels = [int(entry.split("-")[0]) for entry in column.replace(" LRN", "").split()]
        for place, kernel in enumerate(kernels, start=1):
            side += (kernel - 1) * step
            found[f"conv{number}_{place}"] = side
        side, step = side + step, 2 * step  # a 2x2 max pool
    return found | {"fc6": side + (map_side(crop) - 1) * step}


class VGG(nn.Module):
    """A network of Table 1. Layers carry the paper's names: conv1_1 ... conv5_4, fc6, fc7, fc8.

    Args:
        name: a key of `TABLE_1`.
        classes: outputs of fc8.
        crop: side of the training crop in pixels; fc6's window is the map that this crop gives (224: 7x7).
        width: factor on every layer's channels, fc6 and fc7 included (1 is the paper).
        dropout: probability after the ReLU of fc6 and fc7, in training mode.
        ceil_mode: round odd sides up in the max pools, as the authors' Caffe did, instead of down.

    The fully-connected layers are kept as convolutions (section 3.2): fc6 with the window of the training crop, fc7
    and fc8 1x1. On a training crop that is the paper's FC net exactly; on a larger image it is dense evaluation.
    `mean` is the RGB mean that the net was trained with; it travels in the state_dict.
    """

    mean: Tensor

    def __init__(
        self,
        name: str,
        classes: int = 1000,
        crop: int = 224,
        width: float = 1.0,
        dropout: float = 0.5,
        ceil_mode: bool = False,
    ):
        super().__init__()
        if crop < STRIDE:
            raise ValueError(f"crop={crop} is smaller than one cell of the last map ({STRIDE} pixels)")
        self.window = map_side(crop, ceil_mode)
        self.crop, self.dropout, self.ceil_mode = crop, dropout, ceil_mode
        self.register_buffer("mean", torch.zeros(3))
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
        hidden = max(1, round(4096 * width))
        self.fc6 = nn.Conv2d(channels, hidden, self.window)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.fc8 = nn.Conv2d(hidden, classes, 1)

    def fc7_map(self, x: Tensor) -> Tensor:
        """What fc8 is given: (N, 3, H, W) RGB in 0..255 -> (N, fc7's channels, h, w) after the ReLU, one cell a window.

        Cell (i, j) looks at the crop-sized window at (32 i, 32 j); where the crop is no multiple of 32, the last one's
        may end beyond the image. H and W are at least the training crop; the map's side is
        floor(H / 32) - floor(crop / 32) + 1.
        """
        if min(x.shape[-2:]) < self.crop:
            raise ValueError(f"{tuple(x.shape[-2:])} is smaller than the net's training crop of {self.crop} pixels")
        x = x - self.mean.view(1, 3, 1, 1)
        for block in self.blocks:
            for layer in block:
                if layer == "LRN":  # Krizhevsky's alpha is not divided by the window's size, PyTorch's is: 5 * 1e-4
                    x = F.local_response_norm(x, size=5, alpha=5e-4, beta=0.75, k=2.0)
                else:
                    x = F.relu(self.get_submodule(layer)(x), inplace=True)
            x = F.max_pool2d(x, 2, ceil_mode=self.ceil_mode)
        x = F.dropout(F.relu(self.fc6(x), inplace=True), self.dropout, self.training)
        return F.dropout(F.relu(self.fc7(x), inplace=True), self.dropout, self.training)

    def score_map(self, x: Tensor) -> Tensor:
        """Class score map, before the soft-max: (N, 3, H, W) RGB in 0..255 -> (N, classes, h, w), a cell as above."""
        return self.fc8(self.fc7_map(x))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores before the soft-max, averaged over the map (section 3.2): (N, 3, H, W) -> (N, classes).

        x is RGB in 0..255. On a training crop the map is one cell and the scores are fc8's.
        """
        return self.score_map(x).mean(dim=(2, 3))

    def multiply_adds(self, side: int | None = None) -> int:
        """Multiply-adds of one square image of `side` pixels (default: the training crop), biases not counted."""
        side = self.crop if side is None else side
        total = 0
        for block in self.blocks:
            total += sum(self.get_submodule(name).weight.numel() * side * side for name in block if name != "LRN")
            side = pooled(side, self.ceil_mode)
        cells = (side - self.window + 1) ** 2
        return total + cells * sum(self.get_submodule(name).weight.numel() for name in FC_LAYERS)
