"""Damaged files by the thousand: each is read, or refused as unreadable and replaced; nothing else ever happens."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import batches_of, crops_of, decode
from PIL import Image

from vgg.core.paths import REPOSITORY
from vgg.data.encoded_image import UNREADABLE
from vgg.data.listing import Listing, list_folder

PHOTOS = REPOSITORY.parent / "shared" / "data" / "imagenet_originals"
COUNTS = {"JPEG": 1200, "PNG": 400, "WEBP": 300}
PNG_START = b"\x89PNG\r\n\x1a\n"


def encoded(form: str, mode: str = "RGB", **how: object) -> bytes:
    """A gradient under noise, 60 x 44, as a file of this format."""
    levels = np.linspace(0, 128, 44 * 60 * 3).reshape(44, 60, 3) + np.random.default_rng(0).integers(
        0, 128, (44, 60, 3)
    )
    image = Image.fromarray(levels.astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010E], tags[0x0112], tags[0x011A], tags[0x0128] = "a description", 6, 300.0, 2
    return tags


def originals(form: str) -> list[bytes]:
    if form == "JPEG":
        return [
            encoded(form, quality=90),
            encoded(form, progressive=True),
            encoded(form, "L"),
            encoded(form, "CMYK"),
            encoded(form, subsampling=0, comment=b"a comment", icc_profile=bytes(200)),
            encoded(form, quality=20, restart_marker_blocks=2, exif=exif()),
        ]
    if form == "PNG":
        return [encoded(form, mode) for mode in ("RGB", "P", "1", "I;16")] + [encoded(form, "RGBA", exif=exif())]
    return [encoded(form), encoded(form, lossless=True), encoded(form, "RGBA", exif=exif())]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three injuries: flipped bits; a lost end; a range inserted, lost, zeroed or written over; a bad header."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = len(data)
        at, length = int(rng.integers(size)), int(rng.integers(1, max(2, size // 4)))
        here = slice(at, at + length)
        match rng.integers(7):
            case 0:
                for position in rng.integers(0, size, rng.integers(1, 30)):
                    data[position] ^= 1 << int(rng.integers(8))
            case 1:
                del data[at + 1 :]
            case 2:
                data[at:at] = rng.bytes(length)
            case 3 if length < size:
                del data[here]
            case 4:
                data[here] = bytes(len(data[here]))
            case 5:
                data[here] = data[int(rng.integers(size)) :][:length]
            case _:
                for position in rng.integers(0, min(size, 100), rng.integers(1, 5)):
                    data[position] = int(rng.integers(256))
    return bytes(data)


def with_right_checksums(png: bytes) -> bytes:
    """So that what is wrong in a chunk reaches the code that reads it."""
    found, rest = PNG_START, png[8:]
    while len(rest) >= 12 and (end := 12 + int.from_bytes(rest[:4], "big")) <= len(rest):
        found += rest[: end - 4] + struct.pack(">I", zlib.crc32(rest[4 : end - 4]))
        rest = rest[end:]
    return found + rest


def mutations(form: str, count: int) -> Iterator[bytes]:
    rng, wholes = np.random.default_rng([2014, *form.encode()]), originals(form)
    for number in range(count):
        data = mutated(wholes[number % len(wholes)], rng)
        yield with_right_checksums(data) if data.startswith(PNG_START) and number % 2 else data


def read(path: Path, content: bytes) -> Image.Image | None:
    """The picture, or None where the file is refused. Any other exception fails the test, naming the file."""
    path.write_bytes(content)
    try:
        image = decode(path)
    except UNREADABLE:
        return None
    except Exception as error:
        kept = path.with_name(f"escaped{len(list(path.parent.iterdir()))}")
        kept.write_bytes(content)
        error.add_note(f"the file is {kept}")
        raise
    assert image.mode == "RGB"
    assert len(image.tobytes()) == 3 * image.width * image.height > 0
    return image


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", COUNTS)
def test_a_damaged_file_is_read_or_refused(form, tmp_path):
    assert all(read(tmp_path / "image", whole) for whole in originals(form))
    found = [read(tmp_path / "image", content) for content in mutations(form, COUNTS[form])]
    refused = found.count(None)
    assert len(found) // 3 < refused < len(found) * 39 // 40


@pytest.mark.long
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not beside this checkout")
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_photograph_is_read_or_refused(tmp_path):
    rng, found = np.random.default_rng(2014), []
    for photo in sorted(PHOTOS.iterdir()):
        found += [read(tmp_path / "image", mutated(photo.read_bytes(), rng)) for _ in range(5)]
    assert len(found) >= 50
    assert 0 < found.count(None) < len(found)


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same JPEG, its header telling this size."""
    at = jpeg.index(b"\xff\xc0\x00\x11\x08") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def with_chunk(png: bytes, at: int, name: bytes, data: bytes = b"") -> bytes:
    """The same PNG, this chunk at this place."""
    return with_right_checksums(png[:at] + struct.pack(">I", len(data)) + name + data + bytes(4) + png[at:])


