import io

import numpy as np
import pytest
import torch
from conftest import batches_of, crops_of, decode, noise
from imagenet_forms import write_folders
from PIL import Image
from torch.utils.data import DataLoader

from vgg.core.errors import UserError
from vgg.data.colours import training_colours
from vgg.data.crops import CentreCrops, EveryImageOnce, TrainingOrder
from vgg.data.datamodule import ImageData
from vgg.data.encoded_image import UNREADABLE, Picture
from vgg.data.listing import Listing, list_folder
from vgg.data.transforms import rescale
from vgg.data.workers import decoding_workers


def same(one: tuple, other: tuple) -> bool:
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(one, other, strict=True))


def epochs_of(ranks: int, epochs: int, images: int = 50, batch: int = 12, seed: int = 3) -> list:
    """For every epoch and step the images of each rank, in order."""
    found, share = [], batch // ranks
    orders = [TrainingOrder(images, batch, rank, ranks, seed) for rank in range(ranks)]
    for _ in range(epochs):
        of_ranks = [list(order) for order in orders]
        assert all(len(keys) == len(order) for keys, order in zip(of_ranks, orders, strict=True))
        found.append([[keys[k : k + share] for keys in of_ranks] for k in range(0, len(orders[0]), share)])
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_the_ranks_together_take_the_steps_of_one_process(ranks):
    one, several = epochs_of(1, epochs=3), epochs_of(ranks, epochs=3)
    assert [[sum(step, []) for step in epoch] for epoch in several] == [[step[0] for step in epoch] for epoch in one]


def test_an_epoch_takes_every_image_at_most_once_and_drops_the_partial_batch():
    for number, epoch in enumerate(epochs_of(1, epochs=3)):
        keys = [key for step in epoch for key in step[0]]
        assert len(keys) == 48
        assert len({index for _, index in keys}) == 48
        assert {index for _, index in keys} < set(range(50))
        assert {e for e, _ in keys} == {number}


