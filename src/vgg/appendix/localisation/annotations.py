"""Appendix A's data: the boxes of objects, from a CSV file or from ILSVRC's or PASCAL VOC's XML files.

A box is (x0, y0, x1, y1) in parts of its image's width and height: a photo and its rescaled copy have the same.
"""

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vgg.core.config import TrainConfig
from vgg.core.errors import UserError, require
from vgg.data.datasets import data_root
from vgg.data.encoded_image import Picture
from vgg.data.listing import Listing
from vgg.data.voc import annotation


def refuse_boxless(images: Listing, boxes: list[Tensor]) -> None:
    """An evaluation covers every image: UserError names those without a box of their class."""
    without = [str(images.path(index)) for index, own in enumerate(boxes) if not len(own)]
    require(not without, f"{len(without)} validation images have no box of their class: {', '.join(without[:3])} …")


PLACES = ("boxes.csv", "Annotations", "ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC")  # in data.root

COLUMNS = ("file", "x0", "y0", "x1", "y1")

Object = tuple[str | None, tuple[float, ...], tuple[float, float] | None]  # class, corners in pixels, size of the image


def place(annotations: str | None, root: Path) -> Path:
    """The CSV file or folder of XML files that is named, or that lies where it is looked for in the images' folder."""
    if annotations:
        found = Path(annotations)
        require(found.exists(), f"localisation.annotations={found}: there is no such file or folder")
        return found
    found = next((root / name for name in PLACES if (root / name).exists()), None)
    require(found is not None, f"no boxes in {root}: localisation.annotations=FILE.csv, or a folder of XML files")
    return found


def boxes(annotations: str | None, root: Path, images: Listing) -> list[Tensor]:
    """The boxes (n, 4) of each image's class; n is 0 where there is none. Raises UserError naming what is damaged."""
    path, found = place(annotations, root), []
    objects_of = from_csv(path, images) if path.is_file() else from_xml(path, images)
    for index in tqdm(range(len(images)), "boxes of the images", leave=False, disable=None):
        rows = []
        for name, corners, size in objects_of(index):
            if name in (None, images.classes[images.labels[index]]):
                width, height = size or Picture(images.read(index)).size
                rows.append(np.array(corners) / (width, height, width, height))
        found.append(torch.from_numpy(np.array(rows).reshape(-1, 4).clip(0, 1)).float())
    require(any(map(len, found)), f"{path} has no box of the images in {images.root} and their classes")
    return found


def configured_boxes(cfg: TrainConfig, images: Listing) -> list[Tensor]:
    """The same of the images that a configuration names."""
    return boxes(cfg.localisation.annotations, data_root(cfg.data, Path(cfg.dirs.cache)), images)


def corners_of(values: dict[str, str], keys: tuple[str, ...], where: str) -> tuple[float, ...]:
    """Four numbers in pixels; UserError names the place where they are none, or no box."""
    try:
        x0, y0, x1, y1 = (float(values[key]) for key in keys)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: {', '.join(keys)} are not four numbers") from error
    require(x0 < x1 and y0 < y1, f"{where}: {x0:g}, {y0:g}, {x1:g}, {y1:g} is no box")
    return x0, y0, x1, y1


def from_csv(path: Path, images: Listing):
    """Image index -> its objects by a file with a line a box: file, as seen from the CSV file, and x0, y0, x1, y1.

    Optional columns: class (or wnid), and w and h, the size of the image that the pixels are of.
    """
    objects: dict[str, list[Object]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:  # names of files are bytes
        lines = csv.DictReader(file)
        missing = set(COLUMNS) - set(lines.fieldnames or ())
        require(not missing, f"{path} lacks the columns {', '.join(sorted(missing))}")
        for line in lines:
            where = f"{path}, line {lines.line_num}"
            corners = corners_of(line, COLUMNS[1:], where)
            size = corners_of(line | {"o": "0"}, ("o", "o", "w", "h"), where)[2:] if line.get("w") else None
            objects[os.path.normpath(line["file"])].append((line.get("class") or line.get("wnid"), corners, size))

    seen_from_csv = os.path.relpath(images.root.resolve(), path.resolve().parent)

    def of(index: int) -> list[Object]:
        return objects.get(f"{seen_from_csv}/{images.files[index]}") or objects.get(images.files[index], [])

    return of


def from_xml(folder: Path, images: Listing):
    """Image index -> its objects by the XML file with the image's name: in a folder of its class, or anywhere."""
    files: dict[str, Path | None] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.suffix == ".xml":
                files[f"{path.parent.name}/{path.stem}"] = path
                files[path.stem] = None if path.stem in files else path  # several: only that of its class will do

    def of(index: int) -> list[Object]:
        name = Path(images.files[index])
        path = files.get(f"{images.classes[images.labels[index]]}/{name.stem}") or files.get(name.stem)
        if path is None:
            return []
        size, objects = annotation(path)
        return [(thing.name, thing.box, size) for thing in objects]

    return of
