"""ImageNet as people have it: class folders, the original archives, Kaggle's tree, WebDataset or parquet shards.

Nothing is unpacked. An image inside an uncompressed tar is a range of its bytes, and an index of these ranges is kept
in the cache; only parquet, which has no such ranges, is copied there once. Whatever the form, the classes are the
sorted synset ids and the files have the names of the original archives: the same images are the same listing.
"""

import contextlib
import fcntl
import glob
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from vgg.config import UserError, require
from vgg.files import write_whole
from vgg.images import ENDINGS, Listing, Places, list_folder, looks_like_image

SYNSET = re.compile(r"n\d{8}")
# n01440764_10026 and ILSVRC2012_val_00000293 are the original names; Hugging Face's go on with the synset id.
OFFICIAL = re.compile(r"(?P<name>(?P<synset>n\d{8})_\d+|ILSVRC2012_val_\d{8})(_(?P<tail>n\d{8}))?")
ORIGINAL = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
KAGGLE, SOLUTION = "ILSVRC/Data/CLS-LOC", "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_devkit_t12"
META, GROUND_TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
SHARD = re.compile(
    r"(?P<start>(.*[-_.])?(?P<split>train|val|validation)[-_])(?P<number>\d+)(?P<end>(-of-(?P<of>\d+))?\.(tar|parquet))"
)
RECIPE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]  # an index made by other code is made again


class Row(NamedTuple):
    """An image as its form gives it."""

    source: int  # which of the form's files holds it
    offset: int  # of its first byte there; 0: that file is the image
    size: int  # bytes
    name: str  # of its file
    label: int | None  # the data's number for its class
    synset: str | None  # its class, where a folder, an archive or a label file says it


class Truth(NamedTuple):
    """The synset id of validation images by their names without ending, and where that was read."""

    source: str
    synsets: dict[str, str]


class NoImages(UserError):
    """There is nothing that looks like images of this split, in any form."""


@dataclass(frozen=True)
class Split:
    """The images of a split, and how they were found."""

    images: Listing
    form: str
    named: bool  # false: label numbers are taken for positions in the sorted synset ids, and nothing tells if they are


def find(root: Path, split: str, cache: Path, val: str | None = None, ask_other: bool = True) -> Split:
    """The images of split "train" or "val" in whatever form `root` has them; `val` names their folder instead.

    Where nothing names the synsets that label numbers stand for, the other split does (`ask_other`); where that does
    not either, the numbers are the classes' names. UserError for a form that is not known, for half of one, and for
    labels that the data itself contradicts.
    """
    require(root.is_dir(), f"no folder {root}: it should be the one that holds ImageNet")
    located = locate(root, split, val)
    if located is None:
        raise unknown(root, split, val)
    form, files = located
    place = files[0] if form in ("class folders", "archive") else files[0].parent
    truth = validation_truth(root) if split == "val" else Truth("", {})
    if form == "class folders":
        images = list_folder(place)
        check_folders(images, truth)
        return Split(images, f"class folders in {place}", True)
    if form == "parquet":
        files = copied_parquet(files, cache)
    if form == "flat folder":
        rows = [Row(number, 0, file.stat().st_size, file.name, None, None) for number, file in enumerate(files)]
    else:
        read = shard if form != "archive" else class_tars if split == "train" else image_tar
        rows = indexed(files, cache, split, read)
    require(bool(rows), f"{place} holds no images")
    synsets = [synset_of(row, files, truth) for row in rows]
    names = label_names(rows, synsets, place)
    named = bool(names) or all(synsets)
    if not named:
        names = {row.label: f"{row.label:04d}" for row in rows if row.label is not None}
        other = {"train": "val", "val": "train"}[split]
        if ask_other and locate(root, other, val) and (naming := find(root, other, cache, val, ask_other=False)).named:
            names = dict(enumerate(naming.images.classes))
    classes = [synset or names.get(row.label) for row, synset in zip(rows, synsets, strict=True)]
    if None in classes:
        row = rows[classes.index(None)]
        hint = f"put {DEVKIT}.tar.gz or {SOLUTION} there" if row.label is None else f"its label is {row.label}"
        raise UserError(f"{files[row.source]}: nothing in {root} tells the class of {row.name}: {hint}")
    words = {
        "flat folder": f"one folder, {place}",
        "archive": f"the original archive {place}",
        "shards": f"WebDataset shards in {place} ({len(files):,} of them)",
        "parquet": f"parquet shards in {place} ({len(files):,} of them), copied to {files[0].parent}",
    }
    by_truth = f", labels of {truth.source}" if truth.synsets else ""
    return Split(listed(place, rows, classes, files), words[form] + by_truth, named)