def test_the_order_differs_by_epoch_and_by_seed():
    first, second = epochs_of(1, epochs=2)
    other = epochs_of(1, epochs=1, seed=4)[0]
    orders = [[index for step in epoch for _, index in step[0]] for epoch in (first, second, other)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert epochs_of(1, epochs=2) == [first, second]


def test_the_order_goes_on_in_the_middle_of_an_epoch():
    whole = TrainingOrder(50, 12, 1, 2, seed=3)
    expected = [list(whole) for _ in range(4)]
    resumed = TrainingOrder(50, 12, 1, 2, seed=3)
    resumed.set_epoch(2)  # as Lightning does
    resumed.start = 3
    assert list(resumed) == expected[2][3 * 6 :]
    assert list(resumed) == expected[3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_starts_where_it_is_told_and_takes_every_epoch_once(root, workers):
    crops = crops_of(list_folder(root))
    loader = batches_of(crops, 3, workers, epoch=2)
    loader.sampler.start = 1
    found = [torch.cat([alpha for _, _, alpha, *_ in loader]) for _ in range(3)]
    order = TrainingOrder(12, 6, 0, 1, seed=3)
    order.epoch = 2
    for number, alphas in enumerate(found):
        keys = list(order)[6 if number == 0 else 0 :]
        assert torch.equal(alphas, torch.stack([crops[key][2] for key in keys]))


@pytest.mark.parametrize(
    ("asked", "ranks", "cores", "of_srun", "workers"),
    [
        (None, 1, 2, None, 0),
        (None, 8, 96, None, 10),
        (None, 8, 96, "6", 4),
        (None, 1, 96, None, 16),
        (3, 1, 96, None, 3),
    ],
)
def test_decoding_has_the_cores_that_a_rank_may_use_but_two(asked, ranks, cores, of_srun, workers, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if of_srun:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", of_srun)
    assert decoding_workers(asked, ranks) == workers


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(UserError, match=r"data\.batch=12.*11"):
        TrainingOrder(11, 12, 0, 1, seed=0)


def two_epochs(images: Listing, workers: int) -> list:
    loader = batches_of(crops_of(images), 3, workers)
    return [tuple(batch) for _ in range(2) for batch in loader]


def test_items_do_not_depend_on_the_number_of_workers(root):
    images = list_folder(root)
    alone, shared = two_epochs(images, 0), two_epochs(images, 2)
    assert len(alone) == 8
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_an_item_is_a_crop_a_label_and_a_colour_shift_and_does_not_change(root):
    crops = crops_of(list_folder(root))
    crop, label, alpha, key, bad = crops[3, 5]
    assert (crop.shape, crop.dtype) == ((56, 56, 3), torch.uint8)
    assert (label, bad, alpha.shape) == (1, -1, (3,))
    assert same(crops[3, 5], (crop, label, alpha, key, bad))
    again = crops_of(crops.images)
    np.random.seed(0)
    assert same(again[3, 5], (crop, label, alpha, key, bad))


def test_the_augmentation_differs_for_each_epoch_image_and_seed(tmp_path):
    (tmp_path / "ant").mkdir()
    for number in range(3):
        noise(0, 60, 45).save(tmp_path / "ant" / f"{number}.png")
    images = list_folder(tmp_path)
    items = [crops_of(images)[epoch, index] for epoch in range(3) for index in range(3)]
    items += [crops_of(images, seed=8)[0, 0]]
    assert len({crop.numpy().tobytes() for crop, *_ in items}) == 10
    assert len({key for *_, key, _ in items}) == 10
    assert len({alpha.numpy().tobytes() for _, _, alpha, *_ in items}) == 10


def test_alpha_is_normal_with_a_standard_deviation_of_a_tenth(root):
    crops = crops_of(list_folder(root))
    alphas = torch.stack([crops[epoch, index][2] for epoch in range(60) for index in range(12)])
    assert alphas.std().item() == pytest.approx(0.1, rel=0.07)
    assert alphas.mean().abs() < 0.01
    assert alphas.T.corrcoef().fill_diagonal_(0).abs().max() < 0.15


@pytest.mark.parametrize(("smin", "smax"), [(256, 256), (384, 384), (256, 512)])
def test_s_is_drawn_from_smin_to_smax_in_the_papers_pixels(tmp_path, smin, smax):
    (tmp_path / "ant").mkdir()
    Image.linear_gradient("L").rotate(90).save(tmp_path / "ant" / "0.png")
    crops = crops_of(list_folder(tmp_path), smin, smax)
    levels = torch.stack([crops[epoch, 0][0] for epoch in range(100)]).float().mean((1, 3))
    sides = 255 * 36 / (levels[:, 46] - levels[:, 10]).abs()
    expected = torch.linspace(smin / 4, smax / 4, 100)
    torch.testing.assert_close(sides.sort().values, expected, rtol=0.02, atol=0 if smin == smax else 12)
    assert abs(sides.min() - smin / 4) < 3
    assert abs(sides.max() - smax / 4) < 3


def test_an_unreadable_image_is_replaced_by_another_one_and_reported(root):
    images = list_folder(root)
    images.path(5).write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    crops = crops_of(images)
    replacements = set()
    for epoch in range(20):
        crop, label, *_, bad = crops[epoch, 5]
        assert (bad, crop.shape) == (5, (56, 56, 3))
        assert same(crops[epoch, 5], (crop, label, *crops[epoch, 5][2:]))
        replacements.add(label)
        assert crops[epoch, 4][-1] == -1
    assert replacements == {0, 1, 2}


def test_the_replacements_label_is_the_replacements(tmp_path):
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (80, 60), (label * 200, 0, 0)).save(tmp_path / name / "0.png")
    (tmp_path / "ant" / "1.png").write_bytes(b"")
    crops = crops_of(list_folder(tmp_path))
    found = [crops[epoch, 1] for epoch in range(20)]
    assert {label for _, label, *_ in found} == {0, 1}
    assert all(bad == 1 and (crop[..., 0] == label * 200).all() for crop, label, *_, bad in found)


def test_a_missing_file_and_damaged_bytes_count_as_unreadable(tmp_path):
    with pytest.raises(UNREADABLE):
        decode(tmp_path / "none.png")
    file = io.BytesIO()
    noise(0).save(file, format="PNG")
    whole, refused = file.getvalue(), 0
    for position in range(60):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (tmp_path / "damaged.png").write_bytes(damaged)
        try:
            decode(tmp_path / "damaged.png")
        except UNREADABLE:
            refused += 1
    assert refused > 30


def test_the_validation_view_is_the_centre_crop_of_the_rescaled_image(root):
    images = list_folder(root)
    noise(3, 20, 33).save(images.path(0))
    crops = CentreCrops(images, 64, 56)
    for index in (0, 1):
        crop, label, bad = crops[index]
        whole = rescale(Picture(images.read(index)), 64)
        top, left = (round((length - 56) / 2) for length in whole.shape[:2])
        expected = whole[top : top + 56, left : left + 56].int()
        assert (crop.int() - expected).abs().float().mean() < 1
        assert (label, bad) == (0, -1)


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_ranks_validate_every_image_exactly_once(ranks):
    parts = [EveryImageOnce(range(12), ranks, rank) for rank in range(ranks)]
    assert sorted(index for part in parts for index in part) == list(range(12))
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]


def test_validation_crops_do_not_depend_on_the_number_of_workers(root):
    crops = CentreCrops(list_folder(root), 64, 56)
    alone, shared = (list(DataLoader(crops, batch_size=5, num_workers=workers)) for workers in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))
    assert torch.cat([labels for _, labels, _ in alone]).tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_an_unreadable_validation_image_is_reported(root):
    images = list_folder(root)
    images.path(3).write_bytes(b"damaged")
    crop, label, bad = CentreCrops(images, 64, 56)[3]
    assert (crop.shape, label, bad) == ((56, 56, 3), -1, 3)


