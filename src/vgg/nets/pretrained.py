"""Published weights as tensors of a net here: torchvision's, timm's, and the authors' own from Caffe.

A published net keeps its own mean; a standard deviation and BGR order are folded into the first convolution, so that
every net takes RGB 0..255 minus its mean. Folding the mean too would be wrong at the zero-padded border.
"""

import contextlib
import pickle
import re
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
import torchvision
from google.protobuf.message import DecodeError
from torch import Tensor

from vgg.core.catalogue import LIBRARY
from vgg.core.errors import UserError, require
from vgg.core.files import alone
from vgg.nets.base import FC_LAYERS, Network
from vgg.nets.caffe import from_caffe
from vgg.nets.factory import make
from vgg.nets.state_dicts import read_tensors
from vgg.nets.vgg import layer_names

TORCHVISION = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}

TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")

PREFIXES = ("module", "_orig_mod", "model", "net")


def from_torchvision(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """Our state_dict from torchvision's: the standard deviation folded, the FC layers as convolutions."""
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in state))
    names = layer_names(model)
    if len(modules) != len(names):
        raise ValueError(f"it has {len(modules)} layers, {TORCHVISION[model]} has {len(names)}")
    tensors = {
        f"{name}.{what}": state[f"{module}.{what}"].clone()
        for name, module in zip(names, modules, strict=True)
        for what in ("weight", "bias")
    }
    for name in FC_LAYERS:
        weight = tensors[f"{name}.weight"]
        window = 7 if name == "fc6" else 1
        tensors[f"{name}.weight"] = weight.view(len(weight), -1, window, window)
    tensors["conv1_1.weight"] /= 255 * torch.tensor(TORCHVISION_STD).view(1, 3, 1, 1)
    tensors["mean"] = 255 * torch.tensor(TORCHVISION_MEAN)
    return tensors


def from_library(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """Our state_dict of a net around the paper's from torchvision's or timm's, the standard deviation folded.

    What the three channels' deviations have in common goes into the statistics of the batch normalisation that follows
    the first convolution. Its weights keep the size that learning rates are made for, to be trained further.
    """
    googlenet = model == "googlenet"  # whose inputs torchvision normalises once more
    mean, std = ((0.5,) * 3, (0.5,) * 3) if googlenet else (TORCHVISION_MEAN, TORCHVISION_STD)
    tensors = {"mean": 255 * torch.tensor(mean)}
    for key, tensor in state.items():
        key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key)  # as the published file has it
        head = re.match(r"(fc|classifier|aux\d)\.(.*)", key)
        if head is None:
            tensors[f"trunk.{key}"] = tensor.clone()
        elif not head[1].startswith("aux"):  # GoogLeNet's auxiliary classifiers are for training
            tensors[f"fc.{head[2]}"] = tensor.clone()
    with torch.device("meta"):
        net = make(model)
    first, norm = (
        next(name for name, layer in net.named_modules() if isinstance(layer, kind))
        for kind in (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    )
    deviations = 255 * torch.tensor(std)
    common, epsilon = deviations.mean(), net.get_submodule(norm).eps
    tensors[f"{first}.weight"] *= common / deviations.view(1, 3, 1, 1)
    tensors[f"{norm}.running_mean"] *= common
    tensors[f"{norm}.running_var"] = common**2 * (tensors[f"{norm}.running_var"] + epsilon) - epsilon
    return tensors


def net_tensors(path: Path) -> dict[str, Tensor]:
    """A net's tensors by name, from a file with them alone or from a training checkpoint, without wrappers' prefixes.

    Checkpoints have them under `state_dict`, `model_state_dict`, `model` or `net`; data parallelism, torch.compile and
    Lightning put `module.`, `_orig_mod.`, `model.` or `net.` before each name. UserError where there are none.
    """
    if path.suffix == ".safetensors":
        try:
            content = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{path} is missing or no safetensors file: {error}") from error
    else:
        content = read_tensors(path, set())
    content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    require(bool(state), f"{path} holds no net's tensors, but {', '.join(map(str, content)) or 'nothing'}")
    while (prefix := next(iter(state)).partition(".")[0]) in PREFIXES and all(
        key.startswith(f"{prefix}.") for key in state
    ):
        state = {key.removeprefix(f"{prefix}."): value for key, value in state.items()}
    return state


def read(source: str, model: str, file: str | None) -> tuple[dict[str, Tensor], Path]:
    """Our state_dict of a net's published weights, and the file that they came from: the library's own for None."""
    if source != "caffe":
        path = Path(file) if file else fetched(model)
        last = {"densenet121": "classifier"}.get(model, "fc") if model in LIBRARY else "classifier.6"
        state = net_tensors(path)
        if f"{last}.bias" not in state:
            names = ", ".join(list(dict.fromkeys(key.rpartition(".")[0] for key in state))[:5])
            raise UserError(f"{path} does not hold {source}'s weights of net {model}: no {last}.bias, but {names} …")
        convert = partial(from_library if model in LIBRARY else from_torchvision, state)
    else:
        path = Path(file)
        require(path.is_file(), f"weights.path={path}: no such file")
        convert = partial(from_caffe, path.read_bytes())
    try:
        return convert(model), path
    except (DecodeError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} does not hold {source}'s weights of net {model}: {error}") from error


def address(model: str) -> str:
    """Where the library's weights of a net are; the end of the file's name is the start of its sha256."""
    if LIBRARY.get(model) == "timm":
        import timm  # which takes seconds

        return timm.get_pretrained_cfg(model).url
    return torchvision.models.get_model_weights(TORCHVISION.get(model, model)).IMAGENET1K_V1.url


def fetched(model: str) -> Path:
    """The library's file of a net, downloaded and checked against its sha256 if it is not there yet."""
    url = address(model)
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    try:
        with contextlib.nullcontext() if path.is_file() else alone(path):  # of several processes one fetches it
            torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # the last two: a file that is damaged
        why, *_ = str(error).splitlines() or [type(error).__name__]
        raise UserError(
            f"could not fetch {url}: {why}. A file on disk: put it at {path}, or weights.path=FILE for train.py and "
            "evaluate.py"
        ) from error
    return path


def class_names(classes: int) -> tuple[str, ...]:
    """Of a published net's outputs: ImageNet's 1,000 in English, in the order of the synset ids; else numbers."""
    names = torchvision.models.VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(names) if classes == len(names) else tuple(map(str, range(classes)))


def from_state(net: Network, state: dict[str, Tensor], path: Path) -> Network:
    """The net with the weights that were read from this file, in evaluation mode."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the net: {error}") from error
    return net.eval()


def outputs(state: dict[str, Tensor], model: str) -> int:
    """How many classes a published net has."""
    return len(state["fc.bias" if model in LIBRARY else "fc8.bias"])


def library_net(library: str, model: str) -> tuple[Network, tuple[str, ...]]:
    """A net with torchvision's or timm's weights, fetched at their first use, and the names of its classes."""
    state, path = read(library, model, None)
    classes = outputs(state, model)
    return from_state(make(model, classes), state, path), class_names(classes)
