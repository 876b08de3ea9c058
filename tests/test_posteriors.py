from dataclasses import fields, replace

import numpy as np
import pytest
from conftest import composed

from vgg.core.errors import UserError
from vgg.data.listing import list_folder
from vgg.evaluation import arrays as evaluation_arrays
from vgg.evaluation.posteriors import Key, correct, left_out, load, mean, origin, read, save
from vgg.evaluation.sampling import wilson
from vgg.runs.run import Run

KEY = Key("w" * 64, "i" * 64, "dense", 256, "last", False, True, "32-true")
OTHER = Key("v" * 64, "j" * 64, "multicrop", 384, "first", True, False, "bf16-mixed", "other")


def rows(images: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), images).astype(np.float32)


def test_the_mean_gives_each_array_equal_weight():
    arrays = [rows(4, 5, seed) for seed in range(3)]
    found = mean(arrays)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, (arrays[0].astype(float) + arrays[1] + arrays[2]) / 3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_the_mean_does_not_change_its_arrays():
    arrays = [rows(2, 3, seed) for seed in range(2)]
    before = [array.copy() for array in arrays]
    mean(arrays)
    np.testing.assert_array_equal(arrays, before)


def test_top_1_and_top_5():
    posterior = np.array([[0.3, 0.25, 0.2, 0.1, 0.08, 0.07]] * 6)
    assert correct(posterior, np.arange(6), 1).tolist() == [True] + [False] * 5
    assert correct(posterior, np.arange(6), 5).tolist() == [True] * 5 + [False]


def test_top_k_agrees_with_counting_the_classes_that_are_more_probable():
    posterior, labels = rows(200, 20), np.random.default_rng(1).integers(0, 20, 200)
    more = (posterior > posterior[np.arange(200), labels][:, None]).sum(1)
    for k in (1, 5):
        np.testing.assert_array_equal(correct(posterior, labels, k), more < k)


def test_ties_go_to_the_lower_class_index():
    posterior = np.full((3, 8), 1 / 8)
    assert correct(posterior, [0, 1, 7], 1).tolist() == [True, False, False]
    assert correct(posterior, [4, 5, 7], 5).tolist() == [True, False, False]
    assert correct(np.array([[0.2, 0.4, 0.4]] * 2), [1, 2], 1).tolist() == [True, False]


def test_top_5_of_fewer_than_five_classes_is_always_right():
    assert correct(rows(3, 3), [0, 1, 2], 5).all()


def test_the_interval_is_wilsons():
    assert wilson(10 / 100, 100) == pytest.approx((5.522914, 17.436566), abs=1e-4)
    assert wilson(12_500 / 50_000, 50_000) == pytest.approx((24.6224, 25.3814), abs=1e-3)


def test_the_interval_stays_within_0_and_100_percent_and_is_symmetric():
    assert wilson(0 / 20, 20) == pytest.approx((0, 16.1125), abs=1e-3)
    for errors in range(21):
        low, high = wilson(errors / 20, 20)
        assert -1e-9 <= low <= 5 * errors <= high <= 100 + 1e-9
        assert wilson((20 - errors) / 20, 20) == pytest.approx((100 - high, 100 - low))


def test_an_array_is_read_as_it_was_saved(tmp_path):
    path, kept = tmp_path / "deep" / "a.npz", rows(7, 5)
    save(path, kept, np.ones(7, dtype=bool))
    np.testing.assert_array_equal(load(path, 7)[0], kept)
    assert load(path, 7)[0].dtype == np.float32
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]


def test_a_shard_is_read_with_the_rows_that_it_covers(tmp_path):
    covered = np.array([True, False, True])
    save(tmp_path / "a.npz.rank0", rows(3, 5), covered)
    found, mask = read(tmp_path / "a.npz.rank0")
    np.testing.assert_array_equal(found, rows(3, 5))
    np.testing.assert_array_equal(mask, covered)


def test_an_array_says_which_images_it_covers(tmp_path):
    path = tmp_path / "a.npz"
    save(path, rows(4, 5), np.array([True, True, False, True]))
    assert load(path, 4)[1].tolist() == [True, True, False, True]


@pytest.mark.parametrize("images", [3, 5])
def test_another_number_of_images_is_refused(tmp_path, images):
    save(tmp_path / "a.npz", rows(4, 5), np.ones(4, dtype=bool))
    with pytest.raises(UserError, match=f"4 rows for {images} images"):
        load(tmp_path / "a.npz", images)


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path):
    path = tmp_path / "a.npz"
    save(path, rows(4, 5), np.ones(4, dtype=bool))
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"a\.npz is damaged"):
            load(path, 4)


