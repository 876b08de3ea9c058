"""PASCAL VOC's voc_tree, made small."""

import io

import numpy as np
import pytest
from conftest import annotation, composed
from PIL import Image

from vgg.core.errors import UserError
from vgg.data import voc
from vgg.data.datasets import listing


def test_images_have_a_label_for_each_class(voc_tree):
    found = voc.labelled(voc_tree, "trainval")
    assert found.classes == ("bird", "person")
    assert [sample.image for sample in found.samples] == [f"trainval{number}" for number in range(4)]
    assert found.truth.T.tolist() == [[1, -1, 0, 1], [1, 1, -1, -1]]
    images = voc.images(voc_tree, [sample.image for sample in found.samples], found.classes)
    assert images.path(1) == voc_tree / "JPEGImages/trainval1.jpg"
    assert images.read(3) == (voc_tree / "JPEGImages/trainval3.jpg").read_bytes()
    assert images.labels == (-1,) * 4


def test_a_row_an_image_and_class_without_the_difficult_ones(voc_tree):
    rows = voc.per_class(voc_tree, "trainval")
    assert rows.files == tuple(
        f"{name}.jpg" for name in ("bird/trainval0", "bird/trainval3", "person/trainval0", "person/trainval1")
    )
    assert rows.labels == (0, 0, 1, 1)
    assert rows.path(2) == voc_tree / "JPEGImages/trainval0.jpg"
    assert rows.read(1) == (voc_tree / "JPEGImages/trainval3.jpg").read_bytes()
    assert len(rows.read(1)) == rows.sizes[1]


def test_people_are_pictures_of_their_boxes(voc_tree):
    found = voc.labelled(voc_tree, "trainval", "actions")
    assert [(sample.image, sample.person) for sample in found.samples][:2] == [("trainval0", 1), ("trainval0", 2)]
    people = voc.people(voc_tree, found.samples, found.classes)
    assert people.boxes[:2] == ((10, 0, 30, 60), (30, 10, 90, 60))
    whole = np.asarray(Image.open(voc_tree / "JPEGImages/trainval0.jpg"))
    part = np.asarray(Image.open(io.BytesIO(people.read(1, limit=10))))
    np.testing.assert_array_equal(part, whole[10:60, 30:90])
    images = voc.images(voc_tree, [sample.image for sample in found.samples], found.classes)
    assert len({people.sha256, images.sha256}) == 2
    path = voc_tree / "Annotations/trainval0.xml"
    path.write_text(path.read_text().replace("<ymax>60", "<ymax>59"))
    assert voc.people(voc_tree, found.samples, found.classes).sha256 != people.sha256


def test_a_box_outside_its_image_cannot_be_read(voc_tree):
    (voc_tree / "Annotations/trainval1.xml").write_text(annotation(("person", 91, 1, 99, 9)))
    found = voc.labelled(voc_tree, "trainval", "actions")
    with pytest.raises(ValueError, match="outside the image"):
        voc.people(voc_tree, found.samples, found.classes).read(2)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("<annotation><object>", "no element found"),
        ("", "no element found"),
        ("<annotation><object><name>person</name></object></annotation>", "lacks one of"),
        (annotation(("person", 30, 1, 10, 9)), "no area"),
        (annotation(("person", 1, 1, 10, 9)).replace("<xmax>10", "<xmax>wide"), "wide"),
        (annotation(("person", 1, 1, 10, 9)).replace("<xmax>10", "<xmax>inf"), "infinity"),
        ("<!DOCTYPE x [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><annotation>&b;</annotation>", "document type"),
        ("<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><annotation>&a;</annotation>", "document type"),
        ("<annotation/>", "not a person of the 0 there"),
        (annotation(("horse", 1, 1, 10, 9)), "not a person"),
    ],
)
def test_a_damaged_annotation_is_one_error_with_its_name(voc_tree, content, named):
    (voc_tree / "Annotations/trainval1.xml").write_text(content)
    found = voc.labelled(voc_tree, "trainval", "actions")
    with pytest.raises(UserError, match=rf"trainval1\.xml.*({named})"):
        voc.people(voc_tree, found.samples, found.classes)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("trainval0 1\ntrainval1", r"bird_trainval\.txt, line 2"),
        ("trainval0 1\ntrainval1 2", r"bird_trainval\.txt, line 2"),
        ("trainval0 1 1", r"bird_trainval\.txt, line 1"),
        ("trainval0 1\ntrainval0 1", "there twice"),
        ("trainval0 1", "not about the same samples"),
        ("", r"bird_trainval\.txt is empty"),
    ],
)
def test_a_damaged_label_file_is_one_error_with_its_name(voc_tree, content, named):
    (voc_tree / "ImageSets/Main/bird_trainval.txt").write_text(content)
    with pytest.raises(UserError, match=named):
        voc.labelled(voc_tree, "trainval")


def test_what_is_missing_is_said(voc_tree):
    with pytest.raises(UserError, match="has no labels of val"):
        voc.labelled(voc_tree, "val")
    (voc_tree / "JPEGImages/trainval2.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 4 images.*trainval2\.jpg"):
        voc.per_class(voc_tree, "trainval")


def test_in_training_an_image_stands_once_for_each_class(voc_tree, tmp_path):
    data = composed("data=voc", f"data.root={voc_tree}").data
    assert data.name == "VOC2007"
    assert listing(data, tmp_path, "trainval") == voc.per_class(voc_tree, "trainval")
    with pytest.raises(UserError, match="has no labels of train"):
        listing(data, tmp_path, "train")
