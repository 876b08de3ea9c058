"""Labels are positions in the sorted synset ids: where they come from, and what contradicts or lacks them."""

from pathlib import Path

import pytest
from imagenet_forms import (
    FORMS,
    IDS,
    SYNSETS,
    found,
    jpeg,
    number,
    tarred,
    write_devkit,
    write_folders,
    write_kaggle,
    write_original,
    write_shards,
)

from vgg.core.errors import UserError
from vgg.data.imagenet import labels, layouts
from vgg.data.listing import same_classes


def devkits(name: str) -> int:
    return IDS[name[:9]] - 1


def test_shards_in_the_devkits_order_are_refused_by_their_names(ilsvrc, tmp_path):
    for split, contents in ilsvrc.items():
        write_shards(tmp_path, split, contents, label=devkits)
        with pytest.raises(UserError, match="label 1 is n01484850 and label 2 is n01440764"):
            found(tmp_path, split)


def test_shards_in_the_devkits_order_are_refused_by_the_devkit(ilsvrc, tmp_path):
    members = {}
    for name, image in ilsvrc["val"].items():
        members |= {f"{Path(name).stem}.jpg": image, f"{Path(name).stem}.cls": str(devkits(name)).encode()}
    tarred(tmp_path / "imagenet-val-000000.tar", members)
    write_folders(tmp_path, "train", ilsvrc["train"])
    assert not found(tmp_path, "val").named
    write_devkit(tmp_path, ilsvrc["val"])
    with pytest.raises(UserError, match="a label must be a position in the sorted synset ids"):
        found(tmp_path, "val")


def test_one_label_of_two_synsets_is_refused(ilsvrc, tmp_path):
    write_shards(tmp_path, "train", ilsvrc["train"], label=lambda name: 0 if name.endswith("_2.JPEG") else number(name))
    with pytest.raises(UserError, match="its label 0 is n0"):
        found(tmp_path, "train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_class_folders_that_names_or_the_devkit_contradict_are_refused(split, ilsvrc, tmp_path):
    turned = {name.replace(name[:9], SYNSETS[number(name) - 1], 1): image for name, image in ilsvrc[split].items()}
    write_folders(tmp_path, split, turned)
    write_devkit(tmp_path, ilsvrc["val"])
    with pytest.raises(UserError, match="by its folder or label and .* by (its name|.*devkit)"):
        found(tmp_path, split)


def test_class_folders_named_by_unpadded_numbers_are_in_the_order_of_the_numbers(tmp_path):
    for label in range(11):
        folder = tmp_path / "train" / str(label)
        folder.mkdir(parents=True)
        (folder / f"n{label:08d}_1.JPEG").write_bytes(jpeg(label))
    assert found(tmp_path, "train").images.classes == tuple(map(str, range(11)))
    (tmp_path / "train" / "10").rename(tmp_path / "train" / "1x")
    found(tmp_path, "train")  # names of one's own have no order to follow
    (tmp_path / "train" / "1x").rename(tmp_path / "train" / "10")
    (tmp_path / "train" / "2").rename(tmp_path / "train" / "12")
    with pytest.raises(UserError, match="label 9 is n00000010 and label 10 is n00000002"):
        found(tmp_path, "train")


def test_kaggles_solution_and_the_names_must_agree(ilsvrc, tmp_path):
    write_kaggle(tmp_path, "val", ilsvrc["val"])
    first = tmp_path / layouts.KAGGLE / "val" / "ILSVRC2012_val_00000001.JPEG"
    first.rename(first.with_stem(f"{first.stem}_n01484850"))
    with pytest.raises(UserError, match=r"n01484850 by its name and n01440764 by .*LOC_val_solution\.csv"):
        found(tmp_path, "val")


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
def test_validation_images_without_devkit_or_solution_are_refused(form, ilsvrc, tmp_path):
    FORMS[form](tmp_path, "val", ilsvrc["val"])
    for name in (f"{labels.DEVKIT}.tar.gz", labels.SOLUTION):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"tells the class of ILSVRC2012_val_.*devkit_t12\.tar\.gz or LOC_val_sol"):
        found(tmp_path, "val")


def test_an_image_that_the_solution_lacks_is_refused(ilsvrc, tmp_path):
    write_kaggle(tmp_path, "val", ilsvrc["val"])
    solution = tmp_path / labels.SOLUTION
    solution.write_text("".join(solution.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="ILSVRC2012_val_00000006"):
        found(tmp_path, "val")


@pytest.mark.parametrize("line", ["ILSVRC2012_val_00000001,tench 1 2 3 4", "ILSVRC2012_val_00000001", "\xff\0"])
def test_a_solution_without_synset_ids_is_refused_by_its_line(line, ilsvrc, tmp_path):
    write_kaggle(tmp_path, "val", ilsvrc["val"])
    (tmp_path / labels.SOLUTION).write_bytes(f"ImageId,PredictionString\n{line}\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"LOC_val_solution\.csv, line 2"):
        found(tmp_path, "val")


def test_a_synset_that_the_training_images_lack_is_refused(ilsvrc, tmp_path):
    for split, contents in ilsvrc.items():
        write_kaggle(tmp_path, split, contents)
    solution = tmp_path / labels.SOLUTION
    solution.write_text(solution.read_text().replace("n01443537", "n02999410"))
    classes = [found(tmp_path, split).images.classes for split in ilsvrc]
    with pytest.raises(UserError, match="n01443537, n02999410"):
        same_classes(*classes, "training and validation images")


@pytest.mark.parametrize("damage", ["meta", "truth", "half"])
def test_a_damaged_devkit_is_refused(damage, ilsvrc, tmp_path):
    write_original(tmp_path, "val", ilsvrc["val"])
    archive = tmp_path / f"{labels.DEVKIT}.tar.gz"
    if damage == "half":
        archive.write_bytes(archive.read_bytes()[:200])
    else:
        archive.unlink()
        write_devkit(tmp_path, ilsvrc["val"], archive=False)
        name, junk = (labels.META, b"no mat file") if damage == "meta" else (labels.GROUND_TRUTH, b"1\n2\n77\n")
        (tmp_path / labels.DEVKIT / name).write_bytes(junk)
    with pytest.raises(UserError, match="is not the devkit with data/"):
        found(tmp_path, "val")


def test_half_sorted_validation_images_are_refused(ilsvrc, tmp_path):
    write_folders(tmp_path, "val", ilsvrc["val"])
    (tmp_path / "val" / "ILSVRC2012_val_00000007.JPEG").write_bytes(jpeg(0))
    with pytest.raises(UserError, match="beside them, ILSVRC2012_val_00000007"):
        found(tmp_path, "val")