def with_pixels_in_two_chunks(png: bytes, between: bytes) -> bytes:
    """The same PNG, a chunk of this name between the two."""
    at, end = png.index(b"IDAT") + 4, png.index(b"IEND") - 8
    first, second = png[at : at + 100], png[at + 100 : end]
    without = png[: at - 8] + png[end + 4 :]
    for name, data in ((b"IDAT", second), (between, b""), (b"IDAT", first)):
        without = with_chunk(without, at - 8, name, data)
    return without


NO_PICTURES = {
    "empty": b"",
    "magic": b"\xff\xd8\xff",
    "text": b"this is not an image\n" * 100,
    "ones": b"\xff" * 5000,
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "huge-jpeg": with_size(encoded("JPEG"), 65500, 65500),
    "no-width": with_size(encoded("JPEG"), 0, 44),
    "endless-png": PNG_START + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0, 0),
    "huge-png": with_right_checksums(
        encoded("PNG").replace(struct.pack(">II", 60, 44), struct.pack(">II", 2**20, 2**20))
    ),
    "pHYs": with_chunk(encoded("PNG"), 33, b"pHYs", b"0"),
    "chunk-name": with_pixels_in_two_chunks(encoded("PNG"), b"\x84\xe5a\x92"),
    "gif": encoded("GIF"),
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_is_refused(what, tmp_path):
    assert read(tmp_path / "0.jpg", NO_PICTURES[what]) is None


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Listing:
    """Every other image is damaged, in two classes."""
    root = tmp_path_factory.mktemp("damaged")
    for form, count in (("JPEG", 60), ("PNG", 20), ("WEBP", 20)):
        (root / form).mkdir()
        for number, content in enumerate(mutations(form, count)):
            (root / form / f"{2 * number:03}.jpg").write_bytes(content)
            (root / form / f"{2 * number + 1:03}.jpg").write_bytes(originals(form)[0])
    return list_folder(root)


def readable(path: Path) -> bool:
    try:
        decode(path)
    except UNREADABLE:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
def test_a_refused_image_is_named_and_replaced_by_the_same_one_every_time(damaged):
    crops, refused = crops_of(damaged), 0
    for index in range(len(damaged)):
        crop, label, alpha, key, bad = crops[1, index]
        again, label_again, alpha_again, key_again, bad_again = crops[1, index]
        assert (crop.shape, crop.dtype, alpha.shape) == ((56, 56, 3), torch.uint8, (3,))
        assert torch.equal(crop, again)
        assert torch.equal(alpha, alpha_again)
        assert (label, key, bad) == (label_again, key_again, bad_again)
        if readable(damaged.path(index)):
            assert (label, bad) == (damaged.labels[index], -1)
        else:
            assert readable(damaged.path(bad)) is False
            refused += 1
    assert 20 < refused < 100


@pytest.mark.filterwarnings("ignore")
def test_batches_keep_their_size(damaged):
    found = list(batches_of(crops_of(damaged), 10))
    assert len(found) == 20
    assert all(crops.shape == (10, 56, 56, 3) and len(labels) == 10 for crops, labels, *_ in found)
    assert any((bad >= 0).any() for *_, bad in found)


def test_nothing_is_printed_about_files_with_damaged_exif(tmp_path):
    """Pillow warns of each oddity, without the file's name: over a large data set that is a flood."""
    rng, whole = np.random.default_rng(2014), encoded("JPEG", exif=exif())
    start = whole.index(b"Exif")
    for number in range(60):
        data = bytearray(whole)
        for position in rng.integers(start + 6, start + 90, 3):
            data[position] = int(rng.integers(256))
        (tmp_path / f"{number}.jpg").write_bytes(data)
    program = (
        "import sys, vgg.data.encoded_image as e\nfor path in sys.argv[1:]: e.Picture(open(path, 'rb').read()).pixels()"
    )
    paths = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
