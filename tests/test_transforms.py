import io

import numpy as np
import pytest
import torch
from conftest import decode
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from vgg.data.colours import COLOUR_SHIFT_DEVIATION, Colours
from vgg.data.encoded_image import FORMATS, Picture
from vgg.data.transforms import PHASE, rescale, rescaled_size, rescaled_window, training_crop

lengths = st.integers(1, 90)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise in blocks of 3 pixels: sharp, and never the same at two places."""
    levels = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return Image.fromarray(levels.repeat(3, 0).repeat(3, 1)[:height, :width])


def picture(image: Image.Image) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=0)
    return Picture(file.getvalue())


def levels_apart(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


@given(lengths, lengths, st.integers(1, 600))
def test_the_smaller_side_is_exactly_s_and_the_other_one_isotropic(width, height, side):
    new_width, new_height = rescaled_size((width, height), side)
    assert min(new_width, new_height) == side
    assert abs(new_width * height - new_height * width) <= 0.5 * min(width, height)
    assert rescaled_size((height, width), side) == (new_height, new_width)


def test_rescale_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (64, 64)))
    levels = rescale(picture(stripes), 16).numpy().astype(int)
    assert levels.shape == (16, 32, 3)
    assert np.abs(levels - 128).max() < 20


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(20, 90), st.integers(20, 90), st.integers(24, 80))
def test_a_window_in_one_resampling_equals_the_crop_of_the_whole_rescaled_image(data, width, height, side):
    image = picture(noise(width, height))
    new_width, new_height = rescaled_size(image.size, side)
    left, top = data.draw(st.integers(0, new_width - 24)), data.draw(st.integers(0, new_height - 24))
    expected = rescale(image, side)[top : top + 24, left : left + 24].int()
    found = rescaled_window(image, side, left, top, 24).int()
    step = max(1, max(image.size) / max(new_width, new_height))
    assert (found - expected).abs().max() <= 2 + 2 * PHASE * 255 / step


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (1300, 400), (224, 224), (60, 100)])
def test_the_last_window_of_common_photo_sizes_reaches_the_far_corner(size):
    image = picture(noise(*size))
    for side in (256, 384, 511):
        width, height = rescaled_size(size, side)
        apart = rescaled_window(image, side, width - 224, height - 224, 224).int() - rescale(image, side)[-224:, -224:]
        assert apart.abs().float().mean() < 1.5


def photo_of(width: int, height: int) -> Picture:
    """A JPEG of noise whose spectrum falls as a photo's does, with frequency."""
    rng, frequency = np.random.default_rng(0), np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(3, height, width))) / (0.01 + frequency), (height, width))
    levels = 128 + 40 * noise / noise.std()
    encoded = io.BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(encoded, "JPEG", quality=92)
    return Picture(encoded.getvalue())


@pytest.mark.parametrize(("size", "levels"), [((570, 427), 0.4), ((500, 375), 0.4), ((1280, 960), 1.2)])
def test_a_crop_of_a_photo_is_near_that_of_the_whole_decoded_one(size, levels):
    """Decoded at no less than once the rescaled size, they would be 8.2, 3.7 and 1.6 levels apart."""
    picture = photo_of(*size)
    window, whole = rescaled_window(picture, 160, 20, 10, 112, fast=True), rescale(picture, 160)[10:122, 20:132]
    assert (window.int() - whole.int()).abs().float().mean() < levels


def test_training_crops_are_all_windows_inside_the_rescaled_image_equally_often_and_half_of_them_mirrored():
    image, rng = picture(noise(45, 30)), np.random.default_rng(1)
    whole = rescale(image, 10).numpy().astype(int)
    assert whole.shape == (10, 15, 3)
    windows = [whole[top : top + 8, left : left + 8] for left in range(8) for top in range(3)]
    windows = np.stack(windows + [window[:, ::-1] for window in windows])
    counts = np.zeros(48, dtype=int)
    for _ in range(1920):
        crop = training_crop(image, 10, 8, True, rng).numpy().astype(int)
        (found,) = np.flatnonzero(np.abs(windows - crop).max((1, 2, 3)) <= 1)
        counts[found] += 1
    assert ((counts - 40) ** 2 / 40).sum() < 47 + 4 * 94**0.5
    assert abs(counts[:24].sum() - 960) < 4 * 480**0.5
    for _ in range(100):
        crop = training_crop(image, 10, 8, False, rng).numpy().astype(int)
        assert (np.abs(windows[:24] - crop).max((1, 2, 3)) <= 1).any()


@pytest.mark.parametrize("size", [(8, 40), (40, 8), (8, 8), (100, 9), (2000, 1500)])
def test_a_training_crop_of_any_image_has_the_crops_size(size):
    image = picture(noise(*size))
    for seed in range(10):
        assert training_crop(image, 56, 56, True, np.random.default_rng(seed)).shape == (56, 56, 3)


RED = Image.new("RGB", (12, 8), (200, 10, 30))
GREY = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) * 2)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg", "a", "a.txt", "a.gif"])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
def test_a_picture_is_told_by_content_and_not_by_ending(tmp_path, name, form):
    RED.save(tmp_path / name, format=form, **({"lossless": True} if form == "WEBP" else {}))
    found = decode(tmp_path / name)
    assert found.mode == "RGB"
    assert levels_apart(found, RED) == 0


