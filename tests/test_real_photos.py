"""On real photographs that lie beside a developer's checkout; elsewhere these tests say that they were skipped."""

import numpy as np
import pytest

from vgg.config import REPOSITORY
from vgg.data import training_colours
from vgg.images import list_folder
from vgg.transforms import decode, rescale, rescaled_size, rescaled_window

PHOTOS = REPOSITORY.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not beside this checkout")


def test_a_window_of_a_photo_is_the_crop_of_the_rescaled_photo():
    for path in sorted((PHOTOS / "imagenet_originals").glob("*"))[:12]:
        photo = decode(path)
        for side in (256, 384):
            width, height = rescaled_size(photo.size, side)
            left, top = (width - 224) // 3, (height - 224) // 2
            whole = np.asarray(rescale(photo, side), dtype=int)[top : top + 224, left : left + 224]
            window = np.asarray(rescaled_window(photo, side, left, top, 224), dtype=int)
            assert np.abs(window - whole).mean() < 0.05
            assert np.abs(window - whole).max() <= 2


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
