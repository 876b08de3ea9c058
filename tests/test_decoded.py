"""Images that are kept in memory: `data.cache`."""

import io
import multiprocessing

import numpy as np
import pytest
import torch
from conftest import crops_of, noise
from PIL import Image
from test_data import same

from vgg.core.errors import UserError
from vgg.data import decoded
from vgg.data.crops import CentreCrops
from vgg.data.decoded import keep
from vgg.data.encoded_image import Picture
from vgg.data.listing import list_folder
from vgg.data.transforms import DECODED, rescaled_size
from vgg.data.workers import Loader


def encoded(form: str, width: int, height: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    noise(width + height, width // 3, height // 3).resize((width, height)).convert(mode).save(file, form)
    return file.getvalue()


PICTURES = {
    "small.jpg": encoded("JPEG", 170, 128),
    "upright.jpg": encoded("JPEG", 128, 190),
    "grey.jpg": encoded("JPEG", 170, 128, "L"),
    "cmyk.jpg": encoded("JPEG", 600, 500, "CMYK"),
    "large.png": encoded("PNG", 600, 500),
    "large.jpg": encoded("JPEG", 600, 500),  # of which the decoder gives fewer pixels at S = 256
    "no.jpg": b"no picture",
}


@pytest.fixture
def images(tmp_path):
    for split in ("a", "b"):
        (tmp_path / split).mkdir()
        for name, content in PICTURES.items():
            (tmp_path / split / name).write_bytes(content)
    return list_folder(tmp_path)


def test_crops_are_the_same_with_and_without(images):
    kept = keep(images, 64, "ram", workers=0)
    names = {images.files[index].partition("/")[2] for index in kept.kept}
    assert names == set(PICTURES) - {"large.jpg", "no.jpg"}
    assert kept.bytes == 2 * 3 * (2 * 170 * 128 + 128 * 190 + 2 * 600 * 500)
    before, after = crops_of(images), crops_of(images)
    after.pictures = kept
    for epoch in range(4):
        for index in range(len(images)):
            assert same(before[epoch, index], after[epoch, index])
    before, after = CentreCrops(images, 64, 56), CentreCrops(images, 64, 56)
    after.pictures = keep(images, None, "ram", workers=0)
    assert all(same(before[row], after[row]) for row in range(len(images)))
    assert len(after.pictures.kept) == len(images) - 2, "a validation image is never decoded at a part of its size"


@pytest.mark.parametrize("width", range(200, 264))
def test_a_jpeg_is_whole_where_the_decoder_gives_all_of_it(width):
    picture = Picture(encoded("JPEG", width, 150))
    given = picture.pixels(DECODED * rescaled_size(picture.size, 50)[0]).shape[1]
    assert decoded.whole(picture, 50) == (given == width)


def test_decoding_processes_have_them_too(images):
    crops = crops_of(images)
    crops.pictures = keep(images, 64, "ram", workers=2)
    keys = [[(0, index)] for index in range(len(images))]
    one, two = (list(Loader(crops, batch_sampler=keys, num_workers=workers)) for workers in (0, 2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_by_itself_only_what_fits_is_kept_and_what_was_asked_for_is_refused_where_it_does_not(images, monkeypatch):
    need = keep(images, 64, "ram", workers=0).bytes
    for free, ranks, kept in ((4 * need, 1, True), (4 * need - 4, 1, False), (4 * need, 2, False)):
        assert bool(keep(images, 64, "auto", 0, ranks, lambda free=free: free).kept) == kept
    assert not keep(images, 64, "auto", 0, free=lambda: 4 * sum(images.sizes) - 4).kept
    assert not keep(images, 64, "none", 0).kept
    with pytest.raises(UserError, match=r"data\.cache=ram: .* take .* GB in memory.*data\.cache=none"):
        keep(images, 64, "ram", 0, free=lambda: need - 1)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    assert keep(images, 64, "auto", 0).kept
    assert not keep(images, 64, "auto", 1).kept
    with pytest.raises(UserError, match="data.cache=none"):
        keep(images, 64, "ram", 1)


def test_a_loader_hands_on_what_goes_wrong_in_its_thread(images):
    crops = crops_of(images)
    crops.pictures = {}
    with pytest.raises(KeyError):
        list(Loader(crops, batch_sampler=[[(0, 0)]], num_workers=0))


def test_a_kept_picture_has_every_pixel(images):
    for index, picture in keep(images, 64, "ram", workers=0).kept.items():
        whole = Picture(images.read(index))
        assert picture.size == whole.size
        assert np.array_equal(picture.pixels(1), whole.pixels())
        assert Image.fromarray(picture.pixels()).size == picture.size
