"""Section 3.1, initialisation: how random weights are drawn, and which layers start from another net."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vgg.core.catalogue import DRAWS
from vgg.nets.base import FC_LAYERS, FullyConnected, Network

# "The first four convolutional layers and the last three fully-connected layers" of net A, by name: by position the
# shapes would not fit (A's second layer is 64 -> 128, B's 64 -> 64).
A_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", *FC_LAYERS)


def full_fan_in(name: str, layer: nn.Conv2d, net: FullyConnected) -> int:
    """Inputs of one unit of this layer in the paper's net: full width, scale 1."""
    if name == net.first:
        return layer.weight[0].numel()
    channels, window = net.full
    fan_in = layer.weight[0].numel() * channels / net.get_submodule(net.first).out_channels
    if name == "fc6":
        fan_in *= (window / net.window) ** 2
    return round(fan_in)


def draw(net: Network, recipe: str, seed: int) -> None:
    """Random weights, biases zero but where AlexNet's are one. `how` is one of `DRAWS`, or own.

    std001: normal, standard deviation 0.01; in a narrower net 0.01 * sqrt(full fan-in / its fan-in), which keeps the
        signal. literal: the same with 0.1, the paper's "variance 1e-2" as it stands. glorot: Glorot & Bengio 2010,
        uniform. kaiming: He et al. 2015, normal, fan-in. own: as the publication or the library of the net draws them.
    """
    if recipe == "own":
        with torch.random.fork_rng(devices=[]):  # the libraries draw from the global state
            torch.manual_seed(seed)
            net.reset()
        return
    generator = torch.Generator().manual_seed(seed)
    for name, layer in net.named_children():
        weight = layer.weight
        if recipe in ("std001", "literal"):
            std = {"std001": 0.01, "literal": 0.1}[recipe]
            std *= (full_fan_in(name, layer, net) / weight[0].numel()) ** 0.5
            nn.init.normal_(weight, 0.0, std, generator=generator)
        elif recipe == "glorot":
            # fc6 is a fully-connected layer: its window is one place, not a filter that 49 outputs share.
            fan_out = weight.shape[0] * (1 if name in FC_LAYERS else weight[0, 0].numel())
            bound = (6 / (weight[0].numel() + fan_out)) ** 0.5
            nn.init.uniform_(weight, -bound, bound, generator=generator)
        elif recipe == "kaiming":
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        else:
            raise ValueError(f"unknown draw {recipe!r}: choose from {', '.join(DRAWS)}")
        nn.init.constant_(layer.bias, name in net.biases_of_one)


def copy_layers(net: Network, source: Mapping[str, Tensor], layers: tuple[str, ...]) -> list[str]:
    """Copy the named children's tensors from a state_dict; the names copied are returned.

    Raises ValueError for a layer that is missing on either side or has another shape.
    """
    target = net.state_dict()
    for layer in layers:
        keys = [key for key in {**target, **source} if key.startswith(f"{layer}.")]
        for key in keys or [f"{layer}.weight"]:
            if key not in source or key not in target:
                raise ValueError(f"{key} is missing in the {'source' if key not in source else 'new net'}")
            if source[key].shape != target[key].shape:
                raise ValueError(
                    f"{key} has shape {tuple(source[key].shape)} in the source, {tuple(target[key].shape)} in the net"
                )
            target[key].copy_(source[key])
    return list(layers)
