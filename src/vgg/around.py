"""The networks around it: those of the paper's Table 7 and their successors, each with what `Network` asks of a net.

LeNet-5, AlexNet and ZFNet are written here as their publications have them, the others are torchvision's and timm's.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vgg.config import UserError
from vgg.nets import LIBRARY
from vgg.network import TABLE_1, VGG, FullyConnected, Network, lrn
from vgg.scales import cell_stride, left_out

# Convolutions with their ReLU as "filter/stride+padding-channels", :2 where each half of the channels sees only its
# half of those before; LRN; and M, a max pool of 3x3 and stride 2. Krizhevsky's "224" gives his 55x55 only with a
# padding of 2; Zeiler & Fergus's sizes, 110, 55, 26, 13, 6, only where pools round up.
COLUMNS = {
    "alexnet": "11/4+2-96 LRN M 5/1+2-256 LRN M 3/1+1-384 3/1+1-384 3/1+1-256 M",
    "alexnet-towers": "11/4+2-96 LRN M 5/1+2-256:2 LRN M 3/1+1-384 3/1+1-384:2 3/1+1-256:2 M",
    "zfnet": "7/2+1-96 M LRN 5/2+0-256 M LRN 3/1+1-512 3/1+1-1024 3/1+1-512 M",
}
# LeNet-5's Table 1: the maps of S2 that each map of C3 takes.
C3 = tuple(
    tuple(sorted((start + step) % 6 for step in steps))
    for steps, starts in (((0, 1, 2), 6), ((0, 1, 2, 3), 6), ((0, 1, 3, 4), 3), ((0, 1, 2, 3, 4, 5), 1))
    for start in range(starts)
)
LENET_SIDE = 32
GREY_DEVIATION = 58.0  # of ImageNet's pixels, in 0..255: LeNet-5's input has a variance of about 1
# Where the middle of the first cell of a library's map is, in pixels; the next one's is 32 further on. At 0 in the nets
# that pad alike on both sides; DenseNet's transitions and GoogLeNet's pools do not.
FIRST_CELL = {"densenet121": 14, "googlenet": 22}
HEADS = ("avgpool", "global_pool", "dropout", "fc", "classifier")  # what the libraries' nets have after their last map


class AlexNet(FullyConnected):
    """AlexNet as published in 2012, its two towers joined or, as `alexnet-towers`, apart; and ZFNet.

    Args as of `VGG`. ZFNet is Zeiler & Fergus's best single net, with 512, 1024 and 512 maps in conv3 to conv5.
    At a smaller scale the first halvings are left out, in the order of the column: AlexNet's stride of 4 is two of
    them. fc6's window is the map that the crop gives, AlexNet's 6, 5, 5 and 4 cells a side.
    """

    full = (96, 6)
    first = "conv1"

    def __init__(self, name: str, classes: int, scale: float, width: float, dropout: float):
        super().__init__(classes, scale)
        self.column, self.rounds_up = [], name == "zfnet"
        if name != "zfnet":
            self.biases_of_one = ("conv2", "conv4", "conv5", "fc6", "fc7")
        channels, side, number, skip = 3, self.crop, 0, left_out(scale)
        middle, step = 0, 1  # of what the first unit of a map sees, and from one unit to the next, in pixels
        for entry in COLUMNS[name].split():
            if entry == "M" and skip:
                skip -= 1
                continue
            self.column.append(entry)
            if entry == "M":
                middle, step = middle + step, 2 * step
                side = -(-(side - 3) // 2) + 1 if self.rounds_up else (side - 3) // 2 + 1
            elif entry != "LRN":
                number += 1
                shape, _, outputs = entry.partition("-")
                kernel, stride, padding = (int(part) for part in shape.replace("/", "+").split("+"))
                while skip and stride > 1:
                    stride, skip = stride // 2, skip - 1
                out, _, groups = outputs.partition(":")
                wide = 2 * max(1, round(int(out) * width / 2))  # two towers halve it
                how = {"stride": stride, "padding": padding, "groups": int(groups or 1)}
                self.add_module(f"conv{number}", nn.Conv2d(channels, wide, kernel, **how))
                channels, side = wide, (side + 2 * padding - kernel) // stride + 1
                middle, step = middle + (kernel // 2 - padding) * step, stride * step
        self.cell = 2 * middle + (side - 1) * step + 1
        self.add_fc_layers(channels, side, width, dropout)

    def last_map(self, x: Tensor) -> Tensor:
        x, number = self.centred(x), 0
        for entry in self.column:
            if entry == "M":
                x = F.max_pool2d(x, 3, 2, ceil_mode=self.rounds_up)
            elif entry == "LRN":
                x = lrn(x)
            else:
                number += 1
                x = F.relu(self.get_submodule(f"conv{number}")(x), inplace=True)
        return x


class LeNet5(Network):
    """LeNet-5 (LeCun et al. 1998): 60,000 trained parameters, and an output layer for the soft-max.

    Its input is fixed, 32x32 and grey: a crop is made so. In place of the 1998 output, distances to drawn characters,
    stands a linear layer of 84 inputs a class, as for every net here.
    """

    classifier = ("f6", "output")
    dense = False

    def __init__(self, classes: int, scale: float):
        super().__init__(classes, scale)
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = nn.Conv2d(6, 6, 1, groups=6)  # sub-sampling: a sum of 2x2, a coefficient and a bias for each map
        self.c3 = nn.ModuleList(nn.Conv2d(len(maps), 1, 5) for maps in C3)
        self.s4 = nn.Conv2d(16, 16, 1, groups=16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, classes)

    def reset(self) -> None:
        """LeCun et al.'s draw: uniform within 2.4 / fan-in. Of the sub-sampling, the fan-in is the four inputs'."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = 4 if layer in (self.s2, self.s4) else layer.weight[0].numel()
                nn.init.uniform_(layer.weight, -2.4 / fan_in, 2.4 / fan_in)
                nn.init.zeros_(layer.bias)

    def score_map(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        raise UserError(
            f"LeNet-5 has a fixed input of {LENET_SIDE}x{LENET_SIDE} pixels and cannot be dense (section 3.2): it "
            "takes crops, as multicrop, tencrop and center do"
        )

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Class scores before the soft-max of crops, (N, 3, crop, crop) in 0..255 -> (N, classes)."""
        if tuple(x.shape[-2:]) != (self.crop, self.crop):
            self.score_map(x)
        x = self.centred(x).mean(1, keepdim=True) / GREY_DEVIATION
        x = squashed(self.c1(F.interpolate(x, (LENET_SIDE, LENET_SIDE), mode="bilinear", antialias=True)))
        x = squashed(self.s2(4 * F.avg_pool2d(x, 2)))
        x = squashed(torch.cat([layer(x[:, list(maps)]) for layer, maps in zip(self.c3, C3, strict=True)], 1))
        x = squashed(self.s4(4 * F.avg_pool2d(x, 2)))
        return self.output(squashed(self.f6(squashed(self.c5(x)).flatten(1))))


def squashed(x: Tensor) -> Tensor:
    """LeNet-5's sigmoid, which is 1 at 1 and -1 at -1."""
    return 1.7159 * torch.tanh(x * (2 / 3))


class Pooled(Network):
    """A net of torchvision's or timm's that ends in a global average pool over `trunk`'s map and a linear layer, `fc`.

    Args: name, the library's; classes and scale as of `VGG`; dropout between the pool and fc, in training mode. At
    every scale the strides are the library's: the map of a smaller crop is smaller.
    Random weights are the library's own. They are made for inputs divided by a standard deviation, which the batch
    normalisation after the first convolution makes up for: outputs and gradients are the same without.

    A batch is normalised over the images that go through a device together, as in the publications: with these nets
    trainer.devices and trainer.micro_batch are part of the recipe.
    """

    classifier = ("fc",)

    def __init__(self, name: str, classes: int, scale: float, dropout: float):
        super().__init__(classes, scale)
        self.name, self.dropout, self.cell = name, dropout, 2 * FIRST_CELL.get(name, 0) + 1
        self.stride = cell_stride(1.0)
        self.reset()
        self.descriptor = self.fc.in_features

    def reset(self) -> None:
        """Fresh random weights, as the library draws them."""
        net = library_net(self.name, self.classes)
        trunk = OrderedDict((name, layer) for name, layer in net.named_children() if name not in HEADS)
        if self.name == "densenet121":  # whose ReLU after the last batch normalisation is no layer of its own
            trunk["relu"] = nn.ReLU(inplace=True)
        self.trunk = nn.Sequential(trunk)
        self.fc = net.classifier if self.name == "densenet121" else net.fc

    def features(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """The last map, a cell every 32 real pixels, the first with its middle at `FIRST_CELL`."""
        return self.trunk(self.centred(x))

    def score_map(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """As of `VGG`, with fc at every cell."""
        return self.fc(self.features(x).movedim(1, -1)).movedim(-1, 1)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Class scores before the soft-max, (N, 3, H, W) -> (N, classes): the score map's mean over space."""
        pooled = self.features(x).mean(dim=(2, 3), keepdim=True)
        return self.fc(self.dropped(pooled, keys, 1).flatten(1))


def library_net(name: str, classes: int) -> nn.Module:
    """The library's own net with random weights."""
    if LIBRARY[name] == "timm":
        import timm  # which takes seconds

        return timm.create_model(name, num_classes=classes)
    more = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=classes, **more)


def make(
    name: str,
    classes: int = 1000,
    scale: float = 1.0,
    width: float = 1.0,
    dropout: float = 0.5,
    ceil_mode: bool = False,
) -> Network:
    """Any net of `model=`. `width` is of Table 1's, AlexNet and ZFNet, `ceil_mode` of Table 1's."""
    if name in TABLE_1:
        return VGG(name, classes, scale, width, dropout, ceil_mode)
    if name in COLUMNS:
        return AlexNet(name, classes, scale, width, dropout)
    return LeNet5(classes, scale) if name == "lenet5" else Pooled(name, classes, scale, dropout)
