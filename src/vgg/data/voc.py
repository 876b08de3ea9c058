"""PASCAL VOC as it is unpacked, VOCdevkit/VOC20xx: images, which objects or actions they show, and people's boxes.

ImageSets/Main/<class>_<split>.txt      `000005 -1`, a line an image: 1 shows it, -1 does not, 0 shows a difficult one
ImageSets/Action/<action>_<split>.txt   `2010_006215  1  1`, a line a person, whose number in the image comes second
Annotations/<image>.xml                 the boxes
"""

import hashlib
from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from vgg.core.errors import UserError, require
from vgg.data.encoded_image import Picture
from vgg.data.listing import Listing, Places

SETS = {"objects": "Main", "actions": "Action"}


class Sample(NamedTuple):
    """What has labels: an image, or a person in it."""

    image: str  # 2010_006215
    person: int  # from 1; 0: the whole image


class Object(NamedTuple):
    """One object of an annotation."""

    name: str
    box: tuple[
        int, int, int, int
    ]  # x0, y0, x1, y1 in pixels of the file, the upper left corner 0, 0; x1, y1 are beyond


@dataclass(frozen=True)
class Labelled:
    """A split: samples in order, and what each shows."""

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    truth: np.ndarray  # (samples, classes) int8: 1, -1, or 0 where nothing but difficult ones are seen


@dataclass(frozen=True)
class Boxes(Listing):
    """Parts of images: row i is the part boxes[i] of its file, which stands there as a picture of its own."""

    boxes: tuple[tuple[int, int, int, int], ...] = ()

    def read(self, index: int, limit: int | None = None) -> bytes:
        """A PNG of the part, whole whatever the limit. ValueError where the image has no such part."""
        x0, y0, x1, y1 = self.boxes[index]
        pixels = Picture(super().read(index)).pixels()[y0:y1, x0:x1]
        if not pixels.size:
            raise ValueError(f"the box {x0, y0, x1, y1} is outside the image")
        return Picture.of(Image.fromarray(pixels)).data

    @cached_property
    def sha256(self) -> str:
        """Of the images and the boxes."""
        return hashlib.sha256(f"{super().sha256} {self.boxes}".encode()).hexdigest()


def labelled(root: Path, split: str, labels: str = "objects") -> Labelled:
    """The samples of ImageSets' `split` with their labels: images by objects, or people by actions.

    Raises UserError naming the file that is missing, damaged, or about other samples than its neighbours.
    """
    folder = root / "ImageSets" / SETS[labels]
    paths = sorted(folder.glob(f"?*_{split}.txt"))
    require(
        bool(paths),
        f"{folder} has no labels of {split}: <class>_{split}.txt. data.root is a VOC20xx folder; the labels of "
        "VOC-2012's test part are not public",
    )
    columns = [read_labels(path, persons=labels == "actions") for path in paths]
    samples = tuple(sorted(columns[0]))
    for path, column in zip(paths, columns, strict=True):
        odd = sorted(column.keys() ^ columns[0].keys())
        require(not odd, f"{path} and {paths[0]} are not about the same samples: {odd[:1]}")
    truth = np.array([[column[sample] for column in columns] for sample in samples], dtype=np.int8)
    return Labelled(samples, tuple(path.stem.removesuffix(f"_{split}") for path in paths), truth)


def read_labels(path: Path, persons: bool) -> dict[Sample, int]:
    """Sample -> 1, -1 or 0 of one class."""
    labels: dict[Sample, int] = {}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        image, *numbers = words
        right = len(numbers) == 1 + persons and numbers[-1] in ("1", "-1", "0") and numbers[0].lstrip("-").isdigit()
        require(
            right,
            f"{path}, line {number}: {line[:60]!r} is not {'IMAGE PERSON' if persons else 'IMAGE'} and 1, -1 or 0",
        )
        sample = Sample(image, int(numbers[0]) if persons else 0)
        require(sample not in labels, f"{path}, line {number}: {' '.join(words[:-1])} is there twice")
        labels[sample] = int(numbers[-1])
    require(bool(labels), f"{path} is empty")
    return labels


