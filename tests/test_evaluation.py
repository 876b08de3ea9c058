import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vgg.core.config import VIEWS
from vgg.evaluation.views import columns, grid, posteriors, rows, windows
from vgg.nets.initialisation import draw
from vgg.nets.vgg import VGG

SCALE, CROP = 0.25, 56


@pytest.fixture(scope="module")
def net():
    net = VGG("B", classes=6, scale=SCALE, width=1 / 16).eval().requires_grad_(False)
    draw(net, "kaiming", seed=0)
    net.fc8.weight.mul_(0.02)
    net.mean.copy_(torch.tensor([120.0, 110.0, 100.0]))
    return net


def images(count: int, height: int, width: int) -> Tensor:
    levels = torch.rand(count, 3, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(3))
    return 255 * levels.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width]


def flipped(x: Tensor) -> Tensor:
    return x.flip(-1)


def passes(net: VGG, x: Tensor, view: str) -> int:
    counted = []
    hook = net.conv1_1.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    posteriors(net, x, view)
    hook.remove()
    return sum(counted)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("softmax", ["last", "first"])
def test_every_view_gives_a_distribution_over_the_classes_for_each_image(net, view, softmax):
    x = images(3, 64, 90)
    found = posteriors(net, x, view, softmax)
    assert found.shape == (3, 6)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    for image, row in zip(x, found, strict=True):
        torch.testing.assert_close(posteriors(net, image[None], view, softmax)[0], row)


def test_the_posteriors_of_the_image_and_its_mirror_image_are_averaged(net):
    x = images(2, 96, 130)
    one, mirror = net(x).softmax(1), net(flipped(x)).softmax(1)
    assert (one - mirror).abs().max() > 1e-3
    torch.testing.assert_close(posteriors(net, x, "dense"), (one + mirror) / 2)


@pytest.mark.parametrize("view", VIEWS)
def test_without_mirror_images_only_the_image_itself_is_looked_at(net, view):
    x = images(2, 64, 90)
    if view == "dense":
        expected = net(x).softmax(1)
    else:
        parts = [x[:, :, top : top + CROP, left : left + CROP] for top, left in windows(64, 90, CROP, view)]
        expected = torch.stack([net(part).softmax(1) for part in parts]).mean(0)
    torch.testing.assert_close(posteriors(net, x, view, mirror=False), expected)
    if view != "center":
        assert (posteriors(net, x, view) - expected).abs().max() > 1e-3
    fc7 = net.features(x).mean(dim=(2, 3))
    torch.testing.assert_close(rows(net, x, "fc7", mirror=False), fc7)


@pytest.mark.parametrize("view", ["dense", "multicrop", "tencrop"])
def test_an_image_and_its_mirror_image_have_the_same_posteriors(net, view):
    x = images(2, 64, 96)
    torch.testing.assert_close(posteriors(net, flipped(x), view), posteriors(net, x, view))


def test_dense_at_the_training_crop_is_the_fc_nets_posteriors(net):
    x = images(4, CROP, CROP)
    expected = (net(x).softmax(1) + net(flipped(x)).softmax(1)) / 2
    torch.testing.assert_close(posteriors(net, x, "dense", "last"), expected)
    torch.testing.assert_close(posteriors(net, x, "dense", "first"), expected)


def test_softmax_last_averages_scores_over_space_and_first_averages_posteriors(net):
    x = images(2, 128, 170)
    last, first = torch.zeros(2, 6), torch.zeros(2, 6)
    for view in (x, flipped(x)):
        scores = net.score_map(view)
        assert scores.shape[2:] == (10, 15)
        cells = [scores[:, :, i, j] for i in range(10) for j in range(15)]
        last += (sum(cells) / 150).softmax(1) / 2
        first += sum(cell.softmax(1) for cell in cells) / 150 / 2
    torch.testing.assert_close(posteriors(net, x, "dense", "last"), last)
    torch.testing.assert_close(posteriors(net, x, "dense", "first"), first)
    assert (last - first).abs().max() > 1e-3


@given(st.integers(0, 600), st.sampled_from([56, 112, 224]))
def test_the_grid_goes_from_border_to_border_in_steps_of_a_quarter(more, crop):
    found = grid(crop + more, crop)
    assert len(found) == 5
    assert (found[0], found[-1]) == (0, more)
    assert all(abs(offset - step * more / 4) <= 0.5 for step, offset in enumerate(found))


