"""The weights of a finished run: one file of tensors and plain values, read with weights_only=True."""

import pickle
import re
import struct
from pathlib import Path
from typing import Any

import torch

from vgg.around import make
from vgg.config import TrainConfig, UserError, require
from vgg.files import write_whole
from vgg.images import Listing
from vgg.network import Network
from vgg.runs import Run, sha256_of_tensors

DAMAGED = (OSError, RuntimeError, ValueError, EOFError, KeyError, IndexError, struct.error, pickle.UnpicklingError)


def build(cfg: TrainConfig, classes: int) -> Network:
    """The net of this configuration, its weights not yet drawn; a box predictor gives boxes in place of classes."""
    data, model, outputs = cfg.data, cfg.model, classes
    if cfg.task == "localisation":
        outputs = 4 * classes if cfg.localisation.boxes == "pcr" else 4
    return make(model.name, outputs, data.scale, data.width, model.dropout, model.ceil_mode)


def read_tensors(path: Path, keys: set[str]) -> dict[str, Any]:
    """A file of ours as a dictionary that has at least these keys; UserError names the file otherwise."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        why, *_ = str(error).splitlines() or [type(error).__name__]
        if "Weights only load failed" in str(error):  # other bytes, or objects that only code could make
            why = "not of tensors and plain values alone. Of a net, torch.save(net.state_dict(), FILE) writes those"
        raise UserError(f"{path} is damaged or not a file of this project: {why}") from error
    if not isinstance(content, dict) or not keys <= set(content):
        raise UserError(f"{path} is not a file of this project: it lacks {', '.join(sorted(keys))}")
    return content


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