def test_jpeg_rgb(tmp_path):
    RED.save(tmp_path / "a.jpg", quality=95)
    assert levels_apart(decode(tmp_path / "a.jpg"), RED) < 5


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_grey_pictures_have_three_equal_channels(tmp_path, ending):
    GREY.save(tmp_path / f"a.{ending}")
    found = decode(tmp_path / f"a.{ending}")
    assert len({band.tobytes() for band in found.split()}) == 1
    assert levels_apart(found, GREY.convert("RGB")) < (5 if ending == "jpg" else 1)


def test_cmyk_jpeg(tmp_path):
    RED.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    assert levels_apart(decode(tmp_path / "a.jpg"), RED) < 8


@pytest.mark.parametrize("transparency", [{}, {"transparency": 0}, {"transparency": b"\x00\x80"}])
def test_palette_png(tmp_path, transparency):
    RED.quantize(4).save(tmp_path / "a.png", **transparency)
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert levels_apart(decode(tmp_path / "a.png"), RED) < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_is_dropped(tmp_path, mode):
    picture = RED.convert(mode)
    picture.putalpha(Image.new("L", picture.size, 0))
    picture.save(tmp_path / "a.png")
    assert levels_apart(decode(tmp_path / "a.png"), RED.convert(mode[:-1]).convert("RGB")) == 0


def test_16_bit_grey_png_keeps_its_upper_byte(tmp_path):
    levels = np.arange(96, dtype=np.uint16).reshape(8, 12) * 680
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode.startswith("I;16")
    found = decode(tmp_path / "a.png")
    assert levels_apart(found, Image.fromarray((levels // 256).astype(np.uint8)).convert("RGB")) <= 1


def test_1_bit_png(tmp_path):
    GREY.convert("1").save(tmp_path / "a.png")
    assert levels_apart(decode(tmp_path / "a.png"), GREY.convert("1").convert("RGB")) == 0


def test_an_exif_orientation_does_not_turn_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    GREY.save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = decode(tmp_path / "a.jpg")
    assert found.size == GREY.size
    assert levels_apart(found, GREY.convert("RGB")) < 5


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    noise(64, 48).save(file, format=form)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x10\x00\x00\x00WAVEfmt ",
        encoded("GIF"),
        *(encoded(form)[:1200] for form in FORMATS),
    ],
    ids=["empty", "text", "JPEG magic", "PNG magic", "WAV", "GIF", *(f"cut {form}" for form in FORMATS)],
)
def test_anything_but_a_whole_picture_raises_oserror(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(OSError, match="."):
        decode(tmp_path / "a.jpg")


def test_a_missing_file_and_a_folder_raise_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "a.jpg")
    with pytest.raises(IsADirectoryError):
        decode(tmp_path)


@pytest.fixture(scope="module")
def photo():
    return np.concatenate([image[::8, ::8].reshape(-1, 3) for image in load_sample_images().images]).astype(float)


@pytest.fixture(scope="module")
def colours(photo):
    return Colours.of(len(photo), photo.sum(0), photo.T @ photo)


def test_colours_are_numpys_mean_and_covariance(photo, colours):
    np.testing.assert_allclose(colours.mean, photo.mean(0), rtol=1e-5)
    components, deviations = colours.components.double().numpy(), colours.deviations.double().numpy()
    covariance = components @ np.diag(deviations**2) @ components.T
    np.testing.assert_allclose(covariance, np.cov(photo.T, bias=True), rtol=1e-4)
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-6)


def test_colours_of_a_single_colour_have_no_deviation():
    pixels = np.tile([250.1, 17.3, 99.9], (1000, 1))
    colours = Colours.of(1000, pixels.sum(0), pixels.T @ pixels)
    assert not colours.deviations.isnan().any()
    assert colours.deviations.max() < 1e-3


def test_the_colour_shift_is_p_times_alpha_sigma(colours):
    alpha = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    found = colours.shift(alpha)
    assert found.shape == (5, 3, 1, 1)
    p, sigma = colours.components, colours.deviations
    for row, a in zip(found, alpha, strict=True):
        expected = p[:, 0] * a[0] * sigma[0] + p[:, 1] * a[1] * sigma[1] + p[:, 2] * a[2] * sigma[2]
        torch.testing.assert_close(row.flatten(), expected)


def test_the_colour_shift_of_photos_is_about_ten_grey_levels(colours):
    assert COLOUR_SHIFT_DEVIATION == 0.1
    alpha = 0.1 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    assert 4 < colours.shift(alpha).flatten(1).norm(dim=1).square().mean().sqrt() < 25


def test_shifts_vary_as_the_training_pixels_do_a_tenth_as_far(photo, colours):
    alpha = 0.1 * torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    found = np.cov(colours.shift(alpha).flatten(1).numpy().T)
    np.testing.assert_allclose(found, 0.01 * np.cov(photo.T), rtol=0.1)
