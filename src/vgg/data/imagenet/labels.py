"""Which class an ImageNet image is of: by its folder, its name, its label's number, Kaggle's solution or the devkit."""

import contextlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from vgg.core.errors import UserError, require
from vgg.data.imagenet.archives import SYNSET, Row, official
from vgg.data.listing import Listing

SOLUTION = "LOC_val_solution.csv"  # Kaggle's

DEVKIT = "ILSVRC2012_devkit_t12"

META, GROUND_TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


class Truth(NamedTuple):
    """The synset id of validation images by their names without ending, and where that was read."""

    source: str
    synsets: dict[str, str]


def synset_of(row: Row, files: list[Path], truth: Truth) -> str | None:
    """By its folder or label, by its name, and by the ground truth. UserError where two of them disagree."""
    match = official(row.name)
    by_name = match and (match["tail"] or match["synset"])
    by_truth = match and truth.synsets.get(match["name"])
    said = {synset for synset in (row.synset, by_name, by_truth) if synset}
    if len(said) > 1:
        sources = {"its folder or label": row.synset, "its name": by_name, truth.source: by_truth}
        raise UserError(
            f"{files[row.source]}: {row.name} is of class "
            + " and ".join(f"{synset} by {source}" for source, synset in sources.items() if synset)
            + ". The labels are in another order than the sorted synset ids, or the image is in a wrong place"
        )
    return next(iter(said), None)


def label_names(rows: Iterable[Row], synsets: list[str | None], path: Path) -> dict[int, str]:
    """Label number -> synset id, where images tell both. UserError where numbers do not follow the synset ids."""
    names: dict[int, str] = {}
    for row, synset in zip(rows, synsets, strict=True):
        if row.label is not None and synset and names.setdefault(row.label, synset) != synset:
            raise UserError(f"{path}: {row.name} is of class {synset}, its label {row.label} is {names[row.label]}")
    for (low, one), (high, other) in pairwise(sorted(names.items())):
        require(
            one < other,
            f"{path}: label {low} is {one} and label {high} is {other}, but a label must be a position in the sorted "
            "synset ids, or nets are scored against wrong classes. Are these the devkit's ILSVRC2012_IDs? Make these "
            "files again with the sorted order, or use class folders or the original archives",
        )
    return names


def check_folders(images: Listing, truth: Truth) -> None:
    """Refuse class folders that the names of their files, or the ground truth, contradict."""
    if not all(SYNSET.fullmatch(name) or name.isdigit() for name in images.classes):
        return  # names of one's own have no order of synsets to follow
    rows = []
    for file, label in zip(images.files, images.labels, strict=True):
        name = images.classes[label]
        rows.append(Row(label, 0, 0, file, *((None, name) if name[0] == "n" else (label, None))))
    folders = [images.root / name for name in images.classes]
    label_names(rows, [synset_of(row, folders, truth) for row in rows], images.root)


def validation_truth(root: Path) -> Truth:
    """From Kaggle's solution or from the devkit, a folder or its archive; empty where there is none of them."""
    kaggle = root.resolve().parents[:3] if root.resolve().name in ("ILSVRC", "CLS-LOC") else ()
    for solution in (folder / SOLUTION for folder in (root, root / "ILSVRC", *kaggle)):
        if solution.is_file():
            return Truth(str(solution), solution_synsets(solution))
    for path in (root / DEVKIT, root / f"{DEVKIT}.tar.gz"):
        if (path / GROUND_TRUTH).is_file() or path.is_file():
            return Truth(str(path), devkit_synsets(path))
    return Truth("", {})


def solution_synsets(path: Path) -> dict[str, str]:
    """Kaggle's rows are `ILSVRC2012_val_00048981,n03995372 85 1 499 272`, with four numbers for each object."""
    synsets: dict[str, str] = {}
    with open(path, errors="replace") as file:
        for number, line in enumerate(file, start=1):
            name, _, objects = line.strip().partition(",")
            if name in ("", "ImageId"):
                continue
            synset = objects.partition(" ")[0]
            require(SYNSET.fullmatch(synset) is not None, f"{path}, line {number}: {line[:60]!r} names no synset id")
            require(synsets.setdefault(name, synset) == synset, f"{path}, line {number}: {name} has two classes")
    return synsets


@contextlib.contextmanager
def devkit_file(devkit: Path, name: str) -> Iterator[BinaryIO]:
    """A file of the devkit, a folder or its archive. UserError where it is not there or not what it should be."""
    try:
        if devkit.is_dir():
            yield io.BytesIO((devkit / name).read_bytes())
        else:
            with tarfile.open(devkit) as archive:
                yield io.BytesIO(archive.extractfile(f"{DEVKIT}/{name}").read())
    except (OSError, EOFError, KeyError, ValueError, TypeError, tarfile.TarError, zlib.error, MatReadError) as error:
        raise UserError(f"{devkit} is not the devkit with {name}: {error}") from error


def devkit_ids(devkit: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> synset id of the 1,000 classes."""
    with devkit_file(devkit, META) as file:
        rows = loadmat(file, squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if row["num_children"] == 0}


def devkit_synsets(devkit: Path) -> dict[str, str]:
    """Line i of the ground truth is the ILSVRC2012_ID of validation image i."""
    ids = devkit_ids(devkit)
    with devkit_file(devkit, GROUND_TRUTH) as file:
        lines = enumerate(file.read().split(), start=1)
        return {f"ILSVRC2012_val_{number:08d}": ids[int(line)] for number, line in lines}
