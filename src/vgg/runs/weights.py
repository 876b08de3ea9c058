"""The weights of a finished run: one file of tensors and plain values, read with weights_only=True."""

import re

import torch

from vgg.core.config import TrainConfig
from vgg.core.errors import UserError, require
from vgg.core.files import write_whole
from vgg.data.listing import Listing
from vgg.nets.base import Network
from vgg.nets.factory import make
from vgg.nets.state_dicts import read_tensors, sha256_of_tensors
from vgg.runs.run import Run


def build(cfg: TrainConfig, classes: int) -> Network:
    """The net of this configuration, its weights not yet drawn; a box predictor gives boxes in place of classes."""
    data, model, outputs = cfg.data, cfg.model, classes
    if cfg.task == "localisation":
        outputs = 4 * classes if cfg.localisation.boxes == "pcr" else 4
    return make(model.name, outputs, data.scale, data.width, model.dropout, model.ceil_mode)


def size(net: Network) -> dict[str, int]:
    """A net's parameters, and the multiply-adds of one training crop."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {"parameters": parameters, "multiply_adds": net.multiply_adds()}


def save(run: Run, net: Network, classes: tuple[str, ...]) -> str:
    """Write the finished run's weights; their sha256 is returned, and recorded first with the net's size."""
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    sha = sha256_of_tensors(state)
    run.update_record(weights_sha256=sha, classes=list(classes), **size(net))
    with write_whole(run.weights) as file:
        torch.save({"state_dict": state, "classes": list(classes), "run": run.name}, file)
    return sha


def same_outputs(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the nets' outputs mean the same: the same class names, or ImageNet's 1,000 by names and by synset ids."""
    synsets = all(re.fullmatch(r"n\d{8}", name) for name in other)
    return one == other or (len(one) == len(other) == 1000 and synsets)


def published_match(name: str, classes: tuple[str, ...], images: Listing) -> str:
    """How the outputs of the published net `name` and the images' classes belong together, as a sentence.

    By ImageNet's synset ids, by the folders' numbers, or, where the net's file names no classes, by their order.
    Raises UserError where their number differs, or the net's classes have names that are not the images'.
    """
    folders = images.classes
    require(
        len(classes) == len(folders),
        f"{name} has {len(classes)} classes and cannot be scored on the {len(folders)} of {images.root}",
    )
    span = f"{folders[0]} … {folders[-1]}"
    if all(folder.isdecimal() and int(folder) == number for number, folder in enumerate(folders)):
        return f"{name}: its outputs are taken by their numbers for the class folders, {span}"
    if folders == classes:
        return f"{name}: its outputs and the class folders have the same names, {span}"
    if same_outputs(classes, folders):
        return f"{name}: its outputs are taken for ImageNet's synset ids in order, {span}"
    if all(map(str.isdecimal, classes)):
        return f"{name} names no classes: its outputs 0 … {len(classes) - 1} are taken for the class folders, {span}"
    raise UserError(
        f"{name} tells {classes[0]} … {classes[-1]} apart, the class folders of {images.root} are called {span}: name "
        f"them by ImageNet's synset ids, or 0 to {len(classes) - 1} in the order of those"
    )


def load(run: Run, task: str = "classification") -> tuple[Network, tuple[str, ...]]:
    """The finished run's net, in evaluation mode, and its class names. Any missing or unexpected layer raises."""
    require(run.finished, f"{run.name} is not finished, or there is no such run: {run.folder}")
    content, cfg = read_tensors(run.weights, {"state_dict", "classes"}), run.config()
    require(cfg.task == task, f"{run.name} was trained with task={cfg.task}, this needs a run of task={task}")
    net = build(cfg, len(content["classes"]))
    try:
        net.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{run.weights} does not fit {run.name}'s configuration: {error}") from error
    return net.eval(), tuple(content["classes"])
