"""Appendix B's data: the images whose descriptors are classified, their labels, and which of them train and test."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg.core.config import Data, EvaluateConfig, Transfer
from vgg.core.errors import require
from vgg.data import voc
from vgg.data.datasets import data_root, listing
from vgg.data.listing import Listing, Places, list_folder, same_classes


class Split(NamedTuple):
    """Indices of samples, in order: to train on, those of them that choose C, and to test on."""

    train: np.ndarray
    held_out: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Samples:
    """What is classified: each sample is an image, or a person in one."""

    images: Listing
    rows: np.ndarray  # (samples,) the image of each
    people: voc.Boxes | None  # (samples,) each one's part of its image
    truth: np.ndarray  # (samples, classes) int8: 1, -1, or 0 where it does not count
    to_train: np.ndarray | None  # (samples,) bool, the data's own split; None: it is drawn


def samples(cfg: EvaluateConfig) -> Samples:
    """The samples of the data that the configuration names: VOC's two splits, or every image of class folders."""
    cache = Path(cfg.dirs.cache)
    if cfg.data.form == "voc":
        return voc_samples(data_root(cfg.data, cache), cfg.transfer)
    images = pooled(cfg.data, cache)
    labels = np.array(images.labels)
    truth = np.where(labels[:, None] == np.arange(len(images.classes)), 1, -1).astype(np.int8)
    return Samples(images, np.arange(len(images)), None, truth, None)


def voc_samples(root: Path, how: Transfer) -> Samples:
    """VOC's training and test part, images by objects or people by actions."""
    train, test = (voc.labelled(root, split, how.labels) for split in (how.train_split, how.test_split))
    same_classes(train.classes, test.classes, f"{root}: {how.train_split} and {how.test_split}")
    both = [sample for part in (train, test) for sample in part.samples]
    shared = {sample.image for sample in train.samples} & {sample.image for sample in test.samples}
    require(
        not shared, f"{root}: {how.train_split} and {how.test_split} share {len(shared)} images: {sorted(shared)[:1]}"
    )
    names = list(dict.fromkeys(sample.image for sample in both))
    place = {name: row for row, name in enumerate(names)}
    return Samples(
        voc.images(root, names, train.classes),
        np.array([place[sample.image] for sample in both]),
        voc.people(root, tuple(both), train.classes) if how.person_boxes else None,
        np.concatenate([train.truth, test.truth]),
        np.arange(len(both)) < len(train.samples),
    )


def pooled(data: Data, cache: Path) -> Listing:
    """Every image of class folders: those in data.root itself, or its training and validation (or test) images."""
    root = data_root(data, cache)
    if data.form == "folder" and not (root / "train").is_dir():
        return list_folder(root)
    if data.form == "folder" and data.val is None and not (root / "val").is_dir():
        data = replace(data, val=str(root / "test"))
    train, val = (listing(data, cache, split) for split in ("train", "val"))
    same_classes(train.classes, val.classes, f"{train.root} and {val.root}")
    parts = {"train": train, "val": val}
    places = [part.place(index) for part in parts.values() for index in range(len(part))]
    return Listing(
        root,
        train.classes,
        tuple(f"{split}/{file}" for split, part in parts.items() for file in part.files),
        train.sizes + val.sizes,
        train.labels + val.labels,
        Places(
            tuple(path for path, _ in places),
            array("i", range(len(places))),
            array("q", (offset for _, offset in places)),
        ),
    )


def splits(known: Samples, how: Transfer, usable: np.ndarray) -> Iterator[Split]:
    """The data's own split, or `how.splits` drawn ones, of the `usable` (samples,) ones.

    Drawn class by class: `how.train` images to train on, and of the others up to `how.test` to test on. Part of the
    training images, the same of each class, choose C. Raises UserError naming a class with too few images.
    """
    if known.to_train is not None:
        rng = np.random.default_rng(how.seed)
        train = np.flatnonzero(known.to_train & usable)
        chosen = rng.permutation(train)[: held_out(len(train), how)]
        yield Split(train, np.sort(chosen), np.flatnonzero(~known.to_train & usable))
        return
    members = [np.flatnonzero((column == 1) & usable) for column in known.truth.T]
    for name, own in zip(known.images.classes, members, strict=True):
        require(
            len(own) > how.train,
            f"{name} has {len(own)} images: transfer.train={how.train} leaves none to test on",
        )
    for number in range(how.splits):
        rng = np.random.default_rng([how.seed, number])
        orders = [rng.permutation(own) for own in members]
        chosen = held_out(how.train, how)
        yield Split(
            *(
                np.sort(np.concatenate([order[part] for order in orders]))
                for part in (slice(how.train), slice(chosen), slice(how.train, how.train + how.test))
            )
        )


def held_out(images: int, how: Transfer) -> int:
    """How many of so many training images choose C: at least one, and not all."""
    return min(max(1, round(how.held_out * images)), images - 1)


def described_images(cfg: EvaluateConfig) -> Listing:
    """All images whose descriptors are asked for, or the parts of them that show people."""
    known = samples(cfg)
    return known.images if known.people is None else known.people
