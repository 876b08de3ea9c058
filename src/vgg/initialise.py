"""Section 3.1, initialisation: how random weights are drawn, and which layers start from another net."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vgg.config import DRAWS
from vgg.network import FC_LAYERS, VGG

# "The first four convolutional layers and the last three fully-connected layers" of net A, by name: by position the
# shapes would not fit (A's second layer is 64 -> 128, B's 64 -> 64).
A_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", *FC_LAYERS)


def full_fan_in(name: str, layer: nn.Conv2d, net: VGG) -> int:
    """Inputs of one unit of this layer in the paper's net: full width, 224 crop."""
    if name == "conv1_1":
        return layer.weight[0].numel()
    scale = 64 / net.get_submodule("conv1_1").out_channels
    fan_in = layer.weight[0].numel() * scale
    if name == "fc6":
        fan_in *= (7 / net.window) ** 2
    return round(fan_in)


def draw(net: VGG, how: str, seed: int) -> None:
    """Random weights, biases zero. `how` is one of `DRAWS`.

    std001: normal, standard deviation 0.01; in a narrower net 0.01 * sqrt(full fan-in / its fan-in), which keeps the
        signal. literal: the same with 0.1, the paper's "variance 1e-2" as it stands. glorot: Glorot & Bengio 2010,
        uniform. kaiming: He et al. 2015, normal, fan-in.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, layer in net.named_children():
        weight = layer.weight
        if how in ("std001", "literal"):
            std = {"std001": 0.01, "literal": 0.1}[how]
            std *= (full_fan_in(name, layer, net) / weight[0].numel()) ** 0.5
            nn.init.normal_(weight, 0.0, std, generator=generator)
        elif how == "glorot":
            # fc6 is a fully-connected layer: its window is one place, not a filter that 49 outputs share.
            fan_out = weight.shape[0] * (1 if name in FC_LAYERS else weight[0, 0].numel())
            bound = (6 / (weight[0].numel() + fan_out)) ** 0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        elif how == "kaiming":
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        else:
            raise ValueError(f"unknown draw {how!r}: choose from {', '.join(DRAWS)}")
        nn.init.zeros_(layer.bias)


def copy_layers(net: VGG, source: Mapping[str, Tensor], layers: tuple[str, ...]) -> list[str]:
    """Copy the named layers' weights and biases from a state_dict; the names copied are returned.

    Raises ValueError for a layer that is missing on either side or has another shape.
    """
    target = net.state_dict()
    for layer in layers:
        for key in (f"{layer}.weight", f"{layer}.bias"):
            if key not in source or key not in target:
                raise ValueError(f"{key} is missing in the {'source' if key not in source else 'new net'}")
            if source[key].shape != target[key].shape:
                raise ValueError(
                    f"{key} has shape {tuple(source[key].shape)} in the source, {tuple(target[key].shape)} in the net"
                )
            target[key].copy_(source[key])
    return list(layers)
