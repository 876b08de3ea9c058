"""Every form that people have ImageNet in is one listing: the same classes, labels, bytes and identity."""

import re
from pathlib import Path

import imagenet_forms
import pytest
from conftest import composed, run
from imagenet_forms import (
    FORMS,
    SYNSETS,
    described,
    found,
    number,
    tarred,
    write_devkit,
    write_folders,
    write_kaggle,
    write_original,
    write_parquet,
    write_unnamed_shards,
)

from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.data.datasets import listing
from vgg.data.encoded_image import Picture
from vgg.data.listing import list_folder, same_classes

PHOTOS = REPOSITORY.parent / "shared" / "data" / "imagenette160"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_listing_of_the_same_bytes(form, ilsvrc, ilsvrc_folders, tmp_path):
    for split, contents in ilsvrc.items():
        FORMS[form](tmp_path, split, contents)
    for split, contents in ilsvrc.items():
        for _ in range(2):  # from the archives, and from the index of them
            split_found = found(tmp_path, split)
            images = split_found.images
            assert split_found.named
            assert images.classes == SYNSETS
            assert described(images) == described(ilsvrc_folders[split])
            for index, file in enumerate(images.files):
                assert images.read(index) == contents[file]
                assert images.classes[images.labels[index]] == file[:9]
                assert images.sizes[index] == len(contents[file])


@pytest.mark.parametrize("train", FORMS)
@pytest.mark.parametrize("val", ["kaggle", "original", "folders"])
def test_the_splits_may_have_different_forms(train, val, ilsvrc, ilsvrc_folders, tmp_path):
    FORMS[train](tmp_path, "train", ilsvrc["train"])
    FORMS[val](tmp_path, "val", ilsvrc["val"])
    for split in ilsvrc:
        assert found(tmp_path, split).images.sha256 == ilsvrc_folders[split].sha256


def test_the_configuration_reads_an_archive_and_another_validation_folder(ilsvrc, ilsvrc_folders, tmp_path):
    write_original(tmp_path, "train", ilsvrc["train"])
    write_folders(tmp_path / "elsewhere", "mine", ilsvrc["val"])
    options = ("data=imagenet", f"data.root={tmp_path}", f"data.val={tmp_path}/elsewhere/mine")
    cfg = composed(*options, "data.classes=3").data
    for split in ilsvrc:
        assert listing(cfg, tmp_path / "cache", split).sha256 == ilsvrc_folders[split].sha256
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar has 3 classes, data\.classes says 1000"):
        listing(composed(*options).data, tmp_path / "cache", "train")


def test_an_image_in_an_archive_is_named_by_both(ilsvrc, tmp_path):
    write_original(tmp_path, "train", ilsvrc["train"])
    images = found(tmp_path, "train").images
    name = "n01440764/n01440764_11.JPEG"
    assert images.path(images.files.index(name)) == f"{tmp_path / 'ILSVRC2012_img_train.tar'}: {name}"


def test_a_flat_folder_takes_its_labels_from_the_devkits_folder_or_from_the_names(ilsvrc, ilsvrc_folders, tmp_path):
    (tmp_path / "one" / "val").mkdir(parents=True)
    (tmp_path / "two" / "val").mkdir(parents=True)
    for name, image in ilsvrc["val"].items():
        (tmp_path / "one" / name.replace(name[:9], "val", 1)).write_bytes(image)
        (tmp_path / "two" / "val" / f"{Path(name).stem}_{name[:9]}.JPEG").write_bytes(image)
    write_devkit(tmp_path / "one", ilsvrc["val"], archive=False)
    for root in ("one", "two"):
        images = found(tmp_path / root, "val").images
        assert described(images) == described(ilsvrc_folders["val"])
        assert all(isinstance(images.path(index), Path) for index in range(6))


