import shutil
from pathlib import Path

import pytest
from conftest import composed, noise

from vgg.core.errors import UserError
from vgg.data import held_out
from vgg.data.datasets import Source, listing
from vgg.data.listing import list_folder
from vgg.data.summary import summary
from vgg.evaluation.arrays import refuse_contradictions
from vgg.evaluation.images import evaluated_images
from vgg.runs.run import Run

CLASSES = ("ant", "bee", "cat")
COUNT = 20


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three classes of twenty photos each, without train/ and val/."""
    for label, name in enumerate(CLASSES):
        (tmp_path / "My photos" / name).mkdir(parents=True)
        for number in range(COUNT):
            noise(100 * label + number, 8, 6).save(tmp_path / "My photos" / name / f"{number:02}.png")
    return tmp_path / "My photos"


def sides(root: Path, share: float = 0.2) -> dict[str, bytes]:
    """Of each side its files and their bytes."""
    source, cache = Source("folder", str(root), None, False, val_share=share), root.parent / "cache"
    images = {split: listing(source, cache, split) for split in ("train", "val")}
    return {split: {one.files[i]: one.read(i) for i in range(len(one))} for split, one in images.items()}


def test_every_photo_is_on_one_side_and_about_a_share_of_each_class_is_held_out(photos):
    both = sides(photos)
    assert len(both["train"]) + len(both["val"]) == len(CLASSES) * COUNT
    assert not both["train"].keys() & both["val"].keys()
    assert {file.split("/")[0] for file in both["val"]} == set(CLASSES)
    sums = [f"{number:016x}" for number in range(0, 2**64, 2**54)]
    assert sum(held_out.is_held_out(one, 0.2) for one in sums) == pytest.approx(0.2 * len(sums), abs=1)


def test_a_photo_stays_on_its_side_when_others_are_added_removed_or_renamed(photos):
    before = sides(photos)
    for number in range(5):
        noise(900 + number, 8, 6).save(photos / "ant" / f"new{number}.png")
    (photos / "bee" / "00.png").unlink()
    (photos / "cat" / "01.png").rename(photos / "cat" / "zzz.png")
    after = sides(photos)
    for split in ("train", "val"):
        assert set(after[split].values()) >= set(before[split].values()) - {before[split].get("bee/00.png")}
    assert sum(map(len, after.values())) == sum(map(len, before.values())) + 4


def test_photos_of_equal_content_stand_on_one_side_and_are_counted(photos):
    for number in range(COUNT):
        shutil.copy(photos / "ant" / f"{number:02}.png", photos / "ant" / f"twin{number:02}.png")
    both = sides(photos)
    assert not set(both["train"].values()) & set(both["val"].values())
    assert held_out.duplicates(list_folder(photos), photos.parent / "cache") == 2 * COUNT


def test_a_photo_that_changed_is_looked_at_again(photos):
    images, cache = list_folder(photos), photos.parent / "cache"
    before = held_out.content_sums(images, cache)
    noise(500, 9, 7).save(photos / "ant" / "03.png")
    after = held_out.content_sums(list_folder(photos), cache)
    assert [one != other for one, other in zip(before, after, strict=True)].index(True) == 3
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


def test_a_class_with_too_few_photos_is_named(photos):
    for number in range(1, COUNT):
        (photos / "bee" / f"{number:02}.png").unlink()
    with pytest.raises(
        UserError, match=r"the class bee of .*My photos has 1 photos, . of them held out.*val_share=0.2"
    ):
        sides(photos)


def test_an_evaluation_is_about_the_photos_that_were_held_out(photos):
    given = ("data=folder", f"data.root={photos}", f"dirs.cache={photos.parent / 'cache'}")
    assert set(evaluated_images(composed(*given, evaluate=True), CLASSES).files) == sides(photos)["val"].keys()


def test_an_evaluation_with_another_share_than_the_runs_is_refused(photos, tmp_path):
    given = ("data=folder", f"data.root={photos}", f"dirs.runs={tmp_path / 'runs'}", "model=A", "train_scale=S256")
    run = Run.named("My_photos/A-256-val_share0.1", tmp_path / "runs")
    run.prepare(composed(*given, "data.val_share=0.1"), None)
    with pytest.raises(UserError, match=r"data.val_share=0.2, but My_photos/A-256-val_share0.1 has data.val_share=0.1"):
        refuse_contradictions(composed(*given, evaluate=True), run)
    refuse_contradictions(composed(*given, "data.val_share=0.1", evaluate=True), run)
    refuse_contradictions(composed(*given, "data.name=other", evaluate=True), run)


def test_a_folder_with_train_and_val_is_taken_as_it_is(photos, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photos, tmp_path / "split" / split)
    assert {len(one) for one in sides(tmp_path / "split").values()} == {len(CLASSES) * COUNT}


@pytest.mark.parametrize(("files", "there"), [((), "nothing"), (("a.txt", "b.png"), "a.txt, b.png")])
def test_a_folder_without_class_folders_says_what_it_holds(tmp_path, files, there):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"has neither class folders nor train/ and val/.*it holds {there}$"):
        listing(Source("folder", str(tmp_path), None, False), tmp_path / "cache", "train")


def test_the_summary_has_counts_sizes_and_what_cannot_be_read(photos):
    (photos / "ant" / "broken.png").write_bytes(b"no picture")
    data = composed("data=folder", f"data.root={photos}", "data.batch=8").data
    images = {split: listing(data, photos.parent / "cache", split) for split in ("train", "val")}
    text = summary(data, images, photos.parent / "cache")
    assert f"{len(images['train'])} training and {len(images['val'])} validation photos of 3 classes, 20 %" in text
    assert f"{len(images['train']) // 8} steps of 8 an epoch" in text
    assert "24 x 18 pixels in the middle, the smallest side 18" in text
    assert "1 cannot be read: python -m vgg check" in text
