import numpy as np
import pytest

from vgg.core.scales import SCALES, draw_scale, multi_scale, real_pixels, single_scale


def test_single_scale_is_s_for_fixed_s_and_the_middle_for_jittered_s():
    assert [single_scale(256, 256), single_scale(384, 384), single_scale(256, 512)] == [(256,), (384,), (384,)]


def test_several_scales_are_32_around_fixed_s_and_both_ends_and_the_middle_of_jittered_s():
    assert multi_scale(256, 256) == (224, 256, 288)
    assert multi_scale(384, 384) == (352, 384, 416)
    assert multi_scale(256, 512) == (256, 384, 512)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("pixels", [224, 256, 288, 352, 384, 416, 512])
def test_every_scale_of_the_paper_is_a_whole_number_of_real_pixels(pixels, scale):
    assert real_pixels(pixels, scale) == pixels * scale


def test_other_pixels_are_rounded_down_and_at_scale_1_they_are_the_papers():
    assert [real_pixels(pixels, 0.125) for pixels in (255, 256, 263, 264)] == [31, 32, 32, 33]
    assert all(real_pixels(pixels, 1.0) == pixels for pixels in range(224, 513))


def test_jittered_s_is_uniform_over_whole_numbers_and_covers_both_ends():
    rng = np.random.default_rng(0)
    drawn = np.bincount([draw_scale(256, 512, rng) for _ in range(257 * 100)])
    assert drawn[:256].sum() == 0
    counts = drawn[256:]
    assert len(counts) == 257
    chi_square = ((counts - 100) ** 2 / 100).sum()
    assert 256 - 4 * 512**0.5 < chi_square < 256 + 4 * 512**0.5


def test_fixed_s_is_always_s():
    rng = np.random.default_rng(0)
    assert {draw_scale(384, 384, rng) for _ in range(20)} == {384}
