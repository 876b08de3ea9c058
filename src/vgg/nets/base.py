"""What every net here has: the mean, the score map, dropout by image, FC layers as convolutions."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgg.core.scales import PAPER_CROP, cell_stride, real_pixels

FC_LAYERS = ("fc6", "fc7", "fc8")


def scrambled(x: Tensor) -> Tensor:
    """A hash of whole numbers of 32 bits, one to one: no product is beyond 63 bits, on no device."""
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x


def kept(keys: Tensor, layer: int, units: Tensor, dropout: float) -> Tensor:
    """Dropout's masks (N, C, H, W) of bool for images with these keys (N,) and a layer's `units` (C, H, W).

    Each is a function of the image's key, the layer and the unit, in whole numbers: the same on every device, and
    whatever other images go through it together. A unit is left out with the probability `dropout`.
    """
    numbers = scrambled(torch.arange(units.numel(), device=keys.device)).view(units.shape)
    images = scrambled(scrambled(keys) ^ layer).view(-1, 1, 1, 1)
    return scrambled(numbers ^ images) >= round(dropout * 2**32)


class Network(nn.Module):
    """What training, evaluation and export ask of any net: RGB in 0..255 in, class scores before the soft-max out.

    `scale` is its data's, `crop` the side of its training crop in real pixels, `classes` the number of its outputs.
    `mean` is the RGB mean that it was trained with; it travels in the state_dict.
    """

    mean: Tensor
    classifier: tuple[str, ...] = FC_LAYERS  # the children that layers=fc trains, the one that gives the scores last
    descriptor: int  # numbers that the last layer is given
    dropout = 0.0  # probability of a unit's being left out of a training step, before the last layers
    dense = True  # whether there is a class score map of larger images

    def __init__(self, classes: int, scale: float):
        super().__init__()
        self.classes, self.scale, self.crop = classes, scale, real_pixels(PAPER_CROP, scale)
        self.cell = self.crop  # side in pixels of the window at (0, 0) in whose middle the score map's first cell looks
        self.stride = cell_stride(scale)  # pixels from one cell of the score map to the next
        self.register_buffer("mean", torch.zeros(3))

    def centred(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) minus the mean. Raises ValueError where they are smaller than the training crop."""
        if min(x.shape[-2:]) < self.crop:
            raise ValueError(f"{tuple(x.shape[-2:])} is smaller than the net's training crop of {self.crop} pixels")
        return x - self.mean.view(1, 3, 1, 1)

    def features(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """What the last layer is given (appendix B's descriptors): (N, 3, H, W) RGB in 0..255 -> (N, D, h, w)."""
        raise NotImplementedError

    def score_map(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Class score map, before the soft-max: (N, 3, H, W) RGB in 0..255 -> (N, classes, h, w)."""
        raise NotImplementedError

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Class scores before the soft-max, averaged over the map (section 3.2): (N, 3, H, W) -> (N, classes).

        x is RGB in 0..255. On a training crop they are those of the net as it was published. In training mode `keys`
        (N,) are the whole numbers from 0 to 2^32 - 1 that dropout draws each image's masks from.
        """
        return self.score_map(x, keys).mean(dim=(2, 3))

    def dropped(self, x: Tensor, keys: Tensor | None, layer: int) -> Tensor:
        """Dropout of the units (N, C, H, W) of a layer in training mode, with masks by `kept`.

        Raises ValueError where there are no keys to draw them from.
        """
        if not (self.training and self.dropout):
            return x
        if keys is None:
            raise ValueError("dropout in training mode needs a key for each image")
        return torch.where(kept(keys, layer, x[0], self.dropout), x / (1 - self.dropout), 0)

    def multiply_adds(self, side: int | None = None) -> int:
        """Multiply-adds of one square image of `side` pixels (default: the training crop), biases not counted.

        Counted in the convolutions and matrix products as they run, on tensors that have a shape and no numbers.
        """
        net, side, total = copy.deepcopy(self).to("meta").eval(), self.crop if side is None else side, 0

        def count(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
            nonlocal total
            total += layer.weight[0].numel() * output.numel()

        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        net(torch.empty(1, 3, side, side, device="meta"))
        return total


class FullyConnected(Network):
    """A net that ends in fc6, fc7 and fc8, with ReLU and dropout after the first two.

    They are kept as convolutions (section 3.2): fc6 with the window of the training crop's map, fc7 and fc8 1x1. On a
    training crop that is the published net exactly; on a larger image it is dense evaluation.
    """

    first: str  # the first convolution
    full: tuple[int, int]  # at full width and scale 1: its channels, and fc6's window
    biases_of_one: tuple[str, ...] = ()  # layers whose biases are 1 at the start, not 0

    def add_fc_layers(self, channels: int, window: int, width: float, dropout: float) -> None:
        """fc6, fc7 and fc8 over a map of so many channels; `width` is the factor on their 4096."""
        self.window, self.dropout = window, dropout
        self.descriptor = hidden = max(1, round(4096 * width))
        self.fc6 = nn.Conv2d(channels, hidden, window)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.fc8 = nn.Conv2d(hidden, self.classes, 1)

    def last_map(self, x: Tensor) -> Tensor:
        """The last max pool's output: (N, 3, H, W) RGB in 0..255 -> (N, channels, h, w)."""
        raise NotImplementedError

    def features(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """fc7 after its ReLU: (N, 3, H, W) RGB in 0..255 -> (N, fc7's channels, h, w), one cell a window.

        Cell (i, j) looks at the crop-sized window at (stride i, stride j), 32 times the scale apart. H and W are at
        least the training crop; the map's side is, of Table 1's nets, floor(H / stride) - 6.
        """
        x = self.dropped(F.relu(self.fc6(self.last_map(x)), inplace=True), keys, 6)
        return self.dropped(F.relu(self.fc7(x), inplace=True), keys, 7)

    def score_map(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Class score map, before the soft-max: (N, 3, H, W) RGB in 0..255 -> (N, classes, h, w), a cell as above."""
        return self.fc8(self.features(x, keys))


def lrn(x: Tensor) -> Tensor:
    """Krizhevsky's local response normalisation: his alpha is not divided by the window's size, PyTorch's is: 5e-4."""
    if x.dtype == torch.float16:  # in which the squares of activations from 256 on are infinite
        return lrn(x.float()).half()
    return F.local_response_norm(x, size=5, alpha=5e-4, beta=0.75, k=2.0)
