"""The embedded data: scenes made of scikit-learn's handwritten digits on scikit-learn's two photographs.

Each scene shows one whole digit, the class, of random size, place and colour, among fragments of other digits, on a
non-square piece of photograph. Nothing is downloaded. Training and validation scenes use different digits; every
validation digit stands in three scenes, whose files' names begin with its number: `0457-2.jpg`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vgg.core.files import write_whole_folder

SHORT_SIDE = 64  # pixels; S = 256 and 512 of the paper are 32 and 64 at scale 1/8

VAL_DIGITS = 597  # of 1,797; the other 1,200 make the training scenes

SCENES = {"train": 6400, "val": 3 * VAL_DIGITS}

HEIGHTS = (0.25, 0.90)  # of a digit, in parts of the short side

DIM = 0.5  # the photographs' brightness, so that the digits stand out

SEED = 1409_1556

VERSION = 3  # of everything here that changes a scene


def background(rng: np.random.Generator, photos: list[Image.Image]) -> Image.Image:
    """A piece of a photograph, smaller side `SHORT_SIDE`, aspect 1 to 1.6, landscape or portrait."""
    long_side = round(SHORT_SIDE * rng.uniform(1.0, 1.6))
    width, height = (long_side, SHORT_SIDE) if rng.random() < 0.5 else (SHORT_SIDE, long_side)
    photo = photos[rng.integers(len(photos))]
    zoom = rng.uniform(1.0, min(photo.width / width, photo.height / height))
    w, h = width * zoom, height * zoom
    x, y = rng.uniform(0, photo.width - w), rng.uniform(0, photo.height - h)
    piece = photo.resize((width, height), Image.Resampling.BOX, box=(x, y, x + w, y + h))
    return piece.point(lambda level: round(level * DIM))


def paint(rng: np.random.Generator, canvas: Image.Image, strokes: np.ndarray, height: int, x: int, y: int) -> None:
    """Paint strokes (rows x columns, 0..16) at (x, y), `height` pixels high, in a bright colour."""
    size = (max(1, round(height * strokes.shape[1] / strokes.shape[0])), height)
    mask = Image.fromarray((strokes * 255 / 16).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    colour = rng.uniform(0, 255, 3)
    colour *= 255 / colour.max()
    canvas.paste(tuple(int(c) for c in colour), (x, y), mask)


def scene(
    rng: np.random.Generator, digit: np.ndarray, others: np.ndarray, photos: list[Image.Image]
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """One scene: `digit` (8x8, 0..16) whole, on top of one or two fragments cut from `others`; and the digit's box."""
    canvas = background(rng, photos)
    for other in others[rng.integers(len(others), size=rng.integers(1, 3))]:
        fragment = other[:4] if rng.random() < 0.5 else other[4:]
        fragment = fragment[:, :5] if rng.random() < 0.5 else fragment[:, 3:]
        height = int(SHORT_SIDE * rng.uniform(0.08, 0.16))
        x = int(rng.integers(canvas.width - height))
        paint(rng, canvas, fragment, height, x, int(rng.integers(canvas.height - height)))
    side = int(SHORT_SIDE * rng.uniform(*HEIGHTS))
    x, y = (int((length - side) * rng.uniform(0.15, 0.85)) for length in canvas.size)
    paint(rng, canvas, digit, side, x, y)
    return canvas, (x, y, x + side, y + side)


def write(root: Path) -> None:
    """Write all scenes as JPEG class folders root/train/0..9 and root/val/0..9, whole or not at all.

    root/boxes.csv has the digits' boxes.
    """
    from sklearn.datasets import load_digits, load_sample_images

    digits, labels = load_digits(return_X_y=True)
    digits = digits.reshape(-1, 8, 8)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    order = np.random.default_rng(SEED).permutation(len(digits))
    lines: list[Sequence[Any]] = [("file", "class", "w", "h", "x0", "y0", "x1", "y1")]
    with write_whole_folder(root) as folder:
        for split, chosen in {"val": order[:VAL_DIGITS], "train": order[VAL_DIGITS:]}.items():
            for number in range(SCENES[split]):
                index = chosen[number % len(chosen)]
                rng = np.random.default_rng([SEED, split == "val", number])
                path = folder / split / str(labels[index]) / f"{index:04d}-{number // len(chosen)}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image, box = scene(rng, digits[index], digits[chosen], photos)
                image.save(path, quality=90)
                lines.append([path.relative_to(folder), labels[index], *image.size, *box])
        with (folder / "boxes.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)


def folder(cache: Path) -> Path:
    """Folder of the scenes in the cache: another version of the recipe is another folder."""
    return cache / f"digits-{VERSION}"
