"""Images in archives, each as the range of its bytes there: uncompressed tars and shards, and parquet by a copy."""

import glob
import io
import json
import re
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from vgg.core.errors import UserError, require
from vgg.core.files import alone, write_whole
from vgg.core.paths import folder_digest
from vgg.data.encoded_image import FORMAT_NAMES
from vgg.data.listing import ENDINGS, is_left_out

SYNSET = re.compile(r"n\d{8}")

# n01440764_10026 and ILSVRC2012_val_00000293 are the original names; Hugging Face's go on with the synset id.
OFFICIAL = re.compile(r"(?P<name>(?P<synset>n\d{8})_\d+|ILSVRC2012_val_\d{8})(_(?P<tail>n\d{8}))?")

VERSION = 1  # of an index and its order: one made by code of another version is made again


class Row(NamedTuple):
    """An image as its form gives it."""

    source: int  # which of the form's files holds it
    offset: int  # of its first byte there; 0: that file is the image
    size: int  # bytes
    name: str  # of its file
    label: int | None  # the data's number for its class
    synset: str | None  # its class, where a folder, an archive or a label file says it


def official(name: str) -> re.Match[str] | None:
    """The parts of a file's name, whatever its folder and ending, where ImageNet's images are called that."""
    return OFFICIAL.fullmatch(name.rpartition("/")[2].partition(".")[0])


def members(file: BinaryIO, where: str, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """(name, offset in `file`, size in bytes) of every file in the uncompressed tar at `start` … `end`, no hidden ones.

    Only headers are read. UserError where it does not end as a tar does: half of one must not pass for a whole.
    """
    try:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and not any(map(is_left_out, PurePosixPath(member.name).parts)):
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
    """WebDataset: with KEY.jpg go KEY.cls, a number, and KEY.json, of which label, wnid and filename are read.

    A key ends at its first dot: KEY.seg.png is a part of the sample KEY. Where KEY.v2.jpg has a KEY.v2.cls or .json
    beside it, or is the only image, KEY.v2 is a sample too.
    """
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

    def images_of(key: str, parts: dict[str, tuple[int, int]]) -> Iterator[tuple[str, str, tuple[int, int]]]:
        """(key, what the names of its parts start with, its image) of the samples whose keys are this up to a dot."""
        images = defaultdict(list)
        for ending, place in parts.items():
            start, dot, last = ending.rpartition(".")
            if f".{last}" in ENDINGS:
                images[start + dot].append(place)
        whole = [start for start in images if not start or {f"{start}cls", f"{start}json"} & set(parts)]
        for start in whole or images:
            several = len(images[start]) if whole else len(images)
            require(several == 1, f"{where} holds {several} images {key}")
            yield f"{key}.{start}".rstrip("."), start if whole else "", images[start][0]

    whole = [(*image, parts) for key, parts in samples.items() for image in images_of(key, parts)]
    without = [key for key, parts in samples.items() if "cls" in parts and not any(images_of(key, parts))]
    if without:
        print(f"{where}: {len(without)} samples have no {FORMAT_NAMES} image: {', '.join(without[:5])}", flush=True)
    for key, start, image, parts in whole:
        try:
            about = json.loads(content(*parts[f"{start}json"])) if f"{start}json" in parts else {}
            said = content(*parts[f"{start}cls"]) if f"{start}cls" in parts else about.get("label")
            synset = said if SYNSET.fullmatch(str(said)) else about.get("wnid")
            label = None if said in (None, synset) else int(said)
            if label is not None and label < 0:
                raise ValueError(f"{label} stands for no class")
            name = about.get("filename")
            name = name if name and official(name) else key
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{where}: the label of {key} cannot be read: {error}") from error
        yield Row(source, *image, name, label, synset)


def indexed(
    files: list[Path], cache: Path, split: str, read: Callable[[BinaryIO, str, int], Iterable[Row]]
) -> list[Row]:
    """The rows of these archives: read from their headers once, then from an index in the cache.

    The index knows their paths, sizes and times of change: where one is replaced, it is made again.
    """
    state = [VERSION, *([str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files)]
    kept = cache / "index" / f"{folder_digest(files[0].parent)}-{split}.json"
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
    folder = cache / "parquet" / folder_digest(files[0].parent)
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
