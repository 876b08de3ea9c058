"""torchvision's and timm's nets, dense by their classifier at every cell."""

from collections import OrderedDict

import torchvision
from torch import Tensor, nn

from vgg.core.catalogue import LIBRARY
from vgg.core.scales import cell_stride
from vgg.nets.base import Network

# Where the middle of the first cell of a library's map is, in pixels; the next one's is 32 further on. At 0 in the nets
# that pad alike on both sides; DenseNet's transitions and GoogLeNet's pools do not.
FIRST_CELL = {"densenet121": 14, "googlenet": 22}

HEADS = ("avgpool", "global_pool", "dropout", "fc", "classifier")  # what the libraries' nets have after their last map


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
