"""LeNet-5 (LeCun et al. 1998)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgg.core.errors import UserError
from vgg.nets.base import Network

# LeNet-5's Table 1: the maps of S2 that each map of C3 takes.
C3 = tuple(
    tuple(sorted((start + step) % 6 for step in steps))
    for steps, starts in (((0, 1, 2), 6), ((0, 1, 2, 3), 6), ((0, 1, 3, 4), 3), ((0, 1, 2, 3, 4, 5), 1))
    for start in range(starts)
)

LENET_SIDE = 32

GREY_DEVIATION = 58.0  # of ImageNet's pixels, in 0..255: LeNet-5's input has a variance of about 1


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