def test_the_mean_and_the_components_are_those_of_the_training_pixels(root):
    images = list_folder(root)
    pixels = np.concatenate([np.asarray(decode(images.path(i)), dtype=float).reshape(-1, 3) for i in range(12)])
    colours = training_colours(images)
    np.testing.assert_allclose(colours.mean, pixels.mean(0), rtol=1e-5)
    components = colours.components.numpy()
    found = components @ np.diag(colours.deviations.numpy() ** 2) @ components.T
    np.testing.assert_allclose(found, np.cov(pixels.T, bias=True), rtol=1e-4, atol=0.05)


def test_the_published_mean_takes_the_place_of_the_measured_one(root):
    images = list_folder(root)
    measured, published = training_colours(images), training_colours(images, (123.68, 116.779, 103.939))
    torch.testing.assert_close(published.mean, torch.tensor([123.68, 116.779, 103.939]))
    assert torch.equal(published.deviations, measured.deviations)


def test_imagenets_mean_is_the_published_one_and_other_datas_the_measured_one(ilsvrc, tmp_path):
    for split, contents in ilsvrc.items():
        write_folders(tmp_path, split, contents)
    for form in ("imagenet", "folder"):
        data = ImageData(tmp_path, form, cache_dir=tmp_path / "cache")
        measured = training_colours(data.train).mean
        published = torch.tensor([123.68, 116.779, 103.939])  # section 2.1
        assert torch.equal(data.colours.mean, published if form == "imagenet" else measured)
        assert not torch.equal(measured, published)


def test_unreadable_images_are_left_out_of_the_colours_and_none_at_all_is_refused(root):
    images = list_folder(root)
    before = training_colours(images)
    images.path(0).write_bytes(b"damaged")
    assert not torch.equal(training_colours(images).mean, before.mean)
    for index in range(1, 12):
        images.path(index).write_bytes(b"damaged")
    with pytest.raises(UserError, match=str(root)):
        training_colours(images)
