"""Published weights as finished runs, `torchvision/D` and `caffe/D`: the libraries', and the authors' own from Caffe.

A published net keeps its own mean; a standard deviation and BGR order are folded into the first convolution, so that
every net takes RGB 0..255 minus its mean. Folding the mean too would be wrong at the zero-padded border.
"""

import contextlib
import hashlib
import pickle
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torchvision
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from torch import Tensor

from vgg.around import make
from vgg.config import TrainConfig, UserError, Weights, require
from vgg.files import alone
from vgg.nets import LIBRARY
from vgg.network import FC_LAYERS, TABLE_1, Network
from vgg.runs import Run, train_part
from vgg.weights import build, read_tensors, save

TORCHVISION = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
LEGACY_DIMENSIONS = ("num", "channels", "height", "width")  # of a blob, before it had a shape
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module", "_orig_mod", "model", "net")
CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB in 0..255; the files take BGR


def layer_names(model: str) -> list[str]:
    """conv1_1 … fc8 of a column of Table 1, in order."""
    convolutions = [
        f"conv{block}_{place}"
        for block, column in enumerate(TABLE_1[model], start=1)
        for place, _ in enumerate(column.replace(" LRN", "").split(), start=1)
    ]
    return [*convolutions, *FC_LAYERS]


def from_torchvision(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """Our state_dict from torchvision's: the standard deviation folded, the FC layers as convolutions."""
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in state))
    names = layer_names(model)
    if len(modules) != len(names):
        raise ValueError(f"it has {len(modules)} layers, {TORCHVISION[model]} has {len(names)}")
    found = {
        f"{name}.{what}": state[f"{module}.{what}"].clone()
        for name, module in zip(names, modules, strict=True)
        for what in ("weight", "bias")
    }
    for name in FC_LAYERS:
        weight = found[f"{name}.weight"]
        window = 7 if name == "fc6" else 1
        found[f"{name}.weight"] = weight.view(len(weight), -1, window, window)
    found["conv1_1.weight"] /= 255 * torch.tensor(TORCHVISION_STD).view(1, 3, 1, 1)
    found["mean"] = 255 * torch.tensor(TORCHVISION_MEAN)
    return found


