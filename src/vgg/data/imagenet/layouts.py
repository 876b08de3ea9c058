"""ImageNet as people have it: class folders, the original archives, Kaggle's tree, WebDataset or parquet shards.

Nothing is unpacked. An image inside an uncompressed tar is a range of its bytes, and an index of these ranges is kept
in the cache; only parquet, which has no such ranges, is copied there once. Whatever the form, the classes are the
sorted synset ids and the files have the names of the original archives: the same images are the same listing.
"""

import os
import re
from array import array
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from vgg.core.errors import UserError, require
from vgg.data.imagenet.archives import Row, class_tars, copied_parquet, image_tar, indexed, official, shard
from vgg.data.imagenet.labels import DEVKIT, SOLUTION, Truth, check_folders, label_names, synset_of, validation_truth
from vgg.data.listing import Listing, Places, contents, in_class_order, is_left_out, list_folder

ORIGINAL = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}

KAGGLE = "ILSVRC/Data/CLS-LOC"

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev")}

# The hub's own upload puts a hash into each name: train-00000-of-00001-1359597a978bc4fa.parquet.
TAIL = r"(?P<number>\d+)(?P<end>-of-(?P<of>\d+))?(-[0-9a-f]{16})?(?P<form>\.(tar|parquet))"

SHARD = {  # of split; in a folder that is called as the split, a shard's name need not say it
    split: re.compile(rf"(?P<start>(.*[-_.])?({'|'.join(names)})[-_]){TAIL}") for split, names in SPLITS.items()
}

SHARD_IN_SPLIT = re.compile(rf"(?P<start>(.*?[-_.])??){TAIL}")


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
    location = files[0] if form in ("class folders", "archive") else files[0].parent
    truth = validation_truth(root) if split == "val" else Truth("", {})
    if form == "class folders":
        images = list_folder(location)
        check_folders(images, truth)
        return Split(images, f"class folders in {location}", True)
    if form == "parquet":
        files = copied_parquet(files, cache)
    if form == "flat folder":
        sizes = dict(contents(location)[0])  # a link that leads nowhere has 0 bytes
        rows = [Row(number, 0, sizes[str(file)], file.name, None, None) for number, file in enumerate(files)]
    else:
        read = shard if form != "archive" else class_tars if split == "train" else image_tar
        rows = indexed(files, cache, split, read)
    require(bool(rows), f"{location} holds no images")
    synsets = [synset_of(row, files, truth) for row in rows]
    names = label_names(rows, synsets, location)
    named = all(synset or row.label in names for row, synset in zip(rows, synsets, strict=True))
    if not named:  # a few names tell what a few numbers stand for: then all images go by their numbers
        synsets = [synset if row.label is None else None for row, synset in zip(rows, synsets, strict=True)]
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
        "flat folder": f"one folder, {location}",
        "archive": f"the original archive {location}",
        "shards": f"WebDataset shards in {location} ({len(files):,} of them)",
        "parquet": f"parquet shards in {location} ({len(files):,} of them), copied to {files[0].parent}",
    }
    by_truth = f", labels of {truth.source}" if truth.synsets else ""
    return Split(listed(location, rows, classes, files), words[form] + by_truth, named)


def listed(folder: Path, rows: list[Row], classes: list[str], files: list[Path]) -> Listing:
    """In order of classes and names. UserError where two images have the same ones."""
    keys = [(name, file_name(row)) for name, row in zip(classes, rows, strict=True)]
    order = sorted(range(len(rows)), key=keys.__getitem__)
    for one, other in pairwise(order):
        if keys[one] == keys[other]:
            where = " and ".join(sorted({str(files[rows[index].source]) for index in (one, other)}))
            raise UserError(f"{'/'.join(keys[one])} is there twice, in {where}")
    names = tuple(in_class_order(set(classes)))
    number = {name: label for label, name in enumerate(names)}
    return Listing(
        folder,
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


def file_name(row: Row) -> str:
    """An image's original name; where it has another, that one, which is only unique within its archive."""
    if match := official(row.name):
        return f"{match['name']}.JPEG"
    return f"{row.source:05d}-{row.name}" if row.offset else row.name


def locate(root: Path, split: str, val: str | None) -> tuple[str, list[Path]] | None:
    """(form, its folder or files); the forms are class folders, flat folder, archive, shards and parquet.

    None where there is none of them. `val` names the folder of the validation images.
    """
    elsewhere = Path(val) if val and split == "val" else None
    for folder in [elsewhere] if elsewhere else [base / split for base in (root, root / KAGGLE, root / "Data/CLS-LOC")]:
        images, folders = contents(folder) if folder.is_dir() else ([], [])
        flat = [Path(path) for path, _ in images]
        if folders:
            stray = next((path.name for path in flat if official(path.name)), None)
            require(stray is None, f"{folder} has class folders and, beside them, {stray}: it is sorted by half")
            return "class folders", [folder]
        if flat:
            return "flat folder", flat
    if elsewhere:
        return None
    if (root / ORIGINAL[split]).is_file():
        return "archive", [root / ORIGINAL[split]]
    places = [(folder, SHARD[split]) for folder in (root, root / "data", root / "default")]
    places += [(folder / name, SHARD_IN_SPLIT) for folder, _ in places for name in SPLITS[split]]
    for folder, pattern in places:
        for form, ending in (("shards", ".tar"), ("parquet", ".parquet")):
            names = [path.name for path in folder.glob(f"*{ending}") if not is_left_out(path.name)]
            if matches := [match for name in names if (match := pattern.fullmatch(name))]:
                return form, whole_set(folder, matches)
    return None


def whole_set(folder: Path, shards: list[re.Match[str]]) -> list[Path]:
    """The paths of one set of shards, in order. UserError where there are two sets, or one with gaps."""
    sets = sorted({match["start"] + "…" + (match["end"] or "") + match["form"] for match in shards})
    numbers = {int(match["number"]) for match in shards}
    require(len(sets) == 1 and len(numbers) == len(shards), f"{folder} has several sets of shards: {', '.join(sets)}")
    count = int(shards[0]["of"] or max(numbers) + 1)
    missing = sorted(set(range(count)) - numbers)
    require(
        not missing,
        f"{folder}: {len(missing)} of the {count} shards {sets[0]} are missing, number "
        f"{', '.join(map(str, missing[:10]))}{' …' * (len(missing) > 10)}",
    )
    return [folder / match.string for match in sorted(shards, key=lambda match: int(match["number"]))]


def unknown(root: Path, split: str, val: str | None) -> NoImages:
    """What was looked for and what is there."""
    if val and split == "val":
        return NoImages(f"data.val={val} is no folder of class folders or of validation images")
    there = sorted(entry.name for entry in os.scandir(root))
    listed = ", ".join(there[:12]) + (f" and {len(there) - 12} more" if len(there) > 12 else "")
    return NoImages(
        f"no {'training' if split == 'train' else 'validation'} images in {root}. Looked for {split}/<class>/, "
        f"{ORIGINAL[split]}, {KAGGLE}/{split}/, and there and in data/ for shards *{split}…-0000.tar and "
        f"*{split}…-00000-of-….parquet, or in folders of the split's name for numbered ones. There is: "
        f"{listed or 'nothing'}"
    )
