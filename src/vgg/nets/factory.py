"""A net by its name."""

from vgg.nets.alexnet import COLUMNS, AlexNet
from vgg.nets.base import Network
from vgg.nets.lenet import LeNet5
from vgg.nets.library import Pooled
from vgg.nets.vgg import TABLE_1, VGG


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
