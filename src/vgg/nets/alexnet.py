"""AlexNet (Krizhevsky et al. 2012) and ZFNet (Zeiler & Fergus 2013), as their publications have them."""

import torch.nn.functional as F
from torch import Tensor, nn

from vgg.core.scales import left_out
from vgg.nets.base import FullyConnected, lrn

# Convolutions with their ReLU as "filter/stride+padding-channels", :2 where each half of the channels sees only its
# half of those before; LRN; and M, a max pool of 3x3 and stride 2. Krizhevsky's "224" gives his 55x55 only with a
# padding of 2; Zeiler & Fergus's sizes, 110, 55, 26, 13, 6, only where pools round up.
COLUMNS = {
    "alexnet": "11/4+2-96 LRN M 5/1+2-256 LRN M 3/1+1-384 3/1+1-384 3/1+1-256 M",
    "alexnet-towers": "11/4+2-96 LRN M 5/1+2-256:2 LRN M 3/1+1-384 3/1+1-384:2 3/1+1-256:2 M",
    "zfnet": "7/2+1-96 M LRN 5/2+0-256 M LRN 3/1+1-512 3/1+1-1024 3/1+1-512 M",
}


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
                options = {"stride": stride, "padding": padding, "groups": int(groups or 1)}
                self.add_module(f"conv{number}", nn.Conv2d(channels, wide, kernel, **options))
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
