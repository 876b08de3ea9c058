"""Every form that people have ImageNet in is one listing: the same classes, labels, bytes and identity."""

import io
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import composed, environment, noise, run
from scipy.io import savemat
from torch.utils.data import DataLoader
from torchvision.datasets import imagenet as torchvision_imagenet

from vgg import archives, check, imagenet, synsets
from vgg.config import REPOSITORY, UserError
from vgg.data import CentreCrops, TrainingBatches, TrainingCrops, training_colours
from vgg.images import Listing, list_folder, listing, same_classes
from vgg.pictures import Picture
from vgg.scoring import sizes

PHOTOS = REPOSITORY.parent / "shared" / "data" / "imagenette160"
SYNSETS = ("n01440764", "n01443537", "n01484850")
IDS = {"n01440764": 3, "n01443537": 1, "n01484850": 2}  # the devkit's order is not the sorted one
Data = dict[str, dict[str, bytes]]  # split -> "synset/name" -> content


def jpeg(seed: int, mode: str = "RGB", form: str = "JPEG", side: int = 30) -> bytes:
    file = io.BytesIO()
    noise(seed, side, 20).convert(mode).save(file, form)
    return file.getvalue()


def made_data() -> Data:
    """Three classes of four training and two validation images, in no particular order."""
    train = {
        f"{synset}/{synset}_{9 * n + 2}.JPEG": jpeg(10 * i + n) for n in range(4) for i, synset in enumerate(SYNSETS)
    }
    val = {f"{SYNSETS[n * 2 % 3]}/ILSVRC2012_val_{n + 1:08d}.JPEG": jpeg(100 + n, side=31 + n) for n in range(6)}
    return {"train": train, "val": val}


@pytest.fixture(scope="module")
def data() -> Data:
    return made_data()


