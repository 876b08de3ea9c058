"""The atom of evaluation: (run, view, Q) -> an array of posteriors, a row an image, computed once and kept.

Every row of Tables 3 to 6 is the mean of some such arrays: several scales, multi-crop & dense, several nets.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vgg.core.errors import UserError, require
from vgg.core.files import write_whole


@dataclass(frozen=True)
class Key:
    """What an array of posteriors depends on. Another value of any of these is another array."""

    weights: str  # sha256 of the net's tensors
    images: str  # sha256 of the listing
    view: str
    q: int  # in the paper's pixels
    softmax: str
    ceil_mode: bool
    mirror: bool  # whether mirror images are averaged in
    precision: str
    resampling: str = "torch-bilinear-antialias"

    def path(self, cache: Path) -> Path:
        return cached(cache, asdict(self))


def cached(cache: Path, key: dict[str, Any]) -> Path:
    """Where the array lies that this key tells from all others."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache / "posteriors" / f"{digest[:32]}.npz"


def save(path: Path, rows: np.ndarray, covered: np.ndarray, origin: dict[str, Any] | None = None) -> None:
    """Keep an array: rows (images, classes) float32; covered (images,) says which rows were computed.

    `origin` says what computed it: versions, device and precision, and `content`, the sum of the images' bytes.
    """
    with write_whole(path) as file:
        np.savez(file, rows=rows, covered=covered, origin=json.dumps(origin or {}))


def read(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    """(rows, covered) as they were saved, or what is named of them. Raises UserError where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return tuple(file[name] for name in names or ("rows", "covered"))
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or gone: remove it and run the same command again") from error


def origin(path: Path) -> dict[str, Any]:
    """What computed the array in this file, as it was saved; empty for one that is older than that."""
    with contextlib.suppress(UserError):  # lacks it; a damaged file is refused where its rows are read
        return json.loads(str(read(path, "origin")[0]))
    return {}


def left_out(path: Path) -> list[int]:
    """The images that an array does not cover. Raises UserError where the file is damaged."""
    return np.flatnonzero(~read(path, "covered")[0]).tolist()


def load(path: Path, images: int) -> tuple[np.ndarray, np.ndarray]:
    """The array in this file, (images, classes), and which images it covers: all that could be read."""
    rows, covered = read(path)
    require(len(rows) == len(covered) == images, f"{path} has {len(rows)} rows for {images} images: remove it")
    return rows, covered


def mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of posteriors, each with equal weight (section 3.2, and 4.4 and 4.5 for several views and nets)."""
    total = np.zeros_like(arrays[0], dtype=np.float64)
    for array in arrays:
        total += array
    return total / len(arrays)


def correct(posterior: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(images,) bool: the true class is among the k most probable. Ties go to the lower class index."""
    order = np.argsort(-posterior, axis=1, kind="stable")[:, :k]
    return (order == np.asarray(labels)[:, None]).any(1)
