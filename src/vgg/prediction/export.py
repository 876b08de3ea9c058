"""A finished run in other programs' formats: `python -m vgg export RUN --format torchvision|safetensors|onnx`."""

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from vgg.core.errors import require
from vgg.core.files import write_whole
from vgg.nets.base import FC_LAYERS, Network
from vgg.nets.pretrained import TORCHVISION, TORCHVISION_STD
from vgg.nets.vgg import layer_names
from vgg.runs import weights
from vgg.runs.run import Run

# In ONNX of crops only: LeNet-5 as everywhere, the others as torch.export does not solve the sizes of their pools.
CROPS_ONLY = ("lenet5", "alexnet", "alexnet-towers", "zfnet", "googlenet")

ENDINGS = {"torchvision": ".pth", "safetensors": ".safetensors", "onnx": ".onnx"}


def to_torchvision(net: Network, model: str) -> dict[str, Tensor]:
    """The state_dict of torchvision's vgg11, 13, 16 or 19, for images normalised by this net's mean / 255 and its std.

    Raises UserError for a net that torchvision does not have: C, A-LRN, B-5x5, another scale or another width.
    """
    fits = model in TORCHVISION and net.scale == 1 and net.fc6.out_channels == 4096 and not net.ceil_mode
    require(fits, f"torchvision has nets {', '.join(TORCHVISION)} at scale 1 and full width, and not this one")
    state, places, index = {}, {}, 0
    for block in net.blocks:
        for name in block:
            places[name], index = f"features.{index}", index + 2
        index += 1
    places |= {name: f"classifier.{3 * number}" for number, name in enumerate(FC_LAYERS)}
    for name in layer_names(model):
        layer = net.get_submodule(name)
        weight = layer.weight.detach().clone()
        if name == "conv1_1":
            weight *= 255 * torch.tensor(TORCHVISION_STD).view(1, 3, 1, 1)
        state[f"{places[name]}.weight"] = weight.flatten(1) if name in FC_LAYERS else weight
        state[f"{places[name]}.bias"] = layer.bias.detach().clone()
    return state


class Posteriors(nn.Module):
    """RGB images (N, 3, H, W) in 0..255 -> class posteriors (N, classes): dense (section 3.2).

    With `mirror` averaged with those of the mirror images.
    """

    def __init__(self, net: Network, mirror: bool):
        super().__init__()
        self.net, self.mirror = net, mirror

    def forward(self, images: Tensor) -> Tensor:
        posteriors = self.net(images).softmax(1)
        return (posteriors + self.net(images.flip(3)).softmax(1)) / 2 if self.mirror else posteriors


def export(run: Run, form: str, path: Path | None = None) -> tuple[Path, str]:
    """Write the run's net; the file and how its input is to be prepared are returned."""
    net, classes = weights.load(run)
    cfg = run.config()
    mirror = cfg.data.mirror
    path = path or Path(run.name.replace("/", "-") + ENDINGS[form])
    mean = [round(value, 4) for value in net.mean.tolist()]
    about = {"run": run.name, "model": cfg.model.name, "scale": str(net.scale), "classes": json.dumps(classes)}
    if form == "torchvision":
        state = to_torchvision(net, cfg.model.name)
        with write_whole(path) as file:
            torch.save(state, file)
        name, mean = TORCHVISION[about["model"]], [round(value / 255, 6) for value in net.mean.tolist()]
        return path, f"torchvision's {name}, with Normalize(mean={mean}, std={list(TORCHVISION_STD)})"
    if form == "safetensors":
        from safetensors.torch import save

        content = save({key: value.contiguous() for key, value in net.state_dict().items()}, metadata=about)
        with write_whole(path) as file:
            file.write(content)
        return path, f"this project's layer names; RGB 0..255, the mean {mean} is in it"
    require(find_spec("onnxscript") is not None, "ONNX needs two more packages: pip install onnx onnxscript")
    any_size = about["model"] not in CROPS_ONLY
    sizes = {0: "images"} | ({2: "height", 3: "width"} if any_size else {})
    program = torch.onnx.export(
        Posteriors(net, mirror).eval(),
        (torch.zeros(1, 3, net.crop, net.crop + net.stride * any_size),),
        dynamo=True,
        input_names=["images"],
        output_names=["posteriors"],
        dynamic_shapes=({key: torch.export.Dim(name, min=net.crop if key else 1) for key, name in sizes.items()},),
        verbose=False,
    )
    with write_whole(path) as file:
        file.write(program.model_proto.SerializeToString())
    return (
        path,
        f"images: RGB 0..255 of {'any size from' if any_size else 'size'} {net.crop}; "
        f"posteriors: the classes in order, {len(classes)} of them",
    )
