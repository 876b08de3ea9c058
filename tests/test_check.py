"""python -m vgg check: what it says of a root, and what it calls wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from imagenet_forms import (
    FORMS,
    by_name,
    jpeg,
    tarred,
    write_folders,
    write_kaggle,
    write_original,
    write_unnamed_shards,
)
from torchvision.datasets import imagenet as torchvision_imagenet

from vgg.data.imagenet import check, labels, layouts


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


def test_check_says_what_is_there_and_what_is_odd(ilsvrc, tmp_path):
    odd = dict(ilsvrc["train"])
    for name, image in zip(odd, (jpeg(0, "L"), jpeg(1, "CMYK"), jpeg(2, form="PNG"), jpeg(3, side=8)), strict=False):
        odd[name] = image
    write_original(tmp_path, "train", odd)
    write_kaggle(tmp_path, "val", ilsvrc["val"])
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
def test_check_finds_nothing_wrong_with_any_form(form, ilsvrc, tmp_path, capsys):
    for split, contents in ilsvrc.items():
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
    wrong = "the validation images have a single class; 1 of the validation images cannot be read"
    wrong += "; training and validation images have different classes"
    assert output.splitlines()[-1] == f"wrong: {wrong}"


def test_check_reports_a_split_that_is_not_there(ilsvrc, tmp_path, capsys):
    write_original(tmp_path, "train", ilsvrc["train"])
    output, status = verdict(tmp_path, capsys)
    assert status == 1
    assert "no validation images in" in output
    assert output.splitlines()[-1] == "wrong: there are no usable validation images"
    (tmp_path / layouts.ORIGINAL["train"]).unlink()
    write_folders(tmp_path, "val", ilsvrc["val"])
    output, status = verdict(tmp_path, capsys)
    assert status == 0
    assert output.splitlines()[-1].startswith("fine; no training images: enough to evaluate, not to train")


def test_check_counts_what_the_whole_set_has_and_verifies_archives(ilsvrc, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "CLASSES", 3)
    monkeypatch.setattr(check, "IMAGES", {"train": 12, "val": 6})
    monkeypatch.setattr(check, "SMALLEST_CLASS", {"train": 4, "val": 2})
    for split, contents in ilsvrc.items():
        write_original(tmp_path, split, contents)
    meta = {}
    for name in (*layouts.ORIGINAL.values(), f"{labels.DEVKIT}.tar.gz"):
        meta[name] = (name, check.hashlib.md5((tmp_path / name).read_bytes()).hexdigest())
    monkeypatch.setattr(torchvision_imagenet, "ARCHIVE_META", meta)
    output, status = verdict(tmp_path, capsys, everything=True)
    assert (status, output.splitlines()[-1]) == (0, "fine; the whole of ILSVRC-2012")
    assert output.count("the published one\n") == 3
    name = layouts.ORIGINAL["val"]
    lacking = {name: image for name, image in ilsvrc["val"].items() if not name.endswith("3.JPEG")}
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