def image_files(root: Path, names: list[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The images' files in JPEGImages, and their sizes in bytes. UserError where one is missing."""
    files = tuple(f"{name}.jpg" for name in names)
    missing = [file for file in files if not (root / "JPEGImages" / file).is_file()]
    require(not missing, f"{len(missing)} of {len(files)} images are not in {root / 'JPEGImages'}: {missing[:1]}")
    return files, tuple((root / "JPEGImages" / file).stat().st_size for file in files)


def images(root: Path, names: list[str], classes: tuple[str, ...]) -> Listing:
    """These images, in this order, without a label each: they show several classes, or none."""
    return Listing(root / "JPEGImages", classes, *image_files(root, names), (-1,) * len(names))


def per_class(root: Path, split: str) -> Listing:
    """A row for each image and each class that it shows, difficult ones left out."""
    labels = labelled(root, split)
    names = [sample.image for sample in labels.samples]
    files, sizes = image_files(root, names)
    rows = [(int(label), int(index)) for label, index in np.argwhere(labels.truth.T == 1)]
    return Listing(
        root / "JPEGImages",
        labels.classes,
        tuple(f"{labels.classes[label]}/{files[index]}" for label, index in rows),
        tuple(sizes[index] for _, index in rows),
        tuple(label for label, _ in rows),
        Places(
            tuple(root / "JPEGImages" / file for file in files),
            array("i", (index for _, index in rows)),
            array("q", bytes(8 * len(rows))),
        ),
    )


def people(root: Path, samples: tuple[Sample, ...], classes: tuple[str, ...]) -> Boxes:
    """A row for each person: the part of the image in its box. UserError where the annotation has no such person."""
    by_image = defaultdict(list)
    for sample in samples:
        by_image[sample.image].append(sample.person)
    boxes = {}
    for image, persons in by_image.items():
        path = root / "Annotations" / f"{image}.xml"
        person_boxes = annotation(path).objects
        for person in persons:
            there = 1 <= person <= len(person_boxes) and person_boxes[person - 1].name == "person"
            require(
                there, f"{path}: object {person}, which has actions, is not a person of the {len(person_boxes)} there"
            )
            boxes[Sample(image, person)] = person_boxes[person - 1].box
    files, sizes = image_files(root, [sample.image for sample in samples])
    return Boxes(
        root / "JPEGImages",
        classes,
        files,
        sizes,
        (-1,) * len(samples),
        boxes=tuple(boxes[sample] for sample in samples),
    )


class Annotation(NamedTuple):
    """What an annotation says of its image."""

    size: tuple[int, int] | None  # (width, height) in pixels; None: it does not say
    objects: list[Object]


class WithoutDoctype(ElementTree.TreeBuilder):
    """Annotations have none, and entities that a document declares itself can grow without bounds."""

    def doctype(self, *declared: str | None) -> None:
        raise ValueError("it declares a document type")


def annotation(path: Path) -> Annotation:
    """An annotation, its objects in order. Raises UserError where the file is missing or damaged.

    VOC counts pixels from 1 and names the last one inside. ILSVRC's annotations have the same form.
    """
    try:
        tree = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=WithoutDoctype()))
        boxes = []
        for item in tree.findall("object"):
            keys = ("name", "bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
            name, *corners = (item.findtext(key) for key in keys)
            if None in (name, *corners):
                raise ValueError(f"an object lacks one of {', '.join(keys)}")
            x0, y0, x1, y1 = (round(float(corner)) for corner in corners)
            box = max(0, x0 - 1), max(0, y0 - 1), x1, y1
            if not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"a box has no area: {x0, y0, x1, y1}")
            boxes.append(Object(name.strip(), box))
        size = tuple(round(float(tree.findtext(f"size/{key}") or 0)) for key in ("width", "height"))
        return Annotation(size if all(size) else None, boxes)
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is missing or not an annotation with boxes: {error}") from error