def listed(place: Path, rows: list[Row], classes: list[str], files: list[Path]) -> Listing:
    """In order of classes and names. UserError where two images have the same ones."""
    keys = [(name, file_name(row)) for name, row in zip(classes, rows, strict=True)]
    order = sorted(range(len(rows)), key=keys.__getitem__)
    for one, other in pairwise(order):
        if keys[one] == keys[other]:
            where = " and ".join(sorted({str(files[rows[index].source]) for index in (one, other)}))
            raise UserError(f"{'/'.join(keys[one])} is there twice, in {where}")
    names = tuple(sorted(set(classes)))
    number = {name: label for label, name in enumerate(names)}
    return Listing(
        place,
        names,
        tuple("/".join(keys[index]) for index in order),
        tuple(rows[index].size for index in order),
        tuple(number[classes[index]] for index in order),
        Places(
            tuple(files),
            array("i", (rows[index].source for index in order)),
            array("q", (rows[index].offset for index in order)),
        ),
    )


def official(name: str) -> re.Match[str] | None:
    """The parts of a file's name, whatever its folder and ending, where ImageNet's images are called that."""
    return OFFICIAL.fullmatch(name.rpartition("/")[2].partition(".")[0])


def file_name(row: Row) -> str:
    """An image's original name; where it has another, that one, which is only unique within its archive."""
    if match := official(row.name):
        return f"{match['name']}.JPEG"
    return f"{row.source:05d}-{row.name}" if row.offset else row.name


# --- which form it is


def locate(root: Path, split: str, val: str | None) -> tuple[str, list[Path]] | None:
    """(form, its folder or files); the forms are class folders, flat folder, archive, shards and parquet.

    None where there is none of them. `val` names the folder of the validation images.
    """
    elsewhere = Path(val) if val and split == "val" else None
    for folder in [elsewhere] if elsewhere else [base / split for base in (root, root / KAGGLE, root / "Data/CLS-LOC")]:
        entries = [entry for entry in os.scandir(folder) if entry.name[0] != "."] if folder.is_dir() else []
        flat = sorted(Path(entry) for entry in entries if entry.is_file() and looks_like_image(entry.path))
        if any(entry.is_dir() for entry in entries):
            stray = next((path.name for path in flat if official(path.name)), None)
            require(stray is None, f"{folder} has class folders and, beside them, {stray}: it is sorted by half")
            return "class folders", [folder]
        if flat:
            return "flat folder", flat
    if elsewhere:
        return None
    if (root / ORIGINAL[split]).is_file():
        return "archive", [root / ORIGINAL[split]]
    for folder in (root, root / "data"):
        for form, ending in (("shards", ".tar"), ("parquet", ".parquet")):
            found = [SHARD.fullmatch(path.name) for path in folder.glob(f"*{ending}")]
            if found := [match for match in found if match and match["split"][:3] == split[:3]]:
                return form, whole_set(folder, found)
    return None


def whole_set(folder: Path, found: list[re.Match[str]]) -> list[Path]:
    """The paths of one set of shards, in order. UserError where there are two sets, or one with gaps."""
    sets = sorted({match["start"] + "…" + match["end"] for match in found})
    numbers = {int(match["number"]) for match in found}
    require(len(sets) == 1 and len(numbers) == len(found), f"{folder} has several sets of shards: {', '.join(sets)}")
    count = int(found[0]["of"] or max(numbers) + 1)
    missing = sorted(set(range(count)) - numbers)
    require(
        not missing,
        f"{folder}: {len(missing)} of the {count} shards {sets[0]} are missing, number "
        f"{', '.join(map(str, missing[:10]))}{' …' * (len(missing) > 10)}",
    )
    return [folder / match.string for match in sorted(found, key=lambda match: int(match["number"]))]


def unknown(root: Path, split: str, val: str | None) -> NoImages:
    """What was looked for and what is there."""
    if val and split == "val":
        return NoImages(f"data.val={val} is no folder of class folders or of validation images")
    there = sorted(entry.name for entry in os.scandir(root))
    listed = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
    return NoImages(
        f"no {'training' if split == 'train' else 'validation'} images in {root}. Looked for {split}/<class>/, "
        f"{ORIGINAL[split]}, {KAGGLE}/{split}/, and there and in data/ for shards *{split}…-0000.tar and "
        f"*{split}…-00000-of-….parquet. There is: {listed or 'nothing'}"
    )