def test_a_file_with_any_byte_changed_is_read_the_same_or_refused_by_name(tmp_path):
    path, kept = tmp_path / "a.npz", rows(4, 5)
    save(path, kept, np.ones(4, dtype=bool))
    whole, refused = path.read_bytes(), []
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(load(path, 4)[0], kept)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) // 2
    assert all(str(path) in message for message in refused)


@pytest.mark.parametrize("content", [{"rows": rows(2, 2)}, {"covered": np.ones(2, dtype=bool)}, {}])
def test_a_file_that_lacks_an_array_is_refused(tmp_path, content):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UserError, match=r"a\.npz is damaged"):
        load(tmp_path / "a.npz", 2)


def test_what_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not write"):
        save(tmp_path / "file" / "a.npz", rows(2, 2), np.ones(2, dtype=bool))


@pytest.mark.parametrize("field", [field.name for field in fields(Key)])
def test_another_value_of_any_field_is_another_file(tmp_path, field):
    changed = replace(KEY, **{field: getattr(OTHER, field)})
    assert changed.path(tmp_path) != KEY.path(tmp_path)


def test_the_same_key_is_the_same_file_under_the_cache(tmp_path):
    assert replace(KEY).path(tmp_path) == KEY.path(tmp_path)
    assert KEY.path(tmp_path).parent == tmp_path / "posteriors"


def test_an_array_that_leaves_out_an_image_that_can_be_read_by_now_is_computed_again(root, monkeypatch):
    images, asked = list_folder(root), []
    array = evaluation_arrays.Array(Run.named("digits/A-256", root / "runs"), KEY, KEY.path(root))
    monkeypatch.setattr(evaluation_arrays, "compute", lambda cfg, run, tasks: asked.extend(tasks))
    covered = np.ones(len(images), dtype=bool)
    for index, expected in ((None, 0), (3, 1)):
        covered[index if index is not None else []] = False
        save(array.path, rows(len(images), 3), covered)
        evaluation_arrays.compute_missing(composed(evaluate=True), [array], images)
        assert len(asked) == expected
    assert left_out(array.path) == [3]
    images.path(3).write_bytes(b"no image")
    evaluation_arrays.compute_missing(composed(evaluate=True), [array], images)
    assert len(asked) == 1


def test_an_array_of_other_photos_with_the_same_names_and_sizes_is_computed_again(root, monkeypatch):
    images, asked = list_folder(root), []
    array = evaluation_arrays.Array(Run.named("digits/A-256", root / "runs"), KEY, KEY.path(root))
    monkeypatch.setattr(evaluation_arrays, "compute", lambda cfg, run, tasks: asked.extend(tasks))
    known = {"content": images.content, "device": "cpu", "precision": "32-true"}
    save(array.path, rows(len(images), 3), np.ones(len(images), dtype=bool), known)
    assert origin(array.path) == known
    evaluation_arrays.compute_missing(composed(evaluate=True), [array], images)
    assert not asked
    content = images.path(3).read_bytes()
    images.path(3).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = images.subset(list(range(len(images))))
    assert changed.sha256 == images.sha256
    evaluation_arrays.compute_missing(composed(evaluate=True), [array], changed)
    assert len(asked) == 1
    save(array.path, rows(len(images), 3), np.ones(len(images), dtype=bool))  # as they were kept before
    evaluation_arrays.compute_missing(composed(evaluate=True), [array], changed)
    assert len(asked) == 1


def test_test_scales_below_the_crop_are_refused_naming_the_option():
    cfg = composed("test_scale=multi", "train_scale.smin=224", "train_scale.smax=224", evaluate=True)
    with pytest.raises(UserError, match=r"Q = 192, 224, 256 .* 192 is smaller than the 224 crop: test_scale\.q"):
        evaluation_arrays.scales_for(cfg, cfg.train_scale)
    assert evaluation_arrays.scales_for(composed("test_scale.q=[224,256]", evaluate=True), cfg.train_scale) == [
        224,
        256,
    ]


def test_published_weights_that_are_not_here_yet_are_named_with_what_fetches_them(tmp_path):
    cfg = composed("runs=[torchvision/D]", f"dirs.runs={tmp_path}", evaluate=True)
    with pytest.raises(UserError, match="model=D weights=torchvision in the place of runs="):
        evaluation_arrays.evaluated_runs(cfg)
