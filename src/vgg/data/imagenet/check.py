"""`python -m vgg check ROOT`: what images there are, whether they are all there, and whether they can be read."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from vgg.core.errors import UserError, require
from vgg.data.encoded_image import UNREADABLE, Picture, reason
from vgg.data.imagenet.archives import SYNSET
from vgg.data.imagenet.layouts import NoImages, Split, find
from vgg.data.listing import Listing, same_classes, single_class
from vgg.data.workers import Loader

WHAT = {"train": "training images", "val": "validation images"}

IMAGES, CLASSES, SMALLEST_CLASS = {"train": 1_281_167, "val": 50_000}, 1000, {"train": 732, "val": 50}  # ILSVRC-2012's

SAMPLE = 1000  # images of a split that are decoded, unless all are

FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


class Examined(Dataset):
    """Item index -> (index, why it cannot be read or None, its format, its mode, (width, height))."""

    def __init__(self, images: Listing):
        self.images = images

    def __getitem__(self, index: int) -> tuple[int, str | None, str, str, tuple[int, int]]:
        try:
            picture = Picture(self.images.read(index))
            picture.pixels()
            return index, None, picture.form, picture.mode, picture.size
        except UNREADABLE as error:
            return index, reason(error), "", "", (0, 0)


def check(root: Path, cache: Path, everything: bool) -> None:
    """Print what is found and, in the last line, the verdict. SystemExit with status 1 where something is wrong."""
    require(root.is_dir(), f"no folder {root}")
    problems: list[str] = []
    notes: list[str] = []
    splits: dict[str, Split] = {}
    for name, what in WHAT.items():
        try:
            split = find(root, name, cache)
        except UserError as error:
            print(f"{what}: {error}", flush=True)
            if name == "train" and isinstance(error, NoImages):
                notes.append("no training images: enough to evaluate, not to train")
            else:
                problems.append(f"there are no usable {what}")
            continue
        print(f"{what}: {split.form}", flush=True)
        count(name, split, problems, notes)
        examine(name, split.images, everything, problems)
        splits[name] = split
    if len(splits) == 2:
        train, val = (split.images.classes for split in splits.values())
        try:
            same_classes(train, val, "training and validation images")
            print(f"classes: the same {len(train):,} in both, in the same order")
        except UserError as error:
            print(f"classes: {error}")
            problems.append("training and validation images have different classes")
    if everything:
        check_archives(root, problems)
    if problems:
        print(f"wrong: {'; '.join(problems)}")
        raise SystemExit(1)
    if not notes and {name: len(split.images) for name, split in splits.items()} == IMAGES:
        notes.append("the whole of ILSVRC-2012")
    print("; ".join(["fine", *dict.fromkeys(notes)]))


def count(name: str, split: Split, problems: list[str], notes: list[str]) -> None:
    """Say how many there are; of ImageNet, also how that compares with the whole of it and whether labels are right."""
    images, total, least = split.images, IMAGES[name], SMALLEST_CLASS[name]
    counts = Counter(images.labels)
    fewest, most = min(counts.values()), max(counts.values())
    print(
        f"  {len(images):,} images in {len(images.classes):,} classes, {images.classes[0]} to {images.classes[-1]}; "
        + (f"{fewest:,} to {most:,} in each" if fewest < most else f"{most:,} in each")
    )
    if len(images.classes) == 1:
        print(f"  {single_class(images)}")
        problems.append(f"the {WHAT[name]} have a single class")
    if not split.named:
        by = "as numbers" if images.classes[0].isdigit() else "by the other images' classes"
        print(
            "  the order of the labels could not be checked: nothing there tells which synset a number stands for. "
            f"They are taken for positions in the sorted synset ids, and named {by}"
        )
        notes.append("whether label numbers follow the sorted synset ids could not be checked")
    elif not all(SYNSET.fullmatch(name) for name in images.classes):
        return
    if len(images.classes) != CLASSES:
        print(f"  ILSVRC-2012 has {CLASSES:,} classes: this is {'a part' if len(images.classes) < CLASSES else 'more'}")
        notes.append(f"not the whole of ILSVRC-2012: data=imagenet needs data.classes={len(images.classes)}")
    elif len(images) == total:
        print("  as many as ILSVRC-2012 has")
    else:
        small = [f"{images.classes[label]} has {number:,}" for label, number in counts.items() if number < least]
        print(f"  ILSVRC-2012 has {total:,} images, {least} or more in a class" + "; ".join(["", *first(small)]))
        problems.append(f"{len(images):,} of {total:,} {WHAT[name]}")
        there = {Path(file).stem for file in images.files}
        lacking = [stem for number in range(total) if (stem := f"ILSVRC2012_val_{number + 1:08d}") not in there]
        if name == "val" and len(lacking) == total - len(images):
            print(f"  missing: {', '.join(first(lacking))}")


def first(names: list[str]) -> list[str]:
    """The first few, and how many more there are."""
    return names[:5] + [f"and {len(names) - 5:,} more"] * (len(names) > 5)


def examine(name: str, images: Listing, everything: bool, problems: list[str]) -> None:
    """Decode a sample, the same one every time, or all; say what cannot be read, how small they are and what is odd."""
    chosen = np.random.default_rng(0).permutation(len(images))[: None if everything else SAMPLE]
    workers = min(8, torch.get_num_threads()) if len(chosen) >= SAMPLE else 0
    loader = Loader(
        Examined(images), batch_size=50, sampler=sorted(chosen.tolist()), num_workers=workers, collate_fn=list
    )
    outcomes = []
    for number, batch in enumerate(loader, start=1):
        outcomes += batch
        if number % 1000 == 0:
            print(f"  decoded {len(outcomes):,} of {len(chosen):,}", flush=True)
    unreadable = [(index, why) for index, why, *_ in outcomes if why is not None]
    whole = [item for item in outcomes if item[1] is None]
    which = "all" if len(chosen) == len(images) else "a sample; --all decodes every one"
    result = f"{len(unreadable):,} cannot be read:" if unreadable else "every one can be read"
    print(f"  decoded {len(chosen):,} ({which}): {result}")
    for index, why in unreadable:
        print(f"    {images.path(index)}: {why}")
    if unreadable:
        problems.append(f"{len(unreadable):,} of the {WHAT[name]} cannot be read")
    sides = sorted((min(size), size, images.files[index]) for index, *_, size in whole)
    if sides:
        (low, (width, height), file), (high, *_) = sides[0], sides[-1]
        print(f"  smaller sides of {low:,} to {high:,} pixels; the smallest is {width} x {height}, {file}")
    odd = Counter({"L": "grey"}.get(mode, mode) for _, _, _, mode, _ in whole if mode != "RGB")
    for index, _, form, _, _ in whole:
        ending = Path(images.files[index]).suffix
        if FORMAT_OF.get(ending.lower(), form) != form:
            odd[f"{form} called {ending}"] += 1
    if odd:
        print("  unusual, and read all the same: " + ", ".join(f"{number:,} {what}" for what, number in odd.items()))


def check_archives(root: Path, problems: list[str]) -> None:
    """Compare the original archives with their published MD5s, which torchvision knows."""
    from torchvision.datasets.imagenet import ARCHIVE_META

    for name, md5 in ARCHIVE_META.values():
        if (root / name).is_file():
            print(f"{name}: its MD5 is ", end="", flush=True)
            with open(root / name, "rb") as file:
                right = hashlib.file_digest(file, "md5").hexdigest() == md5
            print("the published one" if right else f"not the published one, {md5}")
            if not right:
                problems.append(f"{name} is damaged or another file")