# --- what says the classes


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


def label_names(rows: Iterable[Row], synsets: list[str | None], place: Path) -> dict[int, str]:
    """Label number -> synset id, where images tell both. UserError where numbers do not follow the synset ids."""
    names: dict[int, str] = {}
    for row, synset in zip(rows, synsets, strict=True):
        if row.label is not None and synset and names.setdefault(row.label, synset) != synset:
            raise UserError(f"{place}: {row.name} is of class {synset}, its label {row.label} is {names[row.label]}")
    for (low, one), (high, other) in pairwise(sorted(names.items())):
        require(
            one < other,
            f"{place}: label {low} is {one} and label {high} is {other}, but a label must be a position in the sorted "
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
    for place in (root / DEVKIT, root / f"{DEVKIT}.tar.gz"):
        if (place / GROUND_TRUTH).is_file() or place.is_file():
            return Truth(str(place), devkit_synsets(place))
    return Truth("", {})


def solution_synsets(path: Path) -> dict[str, str]:
    """Kaggle's rows are `ILSVRC2012_val_00048981,n03995372 85 1 499 272`, with four numbers for each object."""
    found: dict[str, str] = {}
    with open(path, errors="replace") as file:
        for number, line in enumerate(file, start=1):
            name, _, objects = line.strip().partition(",")
            if name in ("", "ImageId"):
                continue
            synset = objects.partition(" ")[0]
            require(SYNSET.fullmatch(synset) is not None, f"{path}, line {number}: {line[:60]!r} names no synset id")
            require(found.setdefault(name, synset) == synset, f"{path}, line {number}: {name} has two classes")
    return found


@contextlib.contextmanager
def devkit_file(place: Path, name: str) -> Iterator[BinaryIO]:
    """A file of the devkit, a folder or its archive. UserError where it is not there or not what it should be."""
    try:
        if place.is_dir():
            yield io.BytesIO((place / name).read_bytes())
        else:
            with tarfile.open(place) as archive:
                yield io.BytesIO(archive.extractfile(f"{DEVKIT}/{name}").read())
    except (OSError, EOFError, KeyError, ValueError, TypeError, tarfile.TarError, zlib.error, MatReadError) as error:
        raise UserError(f"{place} is not the devkit with {name}: {error}") from error


def devkit_ids(place: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> synset id of the 1,000 classes."""
    with devkit_file(place, META) as file:
        rows = loadmat(file, squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if row["num_children"] == 0}


def devkit_synsets(place: Path) -> dict[str, str]:
    """Line i of the ground truth is the ILSVRC2012_ID of validation image i."""
    ids = devkit_ids(place)
    with devkit_file(place, GROUND_TRUTH) as file:
        lines = enumerate(file.read().split(), start=1)
        return {f"ILSVRC2012_val_{number:08d}": ids[int(line)] for number, line in lines}


# --- what is in archives


def members(file: BinaryIO, where: str, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """(name, offset in `file`, size in bytes) of every file in the uncompressed tar at `start` … `end`, no hidden ones.

    Only headers are read. UserError where it does not end as a tar does: half of one must not pass for a whole.
    """
    try:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and PurePosixPath(member.name).name[0] != ".":
                    yield member.name, member.offset_data, member.size
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE) or (end is not None and tar.offset >= end):
                raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"{where} is not a whole, uncompressed tar: {error}. Was it cut short? Copy or download it again"
        ) from error


def image_tar(
    file: BinaryIO, where: str, source: int, start: int = 0, end: int | None = None, synset: str | None = None
) -> Iterator[Row]:
    """A tar of images; those of one class where `synset` says it."""
    for name, offset, size in members(file, where, start, end):
        if PurePosixPath(name).suffix.lower() in ENDINGS:
            yield Row(source, offset, size, PurePosixPath(name).name, None, synset)


def class_tars(file: BinaryIO, where: str, source: int) -> Iterator[Row]:
    """A tar of one tar of images a class, n01440764.tar."""
    for name, start, size in members(file, where):
        if name.endswith(".tar"):
            yield from image_tar(file, f"{where}: {name}", source, start, start + size, PurePosixPath(name).stem)


def shard(file: BinaryIO, where: str, source: int) -> Iterator[Row]:
    """WebDataset: with KEY.jpg go KEY.cls, a number, and KEY.json, of which label, wnid and filename are read."""
    samples: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for name, offset, size in members(file, where):
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        parts = samples[folder + slash + stem]
        require(ending.lower() not in parts, f"{where} holds {name} twice")
        parts[ending.lower()] = offset, size

    def content(offset: int, size: int) -> str:
        file.seek(offset)
        return file.read(size).decode().strip()

    for key, parts in samples.items():
        images = [place for ending, place in parts.items() if f".{ending}" in ENDINGS]
        if not images:
            continue
        require(len(images) == 1, f"{where} holds {len(images)} images {key}")
        try:
            about = json.loads(content(*parts["json"])) if "json" in parts else {}
            said = content(*parts["cls"]) if "cls" in parts else about.get("label")
            synset = said if SYNSET.fullmatch(str(said)) else about.get("wnid")
            label = None if said in (None, synset) else int(said)
            if label is not None and label < 0:
                raise ValueError(f"{label} stands for no class")
            name = about.get("filename")
            name = name if name and official(name) else key
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{where}: the label of {key} cannot be read: {error}") from error
        yield Row(source, *images[0], name, label, synset)


def indexed(
    files: list[Path], cache: Path, split: str, read: Callable[[BinaryIO, str, int], Iterable[Row]]
) -> list[Row]:
    """The rows of these archives: read from their headers once, then from an index in the cache.

    The index knows their paths, sizes and times of change: where one is replaced, it is made again.
    """
    state = [RECIPE, *([str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files)]
    kept = cache / "index" / f"{digest(files[0].parent)}-{split}.json"
    with alone(kept):
        if kept.is_file():
            content = json.loads(kept.read_bytes())
            if content["of"] == state:
                return [Row(*row) for row in content["rows"]]
        what = f"{len(files):,} archives in {files[0].parent}" if len(files) > 1 else files[0]
        print(f"reading the headers of {what}, once", flush=True)
        rows: list[Row] = []
        for number, path in enumerate(files):
            with open(path, "rb") as file:
                rows += read(file, str(path), number)
        with write_whole(kept) as file:
            file.write(json.dumps({"of": state, "rows": rows}).encode())
        return rows


def copied_parquet(files: list[Path], cache: Path) -> list[Path]:
    """Tar shards in the cache with the images of these files, each written whole or not at all.

    UserError where pyarrow is missing, the disk has no room, or a file is not Hugging Face's with image and label.
    """
    folder = cache / "parquet" / digest(files[0].parent)
    states = [file.stat() for file in files]
    tars = [
        folder / f"{file.stem}-{state.st_size}-{state.st_mtime_ns}.tar"
        for file, state in zip(files, states, strict=True)
    ]
    with alone(folder / "tars"):
        missing = [(file, tar) for file, tar in zip(files, tars, strict=True) if not tar.is_file()]
        if not missing:
            return tars
        need, free = 1.05 * sum(file.stat().st_size for file, _ in missing), shutil.disk_usage(folder).free
        what = (
            f"parquet cannot be read image by image: {len(missing):,} files in {files[0].parent} are copied once to "
            f"{folder}, {need / 1e9:.1f} GB"
        )
        require(need < free, f"{what}, where {free / 1e9:.1f} GB are free: dirs.cache=FOLDER names another place")
        print(what, flush=True)
        for file, tar in missing:
            for outdated in folder.glob(f"{glob.escape(file.stem)}-*.tar"):
                outdated.unlink()
            with write_whole(tar) as out, tarfile.open(fileobj=out, mode="w") as archive:
                for name, content in parquet_members(file):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return tars


def parquet_members(file: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of a shard's members: KEY.jpg and KEY.cls for each row of image {bytes, path} and label."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"{file} needs pyarrow to be read: python -m pip install pyarrow") from error
    try:
        table = pyarrow.parquet.ParquetFile(file)
        columns = table.schema_arrow.names
        require({"image", "label"} <= set(columns), f"{file} has columns {', '.join(columns)}, not image and label")
        number = 0
        for batch in table.iter_batches(64, columns=["image", "label"]):
            for row in batch.to_pylist():
                image = row["image"] if isinstance(row["image"], dict) else {}
                require(
                    bool(image.get("bytes")) and row["label"] is not None,
                    f"{file}: row {number} lacks its image's bytes or its label",
                )
                match = official(image.get("path") or "")
                key = match[0] if match else f"{number:07d}"
                yield f"{key}.jpg", image["bytes"]
                yield f"{key}.cls", str(row["label"]).encode()
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is not a whole parquet file: {error}") from error


def digest(folder: Path) -> str:
    """What the cache calls a folder."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One at a time of the ranks and runs that want `path`: the first one writes it, the others find it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
