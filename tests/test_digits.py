import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import decode
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from vgg.data import digits
from vgg.data.listing import list_folder


@pytest.fixture(scope="module")
def drawings():
    return load_digits().images


@pytest.fixture(scope="module")
def photos():
    return [Image.fromarray(photo) for photo in load_sample_images().images]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Few scenes, and the digits that went into each, in the order of writing."""
    used, scene = [], digits.scene

    def remember(rng, digit, others, photos):
        used.append((digit, others))
        return scene(rng, digit, others, photos)

    root = tmp_path_factory.mktemp("cache") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "SCENES", {"train": 90, "val": 60})
        patch.setattr(digits, "scene", remember)
        digits.write(root)
    return root, {"val": used[:60], "train": used[60:]}


def drawn(seed: int, drawings: np.ndarray, photos: list[Image.Image]) -> Image.Image:
    return digits.scene(np.random.default_rng(seed), drawings[seed], drawings[:50], photos)[0]


def test_the_same_numbers_draw_the_same_scene(drawings, photos):
    for seed in range(5):
        assert drawn(seed, drawings, photos).tobytes() == drawn(seed, drawings, photos).tobytes()


def test_scenes_differ_in_shape_and_are_landscape_and_portrait(drawings, photos):
    sizes = [drawn(seed, drawings, photos).size for seed in range(60)]
    assert {min(size) for size in sizes} == {digits.SHORT_SIDE}
    assert max(max(size) for size in sizes) <= 1.6 * digits.SHORT_SIDE + 1
    assert sum(width > height for width, height in sizes) > 15
    assert sum(width < height for width, height in sizes) > 15
    assert len(set(sizes)) > 30


def test_a_scene_shows_the_whole_digit_brightly(drawings, photos):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        with_digit = np.asarray(digits.scene(rng, np.full((8, 8), 16.0), drawings[:50], photos)[0], dtype=int)
        nothing = digits.scene(np.random.default_rng(seed), np.zeros((8, 8)), drawings[:50], photos)[0]
        rows, columns = np.nonzero(np.abs(with_digit - np.asarray(nothing, dtype=int)).sum(2) > 100)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(height - width) <= 6
        assert (
            digits.HEIGHTS[0] * digits.SHORT_SIDE - 2 <= max(height, width) <= digits.HEIGHTS[1] * digits.SHORT_SIDE + 1
        )
        assert with_digit.max() >= 250


def test_a_scenes_box_is_around_the_digit(drawings, photos):
    """Where the scene with a full square for a digit differs from the one without."""
    for seed in range(10):
        with_digit, (x0, y0, x1, y1) = digits.scene(
            np.random.default_rng(seed), np.full((8, 8), 16.0), drawings[:50], photos
        )
        nothing, _ = digits.scene(np.random.default_rng(seed), np.zeros((8, 8)), drawings[:50], photos)
        rows, columns = np.nonzero((np.asarray(with_digit) != np.asarray(nothing)).any(2))
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_write_makes_class_folders_of_non_square_jpegs(written):
    root, _ = written
    assert sorted(folder.name for folder in root.iterdir()) == ["boxes.csv", "train", "val"]
    for split, count in {"train": 90, "val": 60}.items():
        images = list_folder(root / split)
        assert images.classes == tuple("0123456789")
        assert len(images) == count
        for index in range(0, count, 10):
            with Image.open(images.path(index)) as image:
                assert image.format == "JPEG"
            assert min(decode(images.path(index)).size) == digits.SHORT_SIDE
        assert not all(len(set(decode(images.path(index)).size)) == 1 for index in range(count))


def test_the_folder_is_the_class_of_the_digit_in_the_scene(written, drawings):
    root, used = written
    label_of = {drawing.tobytes(): str(label) for drawing, label in zip(drawings, load_digits().target, strict=True)}
    with (root / "boxes.csv").open() as file:
        files = [Path(row["file"]) for row in csv.DictReader(file)]  # in the order of writing, validation first
    assert len(files) == len(used["val"] + used["train"])
    for file, (digit, _) in zip(files, used["val"] + used["train"], strict=True):
        assert file.parent.name == label_of[digit.tobytes()]
        assert digit.tobytes() == drawings[int(file.stem.split("-")[0])].tobytes()


def test_training_and_validation_scenes_use_different_digits(written, drawings):
    _, used = written
    sets = {
        split: {drawing.tobytes() for digit, others in scenes for drawing in (digit, *others)}
        for split, scenes in used.items()
    }
    assert not sets["train"] & sets["val"]
    assert (len(sets["val"]), len(sets["train"])) == (digits.VAL_DIGITS, len(drawings) - digits.VAL_DIGITS)
    for split, scenes in used.items():
        assert {digit.tobytes() for digit, _ in scenes} <= sets[split]


def test_a_second_writing_gives_the_same_files(written, tmp_path, monkeypatch):
    root, _ = written
    monkeypatch.setattr(digits, "SCENES", {"train": 3, "val": 3})
    digits.write(tmp_path / "again")
    again = sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.jpg"))
    assert len(again) == 6
    assert all((tmp_path / "again" / path).read_bytes() == (root / path).read_bytes() for path in again)


def test_an_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "scene", stop)
    with pytest.raises(KeyboardInterrupt):
        digits.write(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


def test_the_default_counts_use_every_digit_and_each_held_out_one_three_times():
    assert digits.SCENES["train"] >= 1797 - digits.VAL_DIGITS
    assert digits.SCENES["val"] == 3 * digits.VAL_DIGITS


def test_every_scene_of_a_digit_has_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "SCENES", {"train": 3, "val": digits.VAL_DIGITS + 2})
    digits.write(tmp_path / "digits")
    names = sorted(path.stem for path in (tmp_path / "digits" / "val").rglob("*.jpg"))
    assert len(names) == digits.VAL_DIGITS + 2
    twice = [name for name in names if name.endswith("-1")]
    assert len(twice) == 2
    assert all(name.replace("-1", "-0") in names for name in twice)
