"""Which images there are in class folders, in which order, with which labels."""

import contextlib
import hashlib
import json
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vgg.core.errors import UserError, require
from vgg.data.encoded_image import FORMAT_NAMES, UNREADABLE, Picture, reason

ENDINGS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"}

# What file systems, cameras, sync and archive programs leave beside images; hidden files are left out as well.
LEFT_BEHIND = {"@eadir", "@recycle", "#recycle", "$recycle.bin", "__macosx", "system volume information", "lost+found"}

LEFT_BEHIND |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}

CONTENT_SAMPLE = 10_000  # images at most whose bytes are compared, as many as the colours are computed on

READERS = 16  # threads that read them

HEADER = 16_384  # bytes, in which most files say how large they are

MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|BM....\x00\x00\x00\x00|II\*\x00|MM\x00\*", re.DOTALL)


@dataclass(frozen=True)
class Places:
    """Where images are that are not in class folders: image i is in paths[of[i]], in the bytes from offsets[i] on.

    Offset 0 is a file of its own: nothing in a tar is there.
    """

    paths: tuple[Path, ...]
    of: array
    offsets: array


@dataclass(frozen=True)
class Listing:
    """The images of one split, in order: classes by name, files by name. The index of an image is its row."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]  # CLASS/NAME, relative to root where they are files in class folders
    sizes: tuple[int, ...]  # bytes
    labels: tuple[int, ...]
    places: Places | None = None  # None: files in class folders

    def __len__(self) -> int:
        return len(self.files)

    def place(self, index: int) -> tuple[Path, int]:
        """The file that holds an image, and the offset of its first byte there."""
        if self.places is None:
            return self.root / self.files[index], 0
        return self.places.paths[self.places.of[index]], self.places.offsets[index]

    def path(self, index: int) -> Path | str:
        """What messages call an image: its path, or ARCHIVE: CLASS/NAME."""
        path, offset = self.place(index)
        return f"{path}: {self.files[index]}" if offset else path

    def read(self, index: int, limit: int | None = None) -> bytes:
        """The bytes of an image, or the first `limit` of them.

        An archive is opened anew each time, so that worker processes share no position in it.
        """
        path, offset = self.place(index)
        with open(path, "rb") as file:
            if offset:
                file.seek(offset)
                limit = min(limit or self.sizes[index], self.sizes[index])
            return file.read(limit)

    def subset(self, indices: list[int]) -> "Listing":
        """These images only, in this order."""
        places = self.places and Places(
            self.places.paths,
            array(self.places.of.typecode, (self.places.of[index] for index in indices)),
            array(self.places.offsets.typecode, (self.places.offsets[index] for index in indices)),
        )
        files, sizes, labels = (tuple(row[i] for i in indices) for row in (self.files, self.sizes, self.labels))
        return Listing(self.root, self.classes, files, sizes, labels, places)

    @cached_property
    def sha256(self) -> str:
        """Of the names and sizes: tells whether an array of posteriors is about these images, wherever they lie."""
        rows = json.dumps([self.classes, list(zip(self.files, self.sizes, strict=True))])
        return hashlib.sha256(rows.encode()).hexdigest()

    @cached_property
    def content(self) -> str:
        """Of the bytes of all images, or of a fixed sample of `CONTENT_SAMPLE`: tells same-sized photos apart."""

        def digest(index: int) -> bytes:
            try:
                return hashlib.blake2b(self.read(index)).digest()
            except OSError:  # training names the file and goes on without it
                return b""

        sample = np.random.default_rng(0).permutation(len(self))[:CONTENT_SAMPLE]
        with ThreadPoolExecutor(READERS) as pool:
            return hashlib.blake2b(b"".join(pool.map(digest, sample.tolist())), digest_size=16).hexdigest()

    def described(self) -> dict[str, Any]:
        """What a record keeps of these images."""
        return {"folder": str(self.root), "images": len(self), "sha256": self.sha256, "content": self.content}


def is_left_out(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or no user's: .DS_Store, @eaDir, __MACOSX, Thumbs.db."""
    return name[0] == "." or name.lower() in LEFT_BEHIND


def looks_like_image(path: str) -> bool:
    """By its ending, or by its first bytes where the ending says nothing: names are often wrong, junk is common.

    A file that cannot be opened counts as one, which cannot be read.
    """
    if os.path.splitext(path)[1].lower() in ENDINGS:
        return True
    try:
        with open(path, "rb") as file:
            return MAGIC.match(file.read(12)) is not None
    except OSError:
        return True


