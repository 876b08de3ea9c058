"""Tars and parquet shards, read in place: damaged and doubled ones, the index of their members, their images."""

import io
import json
import multiprocessing
import os
import pickle
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import batches_of, crops_of
from imagenet_forms import SYNSETS, by_name, found, tarred, write_devkit, write_original, write_parquet, write_shards

from vgg.core.errors import UserError
from vgg.data.colours import training_colours
from vgg.data.crops import CentreCrops
from vgg.data.imagenet import archives, layouts
from vgg.data.listing import Listing
from vgg.evaluation.scoring import sizes


def cut_short(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("size", [0, 100, 700, 2048, 5000])
def test_a_tar_cut_anywhere_is_refused(size, ilsvrc, tmp_path):
    write_original(tmp_path, "val", ilsvrc["val"])
    cut_short(tmp_path / layouts.ORIGINAL["val"], size)
    with pytest.raises(UserError, match=r"img_val\.tar is not a whole, uncompressed tar"):
        found(tmp_path, "val")
    assert not list((tmp_path / "cache" / "index").glob("*.json"))


def ends(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [member.offset for member in tar] + [tar.offset]


@pytest.mark.parametrize("which", [1, -1])
def test_a_tar_cut_between_two_members_is_refused(which, ilsvrc, tmp_path):
    """Tarfile alone takes this for a whole archive."""
    write_original(tmp_path, "train", ilsvrc["train"])
    archive = tmp_path / layouts.ORIGINAL["train"]
    cut_short(archive, ends(archive)[which])
    with tarfile.open(archive) as tar:
        assert len(tar.getnames()) == which % 4
    with pytest.raises(UserError, match="its end is missing"):
        found(tmp_path, "train")


def test_a_class_archive_cut_inside_the_whole_one_is_refused(ilsvrc, tmp_path):
    inner = {}
    for synset in SYNSETS:
        path = tmp_path / "inner.tar"
        tarred(path, by_name({name: image for name, image in ilsvrc["train"].items() if name.startswith(synset)}))
        inner[f"{synset}.tar"] = path.read_bytes()[: ends(path)[2]]
    tarred(tmp_path / layouts.ORIGINAL["train"], inner)
    with pytest.raises(UserError, match=r"n01440764\.tar is not a whole"):
        found(tmp_path, "train")


def test_a_compressed_tar_is_refused(ilsvrc, tmp_path):
    tarred(tmp_path / layouts.ORIGINAL["val"], by_name(ilsvrc["val"]), mode="w:gz")
    with pytest.raises(UserError, match="not a whole, uncompressed tar"):
        found(tmp_path, "val")


def test_a_tar_without_images_is_refused_and_hidden_files_are_left_out(ilsvrc, tmp_path):
    write_devkit(tmp_path, ilsvrc["val"])
    archive = tmp_path / layouts.ORIGINAL["val"]
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


def test_a_shard_whose_names_tell_only_some_classes_goes_by_its_label_numbers(tmp_path):
    contents = {"1.jpg": b"a", "1.cls": b"0", "n01440764_2.jpg": b"a", "n01440764_2.cls": b"1"}
    tarred(tmp_path / "imagenet-train-000000.tar", contents)
    images = found(tmp_path, "train").images
    assert (images.classes, tuple(images.labels)) == (("0000", "0001"), (0, 1))


def test_the_same_image_in_two_shards_is_refused(ilsvrc, tmp_path):
    write_shards(tmp_path, "train", ilsvrc["train"])
    (tmp_path / "imagenet1k-train-0002.tar").write_bytes((tmp_path / "imagenet1k-train-0000.tar").read_bytes())
    with pytest.raises(UserError, match=r"twice, in .*train-0000\.tar and .*train-0002\.tar"):
        found(tmp_path, "train")


def test_missing_shards_and_two_sets_of_them_are_refused(ilsvrc, tmp_path):
    write_shards(tmp_path, "train", ilsvrc["train"])
    write_parquet(tmp_path, "val", ilsvrc["val"])
    (tmp_path / "imagenet1k-train-0000.tar").rename(tmp_path / "imagenet1k-train-0003.tar")
    with pytest.raises(UserError, match=r"2 of the 4 shards imagenet1k-train-….tar are missing, number 0, 2"):
        found(tmp_path, "train")
    (tmp_path / "data" / "validation-00002-of-00003.parquet").unlink()
    with pytest.raises(UserError, match="1 of the 3 shards .* number 2"):
        found(tmp_path, "val")
    (tmp_path / "imagenet-train-0000.tar").touch()
    with pytest.raises(UserError, match="several sets"):
        found(tmp_path, "train")


def test_the_index_is_kept_and_made_again_for_another_archive(ilsvrc, tmp_path, capsys):
    write_original(tmp_path, "train", ilsvrc["train"])
    first = found(tmp_path, "train").images
    assert "reading the headers of" in capsys.readouterr().out
    found(tmp_path, "train")
    assert capsys.readouterr().out == ""
    (kept,) = (tmp_path / "cache" / "index").glob("*.json")
    content = json.loads(kept.read_text())
    write_original(tmp_path, "train", {name: image for name, image in ilsvrc["train"].items() if "_2." not in name})
    assert len(found(tmp_path, "train").images) == len(first) - 3
    (kept,) = (tmp_path / "cache" / "index").glob("*.json")
    assert json.loads(kept.read_text())["of"] != content["of"]
    kept.write_text(json.dumps(content | {"of": ["another recipe", *content["of"][1:]]}))
    assert len(found(tmp_path, "train").images) == len(first) - 3


def test_the_archives_that_are_read_are_named_or_counted(ilsvrc, tmp_path, capsys):
    write_original(tmp_path, "train", ilsvrc["train"])
    found(tmp_path, "train")
    assert f"the headers of {tmp_path / layouts.ORIGINAL['train']}, once" in capsys.readouterr().out
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", "train", ilsvrc["train"])
    found(tmp_path / "shards", "train")
    assert f"the headers of 2 archives in {tmp_path / 'shards'}, once" in capsys.readouterr().out


def test_parquet_is_copied_once_and_again_where_it_changed(ilsvrc, tmp_path, capsys):
    write_parquet(tmp_path, "train", ilsvrc["train"])
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


def test_of_several_processes_one_copies_and_the_others_wait(ilsvrc, ilsvrc_folders, tmp_path, capfd):
    write_parquet(tmp_path, "train", ilsvrc["train"])
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(identity, [tmp_path] * 3, chunksize=1)) == {ilsvrc_folders["train"].sha256}
    output = capfd.readouterr().out
    assert output.count("are copied once to") == output.count("reading the headers of") == 1


def test_a_damaged_parquet_file_leaves_the_whole_copies_and_no_half_one(ilsvrc, tmp_path):
    write_parquet(tmp_path, "train", ilsvrc["train"])
    cut_short(tmp_path / "data" / "train-00001-of-00003.parquet", 3000)
    with pytest.raises(UserError, match=r"train-00001-of-00003\.parquet is not a whole parquet file"):
        found(tmp_path, "train")
    copies = [path.name for path in (tmp_path / "cache" / "parquet").glob("*/*")]
    assert [name[:11] for name in copies if name.endswith(".tar")] == ["train-00000"]
    assert not [name for name in copies if name.startswith(".train")]


def test_parquet_of_something_else_is_refused(ilsvrc, tmp_path):
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


def test_parquet_says_what_it_needs(ilsvrc, tmp_path, monkeypatch):
    write_parquet(tmp_path, "train", ilsvrc["train"])
    with monkeypatch.context() as patch:
        patch.setattr(archives.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
        with pytest.raises(UserError, match=r"0\.0 GB, where 0\.0 GB are free: dirs\.cache"):
            found(tmp_path, "train")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="python -m pip install pyarrow"):
        found(tmp_path, "train")


@pytest.fixture
def archived(ilsvrc, tmp_path) -> Listing:
    write_original(tmp_path, "train", ilsvrc["train"])
    return found(tmp_path, "train").images


def test_worker_processes_read_an_archive_like_the_files(archived, ilsvrc_folders):
    loaded = []
    for images, workers in ((ilsvrc_folders["train"], 0), (archived, 2)):
        loader = batches_of(crops_of(images), 3, workers)
        loaded.append([tensor for batch in loader for tensor in batch])
    assert len(loaded[0]) == 4 * 5
    assert all(torch.equal(one, other) for one, other in zip(*loaded, strict=True))
    assert pickle.loads(pickle.dumps(archived)) == archived


def test_crops_colours_and_sizes_do_not_depend_on_the_form(archived, ilsvrc_folders):
    one, other = training_colours(archived), training_colours(ilsvrc_folders["train"])
    assert torch.equal(one.mean, other.mean)
    assert sizes(archived) == sizes(ilsvrc_folders["train"]) == [(90, 60)] * 12
    crops = [CentreCrops(images, 64, 56)[5] for images in (archived, ilsvrc_folders["train"])]
    assert torch.equal(crops[0][0], crops[1][0])


def test_an_archive_that_goes_or_is_cut_later_makes_unreadable_images(archived):
    archive = archived.place(0)[0]
    last = max(range(12), key=lambda index: archived.place(index)[1])
    cut_short(archive, archived.place(last)[1] + 100)
    assert [index for index, size in enumerate(sizes(archived)) if size is None] == [last]
    assert crops_of(archived)[0, last][-1] == last
    archive.unlink()
    assert sizes(archived) == [None] * 12
