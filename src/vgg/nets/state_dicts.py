"""Files of tensors, read with weights_only=True, and the sha256 of tensors."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import torch

from vgg.core.errors import UserError


def sha256_of_tensors(state: dict[str, Any]) -> str:
    """Of names, shapes and bytes, in the order of names: the same weights have the same sum in any file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(f"{key} {tuple(state[key].shape)}\n".encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


DAMAGED = (OSError, RuntimeError, ValueError, EOFError, KeyError, IndexError, struct.error, pickle.UnpicklingError)


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
