"""Boxes as people have them, in CSV files and XML trees, and what is said of damaged ones."""

import csv

import numpy as np
import pytest
import torch

from vgg.appendix.localisation.annotations import boxes, refuse_boxless
from vgg.appendix.localisation.evaluation import constant_box
from vgg.appendix.localisation.geometry import OVERLAP
from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.data.listing import Listing, list_folder

SHARED = REPOSITORY.parent / "shared" / "data" / "ilsvrc_val20_boxes"
XML = "<annotation><size><width>90</width><height>60</height></size>{}</annotation>"
OBJECT = (
    "<object><name>{}</name><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def found(root, annotations=None) -> tuple[Listing, list[torch.Tensor]]:
    """The images of train/, and their boxes."""
    images = list_folder(root / "train")
    return images, boxes(annotations, root, images)


@pytest.fixture
def photos(root):
    """root/train/{ant,bee,cat}/0..3.png of 90 x 60 pixels."""
    (root / "train").mkdir()
    for name in ("ant", "bee", "cat"):
        (root / name).rename(root / "train" / name)
    return root


def test_a_csv_file_names_images_as_seen_from_it_or_by_their_class(photos):
    rows = ["file,class,w,h,x0,y0,x1,y1", "train/ant/0.png,ant,180,120,18,24,90,120", "ant/1.png,ant,,,9,6,45,60"]
    rows += ["train/ant/2.png,bee,90,60,0,0,9,6", "./train/bee/3.png,bee,90,60,0,0,9,6", "bee/3.png,bee,90,60,0,0,1,1"]
    rows += ["train/bee/3.png,bee,90,60,-9,0,99,60"]
    (photos / "boxes.csv").write_text("\n".join(rows))
    images, own = found(photos)
    by_file = dict(zip(images.files, (rows.tolist() for rows in own), strict=True))
    assert by_file["ant/0.png"] == pytest.approx(np.array([[0.1, 0.2, 0.5, 1.0]]))
    assert by_file["ant/1.png"] == pytest.approx(np.array([[0.1, 0.1, 0.5, 1.0]])), "the size is the image's own"
    assert by_file["ant/2.png"] == [], "a box of another class"
    assert by_file["bee/3.png"] == pytest.approx(np.array([[0, 0, 0.1, 0.1], [0, 0, 1, 1]]))
    with pytest.raises(UserError, match="9 validation images have no box of their class"):
        refuse_boxless(images, own)


@pytest.mark.parametrize("folders", [True, False], ids=["ILSVRC", "VOC"])
def test_xml_trees_are_found_in_the_datas_folder_and_named_by_image(photos, folders):
    """ILSVRC's has a folder for each class, or split; VOC's is flat."""
    tree = photos / "Annotations"
    for name, number in (("ant", 0), ("cat", 0)) if folders else (("ant", 0),):
        path = tree / "train" / name / f"{number}.xml" if folders else tree / f"{number}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        things = OBJECT.format(name, 10, 7, 45, 60) + OBJECT.format("dog", 1, 1, 2, 2)
        path.write_text(XML.format(things))
    images, own = found(photos)
    having = [file for file, rows in zip(images.files, own, strict=True) if len(rows)]
    assert having == (["ant/0.png", "cat/0.png"] if folders else ["ant/0.png"])
    assert own[0] == pytest.approx(np.array([[0.1, 0.1, 0.5, 1.0]]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("boxes.csv", "file,x0,y0,x1\n", "lacks the columns y1"),
        ("boxes.csv", "file,x0,y0,x1,y1\nant/0.png,1,2,three,4\n", "boxes.csv, line 2: .* not four numbers"),
        ("boxes.csv", "file,x0,y0,x1,y1\nant/0.png,5,2,5,4\n", "boxes.csv, line 2: 5, 2, 5, 4 is no box"),
        ("boxes.csv", "file,x0,y0,x1,y1\nant/9.png,1,2,3,4\n", "no box of the images"),
        (
            "Annotations/ant/0.xml",
            XML.format(OBJECT.format("ant", 1, 2, 3, 4))[:-9],
            "0.xml is missing or",
        ),
        (
            "Annotations/ant/0.xml",
            XML.format(OBJECT.format("ant", 1, 2, 3, "")),
            "0.xml is missing or",
        ),
        ("Annotations/ant/0.xml", XML.format(""), "no box of the images"),
        ("nothing", "", "no boxes in .*localisation.annotations="),
    ],
)
def test_damaged_and_missing_boxes_are_named(photos, name, text, message):
    path = photos / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        found(photos)
    with pytest.raises(UserError, match="there is no such file"):
        found(photos, photos / "elsewhere.csv")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the photographs are not beside this checkout")
def test_on_ilsvrcs_annotations_the_metric_is_that_of_a_brute_force_computation(tmp_path):
    """1,000 photos with one to many boxes: the whole image and the best constant box as guesses."""
    (tmp_path / "train").symlink_to(SHARED / "images")
    images, own = found(tmp_path, SHARED / "boxes.csv")
    with (SHARED / "boxes.csv").open() as file:
        lines = list(csv.DictReader(file))
    by_image: dict[str, list[list[float]]] = {}
    for line in lines:
        w, h = float(line["w"]), float(line["h"])
        corners = [float(line[key]) / side for key, side in (("x0", w), ("y0", h), ("x1", w), ("y1", h))]
        by_image.setdefault(line["file"].removeprefix("images/"), []).append([min(1, max(0, c)) for c in corners])
    assert len(images) == len(by_image) == 1000
    assert sum(map(len, own)) == len(lines) > 1000

    def right(guess: list[float], truth: list[list[float]]) -> bool:
        for x0, y0, x1, y1 in truth:
            width, height = min(x1, guess[2]) - max(x0, guess[0]), min(y1, guess[3]) - max(y0, guess[1])
            both = max(0.0, width) * max(0.0, height)
            whole = (x1 - x0) * (y1 - y0) + (guess[2] - guess[0]) * (guess[3] - guess[1]) - both
            if both / whole > OVERLAP:
                return True
        return False

    tried = sorted({tuple(np.float32(row)) for rows in own for row in rows})[::97]
    counts = [sum(right(list(map(float, guess)), by_image[file]) for file in images.files) for guess in tried]
    best = constant_box(own).sum()
    assert best >= max(counts) - 5, "of a thousand boxes tried one is about as good as any of these"
    one = torch.tensor([tried[0]])
    assert constant_box([one] * 3).all()


def test_the_constant_box_is_the_one_that_is_right_most_often_wherever_it_stands():
    left, middle, right = ([0.0, 0.0, 0.7, 1.0], [0.15, 0.0, 0.85, 1.0], [0.3, 0.0, 1.0, 1.0])
    for boxes_of_images in ((left, middle, right), (middle, left, right), (left, right, middle)):
        assert constant_box([torch.tensor([box]) for box in boxes_of_images]).all(), "the middle one, for all three"