def tarred(path: Path, contents: dict[str, bytes], **how: str) -> bytes:
    with tarfile.open(path, **{"mode": "w"} | how) as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def by_name(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {name.partition("/")[2]: content for name, content in contents.items()}


def number(name: str) -> int:
    return SYNSETS.index(name[:9])


def write_folders(root: Path, split: str, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (root / split / name).parent.mkdir(parents=True, exist_ok=True)
        (root / split / name).write_bytes(content)


def write_devkit(root: Path, val: dict[str, bytes], archive: bool = True) -> None:
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    rows = [(number, synset, 0) for synset, number in IDS.items()] + [(4, "n99999999", 3)]
    meta, names = io.BytesIO(), sorted(val, key=lambda name: name.partition("/")[2])
    savemat(meta, {"synsets": np.array(rows, dtype=kind)})
    truth = "".join(f"{IDS[name[:9]]}\n" for name in names).encode()
    contents = {synsets.META: meta.getvalue(), synsets.GROUND_TRUTH: truth}
    if archive:
        contents = {f"{synsets.DEVKIT}/{name}": content for name, content in contents.items()}
        tarred(root / f"{synsets.DEVKIT}.tar.gz", contents, mode="w:gz")
    else:
        for name, content in contents.items():
            (root / synsets.DEVKIT / name).parent.mkdir(parents=True, exist_ok=True)
            (root / synsets.DEVKIT / name).write_bytes(content)


def write_original(root: Path, split: str, contents: dict[str, bytes]) -> None:
    if split == "val":
        tarred(root / imagenet.ORIGINAL["val"], by_name(contents))
        write_devkit(root, contents)
        return
    inner = {}
    for synset in reversed(SYNSETS):
        images = by_name({name: content for name, content in contents.items() if name.startswith(synset)})
        inner[f"{synset}.tar"] = tarred(root / "inner.tar", images)
    (root / "inner.tar").unlink()
    tarred(root / imagenet.ORIGINAL["train"], inner)


def write_kaggle(root: Path, split: str, contents: dict[str, bytes]) -> None:
    folder = root / imagenet.KAGGLE
    if split == "train":
        write_folders(folder, split, contents)
        return
    (folder / "val").mkdir(parents=True)
    lines = ["ImageId,PredictionString"]
    for name, content in contents.items():
        (folder / name.replace(name[:9], "val", 1)).write_bytes(content)
        lines.append(f"{Path(name).stem},{name[:9]} 85 1 499 272 {name[:9]} 1 2 3 4 ")
    (root / synsets.SOLUTION).write_text("\n".join(lines) + "\n")


def write_shards(root: Path, split: str, contents: dict[str, bytes], label: Callable[[str], int] = number) -> None:
    """As timm's: shuffled, two to a split, the training images' labels in .cls, the validation images' in .json."""
    names = sorted(contents, key=lambda name: name[::-1])
    for part in range(2):
        members = {}
        for name in names[part::2]:
            key = Path(name).stem
            members[f"{key}.jpg"] = contents[name]
            about = {"filename": f"{key}.JPEG", "label": label(name), "width": 1}
            members |= {f"{key}.json": json.dumps(about | ({"wnid": name[:9]} if split == "val" else {})).encode()}
            if split == "train":
                members |= {f"{key}.cls": f"{label(name)}\n".encode()}
        tarred(root / f"imagenet1k-{'validation' if split == 'val' else split}-{part:04d}.tar", members)


def write_unnamed_shards(
    root: Path, split: str, contents: dict[str, bytes], label: Callable[[str], int] = number
) -> None:
    """As webdataset's own example: keys are numbers."""
    members = {}
    for position, (name, content) in enumerate(contents.items()):
        members |= {f"{position:08d}.jpg": content, f"{position:08d}.cls": str(label(name)).encode()}
    tarred(root / f"imagenet-{split}-000000.tar", members)


def write_parquet(root: Path, split: str, contents: dict[str, bytes], named: bool = True) -> None:
    """As Hugging Face's: names go on with the synset id."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (root / "data").mkdir(parents=True, exist_ok=True)
    names = sorted(contents, key=lambda name: name[::-1])
    for part in range(3):
        rows = [
            {"bytes": contents[name], "path": f"{Path(name).stem}_{name[:9]}.JPEG" if named else None}
            for name in names[part::3]
        ]
        table = pyarrow.table({"image": rows, "label": [number(name) for name in names[part::3]]})
        full = "validation" if split == "val" else split
        parquet.write_table(table, root / "data" / f"{full}-{part:05d}-of-00003.parquet")


FORMS = {
    "folders": write_folders,
    "original": write_original,
    "kaggle": write_kaggle,
    "shards": write_shards,
    "parquet": write_parquet,
}


def found(root: Path, split: str, **how: object) -> imagenet.Split:
    return imagenet.find(root, split, root / "cache", **how)


def described(images: Listing) -> tuple:
    return images.classes, images.files, images.sizes, images.labels, images.sha256


@pytest.fixture
def expected(data, tmp_path_factory) -> dict[str, Listing]:
    root = tmp_path_factory.mktemp("expected")
    for split, contents in data.items():
        write_folders(root, split, contents)
    return {split: list_folder(root / split) for split in data}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_listing_of_the_same_bytes(form, data, expected, tmp_path):
    for split, contents in data.items():
        FORMS[form](tmp_path, split, contents)
    for split, contents in data.items():
        for _ in range(2):  # from the archives, and from the index of them
            split_found = found(tmp_path, split)
            images = split_found.images
            assert split_found.named
            assert images.classes == SYNSETS
            assert described(images) == described(expected[split])
            for index, file in enumerate(images.files):
                assert images.read(index) == contents[file]
                assert images.classes[images.labels[index]] == file[:9]
                assert images.sizes[index] == len(contents[file])


@pytest.mark.parametrize("train", FORMS)
@pytest.mark.parametrize("val", ["kaggle", "original", "folders"])
def test_the_splits_may_have_different_forms(train, val, data, expected, tmp_path):
    FORMS[train](tmp_path, "train", data["train"])
    FORMS[val](tmp_path, "val", data["val"])
    for split in data:
        assert found(tmp_path, split).images.sha256 == expected[split].sha256


def test_the_configuration_reads_an_archive_and_another_validation_folder(data, expected, tmp_path):
    write_original(tmp_path, "train", data["train"])
    write_folders(tmp_path / "elsewhere", "mine", data["val"])
    options = ("data=imagenet", f"data.root={tmp_path}", f"data.val={tmp_path}/elsewhere/mine")
    cfg = composed(*options, "data.classes=3").data
    for split in data:
        assert listing(cfg, tmp_path / "cache", split).sha256 == expected[split].sha256
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar has 3 classes, data\.classes says 1000"):
        listing(composed(*options).data, tmp_path / "cache", "train")


def test_an_image_in_an_archive_is_named_by_both(data, tmp_path):
    write_original(tmp_path, "train", data["train"])
    images = found(tmp_path, "train").images
    name = "n01440764/n01440764_11.JPEG"
    assert images.path(images.files.index(name)) == f"{tmp_path / 'ILSVRC2012_img_train.tar'}: {name}"


def test_a_flat_folder_takes_its_labels_from_the_devkits_folder_or_from_the_names(data, expected, tmp_path):
    (tmp_path / "one" / "val").mkdir(parents=True)
    (tmp_path / "two" / "val").mkdir(parents=True)
    for name, image in data["val"].items():
        (tmp_path / "one" / name.replace(name[:9], "val", 1)).write_bytes(image)
        (tmp_path / "two" / "val" / f"{Path(name).stem}_{name[:9]}.JPEG").write_bytes(image)
    write_devkit(tmp_path / "one", data["val"], archive=False)
    for root in ("one", "two"):
        images = found(tmp_path / root, "val").images
        assert described(images) == described(expected["val"])
        assert all(isinstance(images.path(index), Path) for index in range(6))


@pytest.mark.parametrize("inside", ["ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_tree_may_be_named_from_inside(inside, data, expected, tmp_path):
    for split, contents in data.items():
        write_kaggle(tmp_path, split, contents)
    for split in data:
        assert found(tmp_path / inside, split).images.sha256 == expected[split].sha256


@pytest.mark.parametrize("write", [write_unnamed_shards, lambda *args: write_parquet(*args, named=False)])
def test_labels_without_names_are_taken_for_positions_and_said_to_be_unchecked(write, data, expected, tmp_path):
    for split, contents in data.items():
        write(tmp_path, split, contents)
    for split in data:
        alone = found(tmp_path, split)
        assert not alone.named
        assert alone.images.classes == ("0000", "0001", "0002")
        assert sorted(alone.images.sizes) == sorted(expected[split].sizes)
        for index, label in enumerate(alone.images.labels):
            assert alone.images.read(index) in [image for name, image in data[split].items() if number(name) == label]
    write_folders(tmp_path, "train", data["train"])
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


def test_a_label_that_the_named_classes_do_not_have_is_refused(data, tmp_path):
    write_folders(tmp_path, "train", data["train"])
    write_unnamed_shards(tmp_path, "val", data["val"], label=lambda name: number(name) + 1)
    with pytest.raises(UserError, match=r"imagenet-val-000000\.tar: nothing in .* tells the class of .*label is 3"):
        found(tmp_path, "val")


# --- wrong order


def devkits(name: str) -> int:
    return IDS[name[:9]] - 1


def test_shards_in_the_devkits_order_are_refused_by_their_names(data, tmp_path):
    for split, contents in data.items():
        write_shards(tmp_path, split, contents, label=devkits)
        with pytest.raises(UserError, match="label 1 is n01484850 and label 2 is n01440764"):
            found(tmp_path, split)


def test_shards_in_the_devkits_order_are_refused_by_the_devkit(data, tmp_path):
    members = {}
    for name, image in data["val"].items():
        members |= {f"{Path(name).stem}.jpg": image, f"{Path(name).stem}.cls": str(devkits(name)).encode()}
    tarred(tmp_path / "imagenet-val-000000.tar", members)
    write_folders(tmp_path, "train", data["train"])
    assert not found(tmp_path, "val").named
    write_devkit(tmp_path, data["val"])
    with pytest.raises(UserError, match="a label must be a position in the sorted synset ids"):
        found(tmp_path, "val")


def test_one_label_of_two_synsets_is_refused(data, tmp_path):
    write_shards(tmp_path, "train", data["train"], label=lambda name: 0 if name.endswith("_2.JPEG") else number(name))
    with pytest.raises(UserError, match="its label 0 is n0"):
        found(tmp_path, "train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_class_folders_that_names_or_the_devkit_contradict_are_refused(split, data, tmp_path):
    turned = {name.replace(name[:9], SYNSETS[number(name) - 1], 1): image for name, image in data[split].items()}
    write_folders(tmp_path, split, turned)
    write_devkit(tmp_path, data["val"])
    with pytest.raises(UserError, match="by its folder or label and .* by (its name|.*devkit)"):
        found(tmp_path, split)


def test_class_folders_named_by_unpadded_numbers_are_refused(tmp_path):
    for label in range(11):
        folder = tmp_path / "train" / str(label)
        folder.mkdir(parents=True)
        (folder / f"n{label:08d}_1.JPEG").write_bytes(jpeg(label))
    with pytest.raises(UserError, match="label 2 is n00000010 and label 3 is n00000002"):
        found(tmp_path, "train")
    (tmp_path / "train" / "10").rename(tmp_path / "train" / "9a")
    found(tmp_path, "train")  # names of one's own have no order to follow


def test_kaggles_solution_and_the_names_must_agree(data, tmp_path):
    write_kaggle(tmp_path, "val", data["val"])
    first = tmp_path / imagenet.KAGGLE / "val" / "ILSVRC2012_val_00000001.JPEG"
    first.rename(first.with_stem(f"{first.stem}_n01484850"))
    with pytest.raises(UserError, match=r"n01484850 by its name and n01440764 by .*LOC_val_solution\.csv"):
        found(tmp_path, "val")


# --- missing, damaged and doubled things


def test_a_root_without_images_says_what_was_looked_for_and_what_is_there(tmp_path):
    with pytest.raises(UserError, match="no folder .*nowhere"):
        found(tmp_path / "nowhere", "train")
    (tmp_path / "images").mkdir()
    (tmp_path / "ILSVRC2012_img_train.tar.part").touch()
    with pytest.raises(UserError) as refusal:
        found(tmp_path, "train")
    for words in ("train/<class>/", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_train.tar.part, images"):
        assert words in str(refusal.value)
    with pytest.raises(UserError, match=r"data\.val=.*images"):
        found(tmp_path, "val", val=str(tmp_path / "images"))


@pytest.mark.parametrize("form", ["original", "kaggle"])
def test_validation_images_without_devkit_or_solution_are_refused(form, data, tmp_path):
    FORMS[form](tmp_path, "val", data["val"])
    for name in (f"{synsets.DEVKIT}.tar.gz", synsets.SOLUTION):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"tells the class of ILSVRC2012_val_.*devkit_t12\.tar\.gz or LOC_val_sol"):
        found(tmp_path, "val")


def test_an_image_that_the_solution_lacks_is_refused(data, tmp_path):
    write_kaggle(tmp_path, "val", data["val"])
    solution = tmp_path / synsets.SOLUTION
    solution.write_text("".join(solution.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="ILSVRC2012_val_00000006"):
        found(tmp_path, "val")


@pytest.mark.parametrize("line", ["ILSVRC2012_val_00000001,tench 1 2 3 4", "ILSVRC2012_val_00000001", "\xff\0"])
def test_a_solution_without_synset_ids_is_refused_by_its_line(line, data, tmp_path):
    write_kaggle(tmp_path, "val", data["val"])
    (tmp_path / synsets.SOLUTION).write_bytes(f"ImageId,PredictionString\n{line}\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"LOC_val_solution\.csv, line 2"):
        found(tmp_path, "val")


def test_a_synset_that_the_training_images_lack_is_refused(data, tmp_path):
    for split, contents in data.items():
        write_kaggle(tmp_path, split, contents)
    solution = tmp_path / synsets.SOLUTION
    solution.write_text(solution.read_text().replace("n01443537", "n02999410"))
    classes = [found(tmp_path, split).images.classes for split in data]
    with pytest.raises(UserError, match="n01443537, n02999410"):
        same_classes(*classes, "training and validation images")


@pytest.mark.parametrize("damage", ["meta", "truth", "half"])
def test_a_damaged_devkit_is_refused(damage, data, tmp_path):
    write_original(tmp_path, "val", data["val"])
    archive = tmp_path / f"{synsets.DEVKIT}.tar.gz"
    if damage == "half":
        archive.write_bytes(archive.read_bytes()[:200])
    else:
        archive.unlink()
        write_devkit(tmp_path, data["val"], archive=False)
        name, junk = (synsets.META, b"no mat file") if damage == "meta" else (synsets.GROUND_TRUTH, b"1\n2\n77\n")
        (tmp_path / synsets.DEVKIT / name).write_bytes(junk)
    with pytest.raises(UserError, match="is not the devkit with data/"):
        found(tmp_path, "val")


def cut_short(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("size", [0, 100, 700, 2048, 5000])
def test_a_tar_cut_anywhere_is_refused(size, data, tmp_path):
    write_original(tmp_path, "val", data["val"])
    cut_short(tmp_path / imagenet.ORIGINAL["val"], size)
    with pytest.raises(UserError, match=r"img_val\.tar is not a whole, uncompressed tar"):
        found(tmp_path, "val")
    assert not list((tmp_path / "cache" / "index").glob("*.json"))


def ends(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [member.offset for member in tar] + [tar.offset]


@pytest.mark.parametrize("which", [1, -1])
def test_a_tar_cut_between_two_members_is_refused(which, data, tmp_path):
    """Tarfile alone takes this for a whole archive."""
    write_original(tmp_path, "train", data["train"])
    archive = tmp_path / imagenet.ORIGINAL["train"]
    cut_short(archive, ends(archive)[which])
    with tarfile.open(archive) as tar:
        assert len(tar.getnames()) == which % 4
    with pytest.raises(UserError, match="its end is missing"):
        found(tmp_path, "train")


def test_a_class_archive_cut_inside_the_whole_one_is_refused(data, tmp_path):
    inner = {}
    for synset in SYNSETS:
        path = tmp_path / "inner.tar"
        tarred(path, by_name({name: image for name, image in data["train"].items() if name.startswith(synset)}))
        inner[f"{synset}.tar"] = path.read_bytes()[: ends(path)[2]]
    tarred(tmp_path / imagenet.ORIGINAL["train"], inner)
    with pytest.raises(UserError, match=r"n01440764\.tar is not a whole"):
        found(tmp_path, "train")


def test_a_compressed_tar_is_refused(data, tmp_path):
    tarred(tmp_path / imagenet.ORIGINAL["val"], by_name(data["val"]), mode="w:gz")
    with pytest.raises(UserError, match="not a whole, uncompressed tar"):
        found(tmp_path, "val")


def test_a_tar_without_images_is_refused_and_hidden_files_are_left_out(data, tmp_path):
    write_devkit(tmp_path, data["val"])
    archive = tmp_path / imagenet.ORIGINAL["val"]
    tarred(archive, {"._ILSVRC2012_val_00000001.JPEG": b"Mac OS X", "readme.txt": b"about"})
    with pytest.raises(UserError, match="holds no images"):
        found(tmp_path, "val")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("n01440764_1.jpg", b"a"), ("n01440764_1.jpg", b"b")], r"n01440764_1\.jpg twice"),
        ([("n01440764_1.jpg", b"a"), ("n01440764_1.png", b"b")], "2 images n01440764_1"),
        ([("n01440764_1.jpg", b"a"), ("n01440764_1.cls", b"fish")], "label of n01440764_1 cannot be read"),
        ([("n01440764_1.jpg", b"a"), ("n01440764_1.cls", b"-1")], "label of n01440764_1 cannot be read"),
        ([("n01440764_1.jpg", b"a"), ("n01440764_1.json", b"{")], "label of n01440764_1 cannot be read"),
        ([("n01440764_1.jpg", b"a"), ("n01440764_1.json", b"[1]")], "label of n01440764_1 cannot be read"),
        ([("1.jpg", b"a")], "nothing in .* tells the class of 1: "),
        ([("1.cls", b"3")], "holds no images"),
        ([("1.jpg", b"a"), ("1.cls", b"0"), ("n01440764_2.jpg", b"a"), ("n01440764_2.cls", b"1")], "label is 0"),
        (
            [("n01440764_2.jpg", b"a"), ("n01440764_2.cls", b"n01443537")],
            "n01443537 by .* n01440764 by its name",
        ),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(members, message, tmp_path):
    with tarfile.open(tmp_path / "imagenet-train-000000.tar", "w") as tar:
        for name, said in members:
            member = tarfile.TarInfo(name)
            member.size = len(said)
            tar.addfile(member, io.BytesIO(said))
    with pytest.raises(UserError, match=message):
        found(tmp_path, "train")


def test_the_same_image_in_two_shards_is_refused(data, tmp_path):
    write_shards(tmp_path, "train", data["train"])
    (tmp_path / "imagenet1k-train-0002.tar").write_bytes((tmp_path / "imagenet1k-train-0000.tar").read_bytes())
    with pytest.raises(UserError, match=r"twice, in .*train-0000\.tar and .*train-0002\.tar"):
        found(tmp_path, "train")


def test_missing_shards_and_two_sets_of_them_are_refused(data, tmp_path):
    write_shards(tmp_path, "train", data["train"])
    write_parquet(tmp_path, "val", data["val"])
    (tmp_path / "imagenet1k-train-0000.tar").rename(tmp_path / "imagenet1k-train-0003.tar")
    with pytest.raises(UserError, match=r"2 of the 4 shards imagenet1k-train-….tar are missing, number 0, 2"):
        found(tmp_path, "train")
    (tmp_path / "data" / "validation-00002-of-00003.parquet").unlink()
    with pytest.raises(UserError, match="1 of the 3 shards .* number 2"):
        found(tmp_path, "val")
    (tmp_path / "imagenet-train-0000.tar").touch()
    with pytest.raises(UserError, match="several sets"):
        found(tmp_path, "train")


def test_half_sorted_validation_images_are_refused(data, tmp_path):
    write_folders(tmp_path, "val", data["val"])
    (tmp_path / "val" / "ILSVRC2012_val_00000007.JPEG").write_bytes(jpeg(0))
    with pytest.raises(UserError, match="beside them, ILSVRC2012_val_00000007"):
        found(tmp_path, "val")


# --- the cache


def test_the_index_is_kept_and_made_again_for_another_archive(data, tmp_path, capsys):
    write_original(tmp_path, "train", data["train"])
    first = found(tmp_path, "train").images
    assert "reading the headers of" in capsys.readouterr().out
    found(tmp_path, "train")
    assert capsys.readouterr().out == ""
    (kept,) = (tmp_path / "cache" / "index").glob("*.json")
    content = json.loads(kept.read_text())
    write_original(tmp_path, "train", {name: image for name, image in data["train"].items() if "_2." not in name})
    assert len(found(tmp_path, "train").images) == len(first) - 3
    (kept,) = (tmp_path / "cache" / "index").glob("*.json")
    assert json.loads(kept.read_text())["of"] != content["of"]
    kept.write_text(json.dumps(content | {"of": ["another recipe", *content["of"][1:]]}))
    assert len(found(tmp_path, "train").images) == len(first) - 3


def test_parquet_is_copied_once_and_again_where_it_changed(data, tmp_path, capsys):
    write_parquet(tmp_path, "train", data["train"])
    before = found(tmp_path, "train").images
    assert "3 files in" in capsys.readouterr().out
    tars = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "parquet").glob("*/*.tar")}
    assert len(tars) == 3
    found(tmp_path, "train")
    assert capsys.readouterr().out == ""
    shard = tmp_path / "data" / "train-00001-of-00003.parquet"
    os.utime(shard, ns=(0, 0))
    assert found(tmp_path, "train").images.sha256 == before.sha256
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "parquet").glob("*/*.tar")}
    assert len(now) == 3
    assert len(now.items() & tars.items()) == 2


def identity(root: Path) -> str:
    return found(root, "train").images.sha256


def test_of_several_processes_one_copies_and_the_others_wait(data, expected, tmp_path, capfd):
    write_parquet(tmp_path, "train", data["train"])
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(identity, [tmp_path] * 3, chunksize=1)) == {expected["train"].sha256}
    output = capfd.readouterr().out
    assert output.count("are copied once to") == output.count("reading the headers of") == 1


def test_a_damaged_parquet_file_leaves_the_whole_copies_and_no_half_one(data, tmp_path):
    write_parquet(tmp_path, "train", data["train"])
    cut_short(tmp_path / "data" / "train-00001-of-00003.parquet", 3000)
    with pytest.raises(UserError, match=r"train-00001-of-00003\.parquet is not a whole parquet file"):
        found(tmp_path, "train")
    copies = [path.name for path in (tmp_path / "cache" / "parquet").glob("*/*")]
    assert [name[:11] for name in copies if name.endswith(".tar")] == ["train-00000"]
    assert not [name for name in copies if name.startswith(".train")]


def test_parquet_of_something_else_is_refused(data, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "data").mkdir()
    for table, message in (
        ({"text": ["a"]}, "columns text, not image and label"),
        ({"image": [{"bytes": None, "path": "n01440764_1.JPEG"}], "label": [0]}, "row 0 lacks"),
        ({"image": [{"bytes": b"a", "path": None}], "label": pyarrow.array([None], pyarrow.int64())}, "row 0 lacks"),
        ({"image": [b"a"], "label": [0]}, "row 0 lacks"),
    ):
        parquet.write_table(pyarrow.table(table), tmp_path / "data" / "train-00000-of-00001.parquet")
        with pytest.raises(UserError, match=message):
            found(tmp_path, "train")


def test_parquet_says_what_it_needs(data, tmp_path, monkeypatch):
    write_parquet(tmp_path, "train", data["train"])
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
        with pytest.raises(UserError, match=r"0\.0 GB, where 0\.0 GB are free: dirs\.cache"):
            found(tmp_path, "train")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="python -m pip install pyarrow"):
        found(tmp_path, "train")


# --- reading


@pytest.fixture
def archived(data, tmp_path) -> Listing:
    write_original(tmp_path, "train", data["train"])
    return found(tmp_path, "train").images


def configuration() -> SimpleNamespace:
    scale = SimpleNamespace(smin=256, smax=512)
    return SimpleNamespace(data=SimpleNamespace(crop=56), seed=7, train_scale=scale)


def test_worker_processes_read_an_archive_like_the_files(archived, expected):
    loaded = []
    for images, workers in ((expected["train"], 0), (archived, 2)):
        batches = TrainingBatches(12, 6, 3, 0, 1, seed=1)
        loader = DataLoader(TrainingCrops(images, configuration()), batch_sampler=batches, num_workers=workers)
        loaded.append([tensor for batch in loader for tensor in batch])
    assert len(loaded[0]) == 4 * 4
    assert all(torch.equal(one, other) for one, other in zip(*loaded, strict=True))
    assert pickle.loads(pickle.dumps(archived)) == archived


def test_crops_colours_and_sizes_do_not_depend_on_the_form(archived, expected):
    one, other = training_colours(archived), training_colours(expected["train"])
    assert torch.equal(one.mean, other.mean)
    assert sizes(archived) == sizes(expected["train"]) == [(90, 60)] * 12
    crops = [CentreCrops(images, 64, 56, 0, 1)[5] for images in (archived, expected["train"])]
    assert torch.equal(crops[0][0], crops[1][0])


def test_an_archive_that_goes_or_is_cut_later_makes_unreadable_images(archived, expected):
    archive = archived.place(0)[0]
    last = max(range(12), key=lambda index: archived.place(index)[1])
    cut_short(archive, archived.place(last)[1] + 100)
    assert [index for index, size in enumerate(sizes(archived)) if size is None] == [last]
    assert TrainingCrops(archived, configuration())[0, last][3] == last
    archive.unlink()
    assert sizes(archived) == [None] * 12


# --- check


def checked(root: Path, *options: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "vgg", "check", str(root), *options, "--cache", str(root / "cache")]
    done = subprocess.run(command, env=environment(root), capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def verdict(root: Path, capsys: pytest.CaptureFixture, everything: bool = False) -> tuple[str, int]:
    capsys.readouterr()
    status = 0
    try:
        check.check(root, root / "cache", everything)
    except SystemExit as ended:
        status = ended.code
    return capsys.readouterr().out, status


def test_check_says_what_is_there_and_what_is_odd(data, tmp_path):
    odd = dict(data["train"])
    for name, image in zip(odd, (jpeg(0, "L"), jpeg(1, "CMYK"), jpeg(2, form="PNG"), jpeg(3, side=8)), strict=False):
        odd[name] = image
    write_original(tmp_path, "train", odd)
    write_kaggle(tmp_path, "val", data["val"])
    output = checked(tmp_path)
    for words in (
        f"training images: the original archive {tmp_path}/ILSVRC2012_img_train.tar\n",
        "12 images in 3 classes, n01440764 to n01484850; 4 in each",
        "smaller sides of 24 to 60 pixels; the smallest is 24 x 60, n01440764/n01440764_11.JPEG",
        "1 grey",
        "1 CMYK",
        "1 PNG called .JPEG",
        "LOC_val_solution.csv",
        "2 in each",
        "this is a part",
        "classes: the same 3 in both",
    ):
        assert words in output
    assert output.splitlines()[-1] == "fine; not the whole of ILSVRC-2012: data=imagenet needs data.classes=3"


@pytest.mark.parametrize("form", [*FORMS, "unnamed"])
def test_check_finds_nothing_wrong_with_any_form(form, data, tmp_path, capsys):
    for split, contents in data.items():
        {**FORMS, "unnamed": write_unnamed_shards}[form](tmp_path, split, contents)
    output, status = verdict(tmp_path, capsys)
    assert status == 0, output
    assert output.splitlines()[-1].startswith("fine")
    assert ("order of the labels could not be checked" in output) == (form == "unnamed")


def test_check_reads_a_folder_of_ones_own_and_names_what_cannot_be_read(scenes, tmp_path, capsys):
    output, status = verdict(scenes, capsys)
    assert (status, output.splitlines()[-1]) == (0, "fine")
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(scenes / split)
    broken = tmp_path / "val"
    broken.unlink()
    (broken / "0").mkdir(parents=True)
    (broken / "0" / "a.jpg").write_bytes(jpeg(0)[:-300])
    (broken / "0" / "b.jpg").write_bytes(jpeg(0))
    output, status = verdict(tmp_path, capsys)
    assert f"{broken / '0' / 'a.jpg'}: " in output
    assert status == 1
    wrong = "1 of the validation images cannot be read; training and validation images have different classes"
    assert output.splitlines()[-1] == f"wrong: {wrong}"


def test_check_reports_a_split_that_is_not_there(data, tmp_path, capsys):
    write_original(tmp_path, "train", data["train"])
    output, status = verdict(tmp_path, capsys)
    assert status == 1
    assert "no validation images in" in output
    assert output.splitlines()[-1] == "wrong: there are no usable validation images"
    (tmp_path / imagenet.ORIGINAL["train"]).unlink()
    write_folders(tmp_path, "val", data["val"])
    output, status = verdict(tmp_path, capsys)
    assert status == 0
    assert output.splitlines()[-1].startswith("fine; no training images: enough to evaluate, not to train")


def test_check_counts_what_the_whole_set_has_and_verifies_archives(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "CLASSES", 3)
    monkeypatch.setattr(check, "IMAGES", {"train": 12, "val": 6})
    monkeypatch.setattr(check, "SMALLEST_CLASS", {"train": 4, "val": 2})
    for split, contents in data.items():
        write_original(tmp_path, split, contents)
    meta = {}
    for name in (*imagenet.ORIGINAL.values(), f"{synsets.DEVKIT}.tar.gz"):
        meta[name] = (name, check.hashlib.md5((tmp_path / name).read_bytes()).hexdigest())
    monkeypatch.setattr(torchvision_imagenet, "ARCHIVE_META", meta)
    output, status = verdict(tmp_path, capsys, everything=True)
    assert (status, output.splitlines()[-1]) == (0, "fine; the whole of ILSVRC-2012")
    assert output.count("the published one\n") == 3
    name = imagenet.ORIGINAL["val"]
    lacking = {name: image for name, image in data["val"].items() if not name.endswith("3.JPEG")}
    tarred(tmp_path / name, by_name(lacking))
    output, status = verdict(tmp_path, capsys, everything=True)
    assert status == 1
    assert "missing: ILSVRC2012_val_00000003" in output
    assert "n01443537 has 1" in output
    assert output.splitlines()[-1] == f"wrong: 5 of 6 validation images; {name} is damaged or another file"


def test_check_decodes_a_sample_or_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "SAMPLE", 10)
    for split in ("train", "val"):
        (tmp_path / split / "ant").mkdir(parents=True)
        for position in range(20):
            (tmp_path / split / "ant" / f"{position}.jpg").write_bytes(jpeg(position))
    output, _ = verdict(tmp_path, capsys)
    assert output.count("decoded 10 (a sample") == 2
    assert verdict(tmp_path, capsys)[0] == output
    assert verdict(tmp_path, capsys, everything=True)[0].count("decoded 20 (all): every one can be read") == 2


# --- on photographs, and to the end


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not beside this checkout")
@pytest.mark.parametrize("form", ["original", "shards", "parquet"])
def test_real_photographs_have_the_same_identity_in_every_form(form, tmp_path, monkeypatch):
    synsets = ("n01440764", "n02102040", "n02979186")
    monkeypatch.setattr(sys.modules[__name__], "SYNSETS", synsets)
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


def test_a_net_is_trained_from_the_archives(data, tmp_path):
    for split, contents in data.items():
        write_original(tmp_path, split, contents)
    options = ("data.classes=3", "data.crop=56", "data.width=0.0625", "data.batch=6", "data.epochs=1")
    output = run(
        *(tmp_path, "train.py", "model=A", "train_scale=S256", "data=imagenet", f"data.root={tmp_path}", *options),
        *("trainer=cpu", "trainer.workers=2", "logger=csv"),
    )
    assert output.count("reading the headers of") == 2
    assert re.search(r"imagenet/A-256 is finished: top-1 error \d", output)
