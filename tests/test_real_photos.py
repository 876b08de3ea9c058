"""On real photographs that lie beside a developer's checkout; elsewhere these tests say that they were skipped."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg.core.paths import REPOSITORY
from vgg.data.colours import training_colours
from vgg.data.encoded_image import Picture
from vgg.data.listing import list_folder
from vgg.data.transforms import rescale, rescaled_size, rescaled_window

PHOTOS = REPOSITORY.parent / "shared" / "data"
ORIGINALS = sorted((PHOTOS / "imagenet_originals").glob("*"))
pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not beside this checkout")


def straightforward(photo: Path, side: int) -> np.ndarray:
    """Decoded and rescaled by Pillow, all of it."""
    image = Image.open(photo).convert("RGB")
    return np.asarray(image.resize(rescaled_size(image.size, side), Image.Resampling.BILINEAR), dtype=int)


def test_decoded_photos_are_pillows_bit_for_bit():
    for photo in ORIGINALS:
        assert (Picture(photo.read_bytes()).pixels() == np.asarray(Image.open(photo).convert("RGB"))).all()


def test_training_crops_are_near_the_straightforward_ones():
    """In levels of 255: 0.3 in the mean over the photos, beyond 1 in none."""
    rng, apart = np.random.default_rng(0), []
    for number, photo in enumerate(ORIGINALS):
        side, picture = (256, 300, 384, 512)[number % 4], Picture(photo.read_bytes())
        whole = straightforward(photo, side)
        top, left = (int(rng.integers(length - 224 + 1)) for length in whole.shape[:2])
        found = rescaled_window(picture, side, left, top, 224, fast=True).numpy()
        apart.append(np.abs(found - whole[top : top + 224, left : left + 224]).mean())
        assert apart[-1] < 1.1
    assert np.mean(apart) < 0.3


def test_reduced_decoding_of_large_photos_is_near_the_straightforward_way():
    """Four and eight times as large as S asks for: the decoder halves and quarters them."""
    for side in (64, 32):
        apart = []
        for photo in ORIGINALS:
            picture = Picture(photo.read_bytes())
            if min(picture.size) >= 4 * side:
                assert picture.pixels(width=2 * rescaled_size(picture.size, side)[0]).shape[1] < picture.size[0] / 1.9
                found = rescaled_window(picture, side, 3, 5, 28, fast=True).numpy()
                apart.append(np.abs(found - straightforward(photo, side)[5 : 5 + 28, 3 : 3 + 28]).mean())
        assert len(apart) > 50
        assert np.mean(apart) < 1.5, side


def test_whole_photos_at_the_test_scales_are_the_straightforward_ones():
    for number, photo in enumerate(ORIGINALS):
        side = (256, 384, 512)[number % 3]
        apart = np.abs(rescale(Picture(photo.read_bytes()), side).numpy() - straightforward(photo, side))
        assert apart.max() <= 2
        assert apart.mean() < 0.1


def test_imagenette_is_listed_in_the_order_of_its_synsets():
    images = list_folder(PHOTOS / "imagenette160" / "val")
    assert len(images) == 3925
    assert images.classes[0] == "n01440764"
    assert images.classes == tuple(sorted(images.classes))


def test_colours_of_real_photos_are_near_the_published_ones():
    colours = training_colours(list_folder(PHOTOS / "caltech20" / "test"))
    assert np.allclose(colours.mean, (123.68, 116.779, 103.939), atol=30)
    shift = 0.1 * float(colours.deviations.max())
    assert 3 < shift < 20, "about ten grey levels, not nine hundred"