def from_library(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """Our state_dict of a net around the paper's from torchvision's or timm's, the standard deviation folded.

    What the three channels' deviations have in common goes into the statistics of the batch normalisation that follows
    the first convolution. Its weights keep the size that learning rates are made for, to be trained further.
    """
    googlenet = model == "googlenet"  # whose inputs torchvision normalises once more
    mean, std = ((0.5,) * 3, (0.5,) * 3) if googlenet else (TORCHVISION_MEAN, TORCHVISION_STD)
    found = {"mean": 255 * torch.tensor(mean)}
    for key, tensor in state.items():
        key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key)  # as the published file has it
        head = re.match(r"(fc|classifier|aux\d)\.(.*)", key)
        if head is None:
            found[f"trunk.{key}"] = tensor.clone()
        elif not head[1].startswith("aux"):  # GoogLeNet's auxiliary classifiers are for training
            found[f"fc.{head[2]}"] = tensor.clone()
    with torch.device("meta"):
        net = make(model)
    first, norm = (
        next(name for name, layer in net.named_modules() if isinstance(layer, kind))
        for kind in (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    )
    deviations = 255 * torch.tensor(std)
    common, epsilon = deviations.mean(), net.get_submodule(norm).eps
    found[f"{first}.weight"] *= common / deviations.view(1, 3, 1, 1)
    found[f"{norm}.running_mean"] *= common
    found[f"{norm}.running_var"] = common**2 * (found[f"{norm}.running_var"] + epsilon) - epsilon
    return found


def caffe_net() -> type[Message]:
    """The parts of Caffe's NetParameter that hold weights: layers in its old V1 form, and in the newer one."""
    field, file = (
        FieldDescriptorProto,
        FileDescriptorProto(name="caffe_weights.proto", package="caffe", syntax="proto2"),
    )

    def message(name: str, *fields: tuple[str, int, int, str | None]) -> None:
        made = file.message_type.add(name=name)
        for key, number, kind, of in fields:
            repeated = key in ("layers", "layer", "blobs", "data", "dim")
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            one = made.field.add(name=key, number=number, type=kind, label=label, type_name=of and f".caffe.{of}")
            one.options.packed = repeated and of is None

    dimensions = [(name, number, field.TYPE_INT32, None) for number, name in enumerate(LEGACY_DIMENSIONS, start=1)]
    message("BlobShape", ("dim", 1, field.TYPE_INT64, None))
    blob = [("data", 5, field.TYPE_FLOAT, None), ("shape", 7, field.TYPE_MESSAGE, "BlobShape")]
    message("BlobProto", *dimensions, *blob)
    name, blobs = ("name", 4, field.TYPE_STRING, None), ("blobs", 6, field.TYPE_MESSAGE, "BlobProto")
    message("V1LayerParameter", name, blobs)
    name, blobs = ("name", 1, field.TYPE_STRING, None), ("blobs", 7, field.TYPE_MESSAGE, "BlobProto")
    message("LayerParameter", name, blobs)
    old, new = (
        ("layers", 2, field.TYPE_MESSAGE, "V1LayerParameter"),
        ("layer", 100, field.TYPE_MESSAGE, "LayerParameter"),
    )
    message("NetParameter", old, new)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def from_caffe(content: bytes, model: str) -> dict[str, Tensor]:
    """Our state_dict from a caffemodel of the authors, BGR turned to RGB in conv1_1. ValueError for another file."""
    net = caffe_net().FromString(content)
    blobs = {layer.name: layer.blobs for layer in (*net.layers, *net.layer) if layer.blobs}
    found: dict[str, Tensor] = {"mean": torch.tensor(CAFFE_MEAN)}
    for name in layer_names(model):
        if name not in blobs:
            raise ValueError(f"it has no layer {name}, but {', '.join(blobs) or 'none'}")
        weight, bias = (torch.from_numpy(np.array(one.data, dtype=np.float32)) for one in blobs[name])
        if name in FC_LAYERS:  # (inputs, outputs) in two of four legacy dimensions, inputs in the order C, H, W
            window = 7 if name == "fc6" else 1
            weight = weight.view(len(bias), -1, window, window)
        else:
            kernel = int(TABLE_1[model][int(name[4]) - 1].split()[int(name[6:]) - 1].split("-")[0])
            weight = weight.view(len(bias), -1, kernel, kernel)
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, bias
    found["conv1_1.weight"] = found["conv1_1.weight"].flip(1)
    return found


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


def imported(cfg: TrainConfig) -> Run:
    """The finished run of the published weights that the configuration names, written at their first use.

    Raises UserError where a file on disk is not the one that the run was written from.
    """
    run = Run.named(f"{cfg.weights.source}/{cfg.model.name}", cfg.dirs.runs)
    with run.lock():
        write_if_missing(run, cfg)
    return run


def write_if_missing(run: Run, cfg: TrainConfig) -> None:
    """The work of `imported`, of one process at a time."""
    if run.finished:
        if cfg.weights.path is not None:
            known, now = run.record()["source_sha256"], sha256_of_file(Path(cfg.weights.path))
            require(known == now, f"{run.folder} was made from another file than {cfg.weights.path}: remove the folder")
        return
    state, path = read(cfg.weights.source, cfg.model.name, cfg.weights.path)
    classes = outputs(state, cfg.model.name)
    own = replace(
        train_part(cfg),
        task="classification",
        model=replace(cfg.model, ceil_mode=False),  # an evaluation's own option turns it on
        data=replace(cfg.data, scale=1.0, width=1.0, mirror=True, classes=classes, name=cfg.weights.source),
        weights=Weights(source=None, path=None),
    )
    net = from_state(build(own, classes), state, path)
    run.prepare(own, None)
    run.update_record(source=path.name, source_sha256=sha256_of_file(path))
    save(run, net, class_names(classes))
    print(f"{run.name}: {classes} classes, from {path}, sha256 {run.record()['source_sha256'][:16]}…", flush=True)


def sha256_of_file(path: Path) -> str:
    require(path.is_file(), f"weights.path={path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