def test_multicrop_is_a_5x5_grid_over_the_whole_rectangle_with_flips_50_crops(net):
    corners = windows(256, 341, 224, "multicrop")
    assert len(set(corners)) == 25
    assert {top for top, _ in corners} == {0, 8, 16, 24, 32}
    assert {left for _, left in corners} == {0, 29, 58, 88, 117}
    assert passes(net, images(2, 64, 90), "multicrop") == 2 * 50


def test_tencrop_is_four_corners_and_the_centre_with_flips(net):
    corners = [(0, 0), (0, 34), (8, 0), (8, 34), (4, 17)]
    assert windows(64, 90, CROP, "tencrop") == corners
    assert passes(net, images(2, 64, 90), "tencrop") == 2 * 10


def test_center_is_one_crop_without_its_mirror_image(net):
    assert windows(64, 90, CROP, "center") == [(4, 17)]
    assert windows(90, 64, CROP, "center") == [(17, 4)]
    x = images(2, 64, 90)
    assert passes(net, x, "center") == 2
    torch.testing.assert_close(posteriors(net, x, "center"), net(x[:, :, 4:60, 17:73]).softmax(1))


@pytest.mark.parametrize("view", ["multicrop", "tencrop"])
@pytest.mark.parametrize("size", [(64, 90), (90, 64), (60, 60)])
def test_posteriors_over_crops_are_the_mean_of_an_explicit_loop(net, view, size):
    height, width = size
    bottom, right = height - CROP, width - CROP
    if view == "multicrop":
        corners = [(round(i * bottom / 4), round(j * right / 4)) for i in range(5) for j in range(5)]
    else:
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    x = images(3, height, width)
    for image, row in zip(x, posteriors(net, x, view), strict=True):
        found = []
        for top, left in corners:
            crop = image[None, :, top : top + CROP, left : left + CROP]
            found += [net(crop).softmax(1), net(flipped(crop)).softmax(1)]
        torch.testing.assert_close(row, torch.cat(found).mean(0))


def test_crops_that_go_through_the_net_in_several_parts_are_all_counted(net):
    x = images(7, 64, 90)
    torch.testing.assert_close(posteriors(net, x, "multicrop")[5:], posteriors(net, x[5:], "multicrop"))


def test_every_crop_of_an_image_at_the_training_crop_is_the_image(net):
    x = images(2, CROP, CROP)
    for view in ("multicrop", "tencrop"):
        torch.testing.assert_close(posteriors(net, x, view), posteriors(net, x, "dense"))


def test_dense_sees_the_whole_rectangle(net):
    x = images(1, 64, 128)
    changed = x.clone()
    changed[..., -8:] = 255 - changed[..., -8:]
    assert not torch.allclose(posteriors(net, x, "dense"), posteriors(net, changed, "dense"))
    assert torch.equal(posteriors(net, x, "center"), posteriors(net, changed, "center"))


def test_an_unknown_view_is_refused():
    with pytest.raises(ValueError, match="dense, multicrop, center, tencrop"):
        windows(64, 64, CROP, "corner")


def test_posteriors_are_float32_under_mixed_precision(net: nn.Module):
    x = images(1, 64, 90)
    with torch.autocast("cpu", torch.bfloat16):
        found = posteriors(net, x, "dense")
    assert found.dtype == torch.float32
    assert (found - posteriors(net, x, "dense")).abs().max() < 0.02


def test_a_descriptor_is_fc7_after_its_relu_averaged_over_space_and_with_the_mirror_images(net):
    x = images(2, 96, 130)
    expected = torch.zeros(2, 256)
    for view in (x, flipped(x)):
        cells = net.features(view)
        assert cells.shape == (2, 256, 6, 10)
        assert (cells >= 0).all()
        torch.testing.assert_close(net.fc8(cells), net.score_map(view))
        expected += sum(cells[:, :, i, j] for i in range(6) for j in range(10)) / 60 / 2
    found = rows(net, x, "fc7")
    assert found.shape == (2, columns(net, "fc7"))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(rows(net, flipped(x), "fc7"), found)


def test_the_pixels_of_an_image_are_its_grid_minus_the_mean(net):
    x = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 64, 128) * 50
    found = rows(net, x, "pixels").view(3, -1)
    assert found.shape == (3, 32 * 32)
    assert found.numel() == columns(net, "pixels")
    torch.testing.assert_close(found, (torch.tensor([0.0, 50, 100]) - net.mean)[:, None].expand(3, 1024))
    assert not torch.allclose(rows(net, images(1, 64, 90), "pixels"), rows(net, flipped(images(1, 64, 90)), "pixels"))


def test_other_views_are_posteriors(net):
    x = images(1, 64, 90)
    assert torch.equal(rows(net, x, "dense"), posteriors(net, x, "dense"))
    assert columns(net, "dense") == 6