@pytest.mark.parametrize("inside", ["ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_tree_may_be_named_from_inside(inside, ilsvrc, ilsvrc_folders, tmp_path):
    for split, contents in ilsvrc.items():
        write_kaggle(tmp_path, split, contents)
    for split in ilsvrc:
        assert found(tmp_path / inside, split).images.sha256 == ilsvrc_folders[split].sha256


@pytest.mark.parametrize("write", [write_unnamed_shards, lambda *args: write_parquet(*args, named=False)])
def test_labels_without_names_are_taken_for_positions_and_said_to_be_unchecked(write, ilsvrc, ilsvrc_folders, tmp_path):
    for split, contents in ilsvrc.items():
        write(tmp_path, split, contents)
    for split in ilsvrc:
        alone = found(tmp_path, split)
        assert not alone.named
        assert alone.images.classes == ("0000", "0001", "0002")
        assert sorted(alone.images.sizes) == sorted(ilsvrc_folders[split].sizes)
        for index, label in enumerate(alone.images.labels):
            assert alone.images.read(index) in [image for name, image in ilsvrc[split].items() if number(name) == label]
    write_folders(tmp_path, "train", ilsvrc["train"])
    named = found(tmp_path, "val")
    assert (named.images.classes, named.named) == (SYNSETS, False)
    same_classes(found(tmp_path, "train").images.classes, named.images.classes, "test")
    assert named.images.labels == alone.images.labels


def test_keys_in_folders_of_a_shard_are_not_taken_for_each_other(tmp_path):
    members = {}
    for key in ("a/1", "b/1"):
        members |= {f"{key}.jpg": key.encode(), f"{key}.json": b'{"label": 7, "filename": "image.jpg"}'}
    tarred(tmp_path / "train-0.tar", members)
    images = found(tmp_path, "train").images
    assert images.files == ("0007/00000-a/1", "0007/00000-b/1")
    assert [images.read(index) for index in (0, 1)] == [b"a/1", b"b/1"]


def test_a_label_that_the_named_classes_do_not_have_is_refused(ilsvrc, tmp_path):
    write_folders(tmp_path, "train", ilsvrc["train"])
    write_unnamed_shards(tmp_path, "val", ilsvrc["val"], label=lambda name: number(name) + 1)
    with pytest.raises(UserError, match=r"imagenet-val-000000\.tar: nothing in .* tells the class of .*label is 3"):
        found(tmp_path, "val")


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not beside this checkout")
@pytest.mark.parametrize("form", ["original", "shards", "parquet"])
def test_real_photographs_have_the_same_identity_in_every_form(form, tmp_path, monkeypatch):
    synsets = ("n01440764", "n02102040", "n02979186")
    monkeypatch.setattr(imagenet_forms, "SYNSETS", synsets)
    contents = {}
    for synset in synsets:
        for path in sorted((PHOTOS / "train" / synset).glob("n*"))[:5]:
            contents[f"{synset}/{path.name}"] = path.read_bytes()
    write_folders(tmp_path, "expected", contents)
    FORMS[form](tmp_path, "train", contents)
    images, files = found(tmp_path, "train").images, list_folder(tmp_path / "expected")
    assert described(images) == described(files)
    for index in range(len(images)):
        assert (Picture(images.read(index)).pixels() == Picture(files.read(index)).pixels()).all()


def test_a_net_is_trained_from_the_archives(ilsvrc, tmp_path):
    for split, contents in ilsvrc.items():
        write_original(tmp_path, split, contents)
    options = ("data.classes=3", "data.scale=0.125", "data.width=0.0625", "data.batch=6", "data.epochs=1")
    output = run(
        *(tmp_path, "train.py", "model=A", "train_scale=S256", "data=imagenet", f"data.root={tmp_path}", *options),
        *("trainer=cpu", "trainer.workers=2", "logger=csv"),
    )
    assert output.count("reading the headers of") == 2
    assert re.search(
        r"imagenet/A-256-classes3-scale0.125-width0.0625-batch6-epochs1 is finished in .*: top-1 error \d", output
    )