def contents(folder: Path | str) -> tuple[list[tuple[str, int]], list[str]]:
    """(path, bytes) of the images that are directly in a folder, and the names of its folders, both in order.

    A link that leads nowhere, or to itself, is an image of 0 bytes if it is called like one or has no ending: whoever
    reads it finds that it cannot be read.
    """
    images, folders = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_left_out(entry.name):
            continue
        try:
            status = entry.stat()
        except OSError:
            if os.path.splitext(entry.name)[1].lower() in {"", *ENDINGS}:
                images.append((entry.path, 0))
            continue
        if stat.S_ISDIR(status.st_mode):
            folders.append(entry.name)
        elif stat.S_ISREG(status.st_mode) and looks_like_image(entry.path):
            images.append((entry.path, status.st_size))
    return images, folders


def below(folder: str, above: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """(path, bytes) of the images in a folder and in those below it, its own first, in the order of their names.

    `above`: the real paths of the folders on the way here. A link to one of them, or to a folder that holds one, is
    not followed: it leads round in a circle.
    """
    real = os.path.realpath(folder)
    if any(os.path.commonpath((real, other)) == real for other in above):
        return
    images, folders = contents(folder)
    yield from images
    for name in folders:
        yield from below(os.path.join(folder, name), (*above, real))


def printable(name: str) -> str:
    r"""A file's name as text that can be written anywhere: bytes that are no UTF-8 as caf\xe9."""
    return os.fsencode(name).decode(errors="backslashreplace")


def in_class_order(names: Iterable[str]) -> list[str]:
    """Class names in order, which gives each its label: as numbers where all are whole numbers, 2 before 10."""
    names = sorted(names)
    return sorted(names, key=int) if all(name.isascii() and name.isdigit() for name in names) else names


def list_folder(root: Path) -> Listing:
    """The images in root/<class>/, at any depth below the class folder. Hidden files and other files are left out."""
    require(root.is_dir(), f"no folder {root}: it should hold one folder of images a class")
    images, folders = contents(root)
    if broken := [path for path, size in images if not size and not os.path.exists(path)]:
        raise UserError(f"{broken[0]} leads nowhere: is it a link to a class folder whose disk is not there?")
    require(bool(folders), f"{root} has no class folders: images belong in {root}/<class>/")
    folders = in_class_order(folders)
    files, sizes, labels = [], [], []
    for label, name in enumerate(folders):
        before = len(files)
        for path, size in below(str(root / name), (os.path.realpath(root),)):
            files.append(os.path.relpath(path, root))
            sizes.append(size)
            labels.append(label)
        require(len(files) > before, f"the class folder {root / name} has no {FORMAT_NAMES} image")
    return Listing(root, tuple(map(printable, folders)), tuple(files), tuple(sizes), tuple(labels))


def single_class(images: Listing) -> str:
    """What is wrong with images of one class only."""
    (name,), root = images.classes[:1], images.root
    return (
        f"{root} has a single class, {name}: there is nothing to tell apart. Each class is a folder directly in it; if "
        f"the class folders are a level deeper, in {root / name}, move them up"
    )


def same_classes(one: tuple[str, ...], other: tuple[str, ...], what: str) -> None:
    """Refuse images whose classes are not the ones expected: labels are positions in the sorted class names."""
    if one != other:
        odd = sorted(set(one) ^ set(other))[:5]
        differ = f"differ ({len(one)} and {len(other)}; {', '.join(odd)} …)" if odd else "are in another order"
        raise UserError(f"{what}: the classes {differ}")


def size(images: Listing, index: int) -> tuple[int, int] | None:
    """(width, height) of one image, None where its header cannot be read; most need only the start of the file."""
    for limit in (HEADER, None):
        with contextlib.suppress(*UNREADABLE):
            return Picture(images.read(index, limit)).size
    return None


def why_unreadable(images: Listing, index: int) -> str | None:
    """Why an image cannot be read, None where it can."""
    try:
        Picture(images.read(index)).pixels()
    except UNREADABLE as error:
        return reason(error)
    return None


def refuse_unreadable(images: Listing, indices: list[int], skip: bool) -> None:
    """An evaluation covers every image, or says which not: UserError lists these files, unless they may be skipped."""
    reasons = ((images.path(index), why_unreadable(images, index) or "by now it can be") for index in indices)
    listed = "".join(f"\n  {path}: {why}" for path, why in reasons)
    if indices and skip:
        print(f"left out, {len(indices)} images that cannot be read:{listed}", flush=True)
    elif indices:
        raise UserError(
            f"{len(indices)} of the images to evaluate cannot be read; repair or remove them, or leave them out with "
            f"data.skip_corrupt=true:{listed}"
        )
