import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vgg.initialise import draw
from vgg.network import FC_LAYERS, TABLE_1, VGG, lrn, receptive_fields
from vgg.scales import map_side

TINY = 1 / 64
PAPER = {
    "A": (132_863_336, 7.609, 11),
    "A-LRN": (132_863_336, 7.609, 11),
    "B": (133_047_848, 11.308, 13),
    "C": (133_638_952, 11.771, 16),
    "D": (138_357_544, 15.470, 16),
    "E": (143_667_240, 19.632, 19),
    "B-5x5": (134_503_528, 9.356, 8),
}
SCALES = (224, 256, 288, 352, 384, 416, 512)
SIDES = {224: (1, 2, 3, 5, 6, 7, 10), 112: (1, 2, 2, 3, 4, 4, 6), 56: (1, 2, 2, 2, 3, 3, 4)}
PUBLISHED = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}


def net_of(name: str, crop: int = 224, width: float = TINY, classes: int = 7, **how) -> VGG:
    net = VGG(name, classes, crop, width, **how).eval()
    draw(net, "kaiming", seed=1)
    net.requires_grad_(False)
    for layer in net.children():
        nn.init.normal_(layer.bias, 0, 0.1, generator=torch.Generator().manual_seed(2))
    return net


def image(*shape: int, seed: int = 0) -> Tensor:
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, expected: Tensor) -> None:
    """Equal but for the rounding of float32 sums that are taken in another order."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def inputs_of(layer: nn.Module, net: VGG, x: Tensor) -> Tensor:
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(x)
    hook.remove()
    return seen[0]


def fc_net(net: VGG, features: Tensor) -> Tensor:
    x = features.flatten(1)
    for name in FC_LAYERS:
        layer = net.get_submodule(name)
        x = F.linear(x, layer.weight.flatten(1), layer.bias)
        x = x if name == "fc8" else F.relu(x)
    return x


def seen_pixels(name: str, cell: int) -> tuple[int, int]:
    """First and last pixel, on one axis, that one cell of the last max pool depends on."""
    first = last = cell
    for column in reversed(TABLE_1[name]):
        first, last = 2 * first, 2 * last + 1
        reach = sum(int(entry.split("-")[0]) // 2 for entry in column.split() if entry != "LRN")
        first, last = first - reach, last + reach
    return first, last


@pytest.mark.parametrize("name", TABLE_1)
def test_parameters_multiply_adds_and_weight_layers_are_the_papers(name):
    parameters, multiply_adds, layers = PAPER[name]
    with torch.device("meta"):
        net = VGG(name)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert round(net.multiply_adds() / 1e9, 3) == multiply_adds
    assert len(list(net.children())) == layers


@pytest.mark.parametrize("name", TABLE_1)
def test_receptive_fields_are_those_of_section_2_3_and_follow_from_the_pixels_seen(name):
    sides = receptive_fields(name)
    first, last = seen_pixels(name, 3)
    assert sides["fc6"] == last - first + 1 + 6 * 32
    assert list(sides.values()) == sorted(sides.values())
    assert receptive_fields("B")["conv1_2"] == receptive_fields("B-5x5")["conv1_1"] == 5
    with torch.device("meta"):
        assert [*sides, "fc7", "fc8"] == [layer for layer, _ in VGG(name).named_children()]


@pytest.mark.parametrize("name", TABLE_1)
def test_multiply_adds_are_those_of_the_layers_that_run(name):
    net, counted = net_of(name, crop=56), []

    def count(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        counted.append(layer.weight.numel() * output.shape[-1] * output.shape[-2])

    for layer in net.children():
        layer.register_forward_hook(count)
    for side in (56, 100):
        counted.clear()
        net(image(1, 3, side, side))
        ran = sum(counted)
        assert net.multiply_adds(side) == ran


def test_layers_carry_the_papers_names_in_order():
    with torch.device("meta"):
        names = [name for name, _ in VGG("C").named_children()]
    expected = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"]
    assert names == [f"conv{number}" for number in expected] + ["fc6", "fc7", "fc8"]


def test_third_layers_of_c_are_1x1_without_padding_and_b_5x5_has_padding_2():
    with torch.device("meta"):
        c, b = VGG("C"), VGG("B-5x5")
    thirds = [layer for name, layer in c.named_children() if name in ("conv3_3", "conv4_3", "conv5_3")]
    assert [(layer.kernel_size, layer.padding) for layer in thirds] == [((1, 1), (0, 0))] * 3
    convs = [layer for name, layer in b.named_children() if name.startswith("conv")]
    assert [(layer.kernel_size, layer.padding) for layer in convs] == [((5, 5), (2, 2))] * 5


@pytest.fixture(scope="module")
def fc_weights():
    generator = torch.Generator().manual_seed(5)
    shapes = ((4096, 25088), (4096, 4096), (1000, 4096))
    return [(torch.empty(s).uniform_(-0.02, 0.02, generator=generator), torch.rand(s[0])) for s in shapes]


@pytest.mark.parametrize("name", PUBLISHED)
def test_scores_equal_torchvisions_net_with_the_same_weights(name, fc_weights):
    with torch.device("meta"):
        ours, theirs = VGG(name).eval(), torchvision.models.get_model(PUBLISHED[name], weights=None).eval()
    generator, our_state, their_state = torch.Generator().manual_seed(6), {"mean": torch.zeros(3)}, {}
    convolutions = [(key, layer) for key, layer in theirs.named_modules() if isinstance(layer, nn.Conv2d)]
    linears = [(key, layer) for key, layer in theirs.named_modules() if isinstance(layer, nn.Linear)]
    drawn = [
        (nn.init.kaiming_uniform_(torch.empty(layer.weight.shape), generator=generator), torch.rand(layer.out_channels))
        for _, layer in convolutions
    ]
    pairs = zip(ours.named_children(), convolutions + linears, drawn + fc_weights, strict=True)
    for (our_key, layer), (their_key, _), (weight, bias) in pairs:
        our_state |= {f"{our_key}.weight": weight.view(layer.weight.shape), f"{our_key}.bias": bias}
        their_state |= {f"{their_key}.weight": weight, f"{their_key}.bias": bias}
    ours.load_state_dict(our_state, assign=True)
    theirs.load_state_dict(their_state, assign=True)
    x = image(1, 3, 224, 224) / 255
    with torch.inference_mode():
        close(ours(x), theirs(x))


def test_lrn_of_half_precision_does_not_square_to_infinity():
    x = torch.full((1, 8, 2, 2), 300.0)
    torch.testing.assert_close(lrn(x.half()).float(), lrn(x), rtol=1e-3, atol=0)
    assert lrn(x).min() > 0


def test_lrn_is_krizhevskys_formula_after_the_relu_and_before_the_pool():
    net, x = net_of("A-LRN", crop=56, width=1 / 4), image(1, 3, 56, 56)
    a = F.relu(net.conv1_1(x))
    b = torch.empty_like(a)
    for i in range(16):
        neighbours = a[:, max(0, i - 2) : min(15, i + 2) + 1]
        b[:, i] = a[:, i] / (2 + 1e-4 * neighbours.square().sum(1)) ** 0.75
    close(inputs_of(net.conv2_1, net, x), F.max_pool2d(b, 2))
    assert (a / b).nan_to_num(0).max() > 1.1 * 2**0.75


@pytest.mark.parametrize("crop", SIDES)
def test_map_sides_at_the_papers_test_scales(crop):
    net = net_of("A", crop)
    for scale, side in zip(SCALES, SIDES[crop], strict=True):
        q = scale * crop // 224
        assert side == q // 32 - crop // 32 + 1
        assert net.score_map(image(1, 3, q, q + 32)).shape == (1, 7, side, side + 1)


def test_ceil_mode_gives_5_columns_instead_of_4_on_256x341():
    x = image(1, 3, 256, 341)
    assert net_of("A").score_map(x).shape[2:] == (2, 4)
    assert net_of("A", ceil_mode=True).score_map(x).shape[2:] == (2, 5)
    assert (map_side(341), map_side(341, ceil_mode=True)) == (10, 11)


def test_ceil_mode_is_the_same_at_224():
    floor, ceil, x = net_of("D"), net_of("D", ceil_mode=True), image(1, 3, 224, 224)
    ceil.load_state_dict(floor.state_dict())
    assert torch.equal(floor(x), ceil(x))


def test_multiply_adds_of_an_odd_side_follow_the_pooling():
    floor, ceil = net_of("A"), net_of("A", ceil_mode=True)
    assert floor.multiply_adds(341) < ceil.multiply_adds(341)


def test_forward_is_the_score_map_averaged_over_space():
    net, x = net_of("C"), image(2, 3, 256, 320)
    close(net(x), net.score_map(x).flatten(2).mean(2))


@pytest.mark.parametrize("crop", [224, 112, 56])
def test_dense_is_the_fc_net_at_the_training_crop(crop):
    net, x = net_of("B", crop), image(2, 3, crop, crop)
    close(net(x), fc_net(net, inputs_of(net.fc6, net, x)))


@pytest.mark.parametrize("crop", [224, 112, 56])
def test_each_cell_of_the_map_is_the_fc_layers_on_its_window_of_the_feature_map(crop):
    net, x = net_of("D", crop), image(1, 3, crop + 64, crop + 96)
    features = inputs_of(net.fc6, net, x)
    found = net.score_map(x)
    assert found.shape[2:] == (3, 4)
    for i in range(3):
        for j in range(4):
            window = features[:, :, i : i + net.window, j : j + net.window]
            close(found[:, :, i, j], fc_net(net, window))


@pytest.mark.parametrize("name", ["A", "D", "B-5x5"])
def test_features_of_a_window_at_32i_32j_equal_the_whole_images_away_from_the_windows_border(name):
    net, x = net_of(name), image(1, 3, 288, 320)
    i, j = 1, 2
    whole = inputs_of(net.fc6, net, x)[:, :, i : i + 7, j : j + 7]
    window = inputs_of(net.fc6, net, x[:, :, 32 * i : 32 * i + 224, 32 * j : 32 * j + 224])
    inside = [cell for cell in range(7) if seen_pixels(name, cell)[0] >= 0 and seen_pixels(name, cell)[1] < 224]
    assert inside
    assert len(inside) < 7
    close(window[:, :, inside][..., inside], whole[:, :, inside][..., inside])
    assert not torch.allclose(window, whole, rtol=1e-3)


def test_the_mean_is_subtracted_and_travels_in_the_state_dict():
    net, x = net_of("A", crop=56), image(1, 3, 56, 56)
    expected = net(x)
    assert torch.equal(net.state_dict()["mean"], torch.zeros(3))
    net.mean.copy_(torch.tensor([123.68, 116.779, 103.939]))
    other = net_of("A", crop=56)
    other.load_state_dict(net.state_dict())
    close(other(x + net.mean.view(1, 3, 1, 1)), expected)


@pytest.mark.parametrize("crop", [224, 112, 56])
@pytest.mark.parametrize("missing", [32, 1])
def test_an_image_smaller_than_the_training_crop_is_refused(crop, missing):
    net = net_of("A", crop)
    with pytest.raises(ValueError, match=f"training crop of {crop}"):
        net(image(1, 3, crop, crop - missing))


def test_a_crop_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="crop=31"):
        VGG("A", crop=31)


def test_dropout_of_half_the_fc6_and_fc7_units_only_in_training():
    net, x = net_of("A", crop=56, width=1 / 8), image(1, 3, 56, 56)
    assert torch.equal(net(x), net(x))
    undropped = {layer: inputs_of(layer, net, x) for layer in (net.fc7, net.fc8)}
    net.train()
    assert torch.equal(inputs_of(net.fc6, net, x), inputs_of(net.fc6, net, x))
    fc7_inputs = inputs_of(net.fc7, net, x)
    alive = undropped[net.fc7] > 0
    kept = fc7_inputs[alive] > 0
    assert 0.35 < kept.float().mean() < 0.65
    close(fc7_inputs[alive][kept], 2 * undropped[net.fc7][alive][kept])
    assert (inputs_of(net.fc8, net, x) == 0).float().mean() > 0.6


def test_a_dropout_of_zero_leaves_training_mode_deterministic():
    net, x = net_of("A", crop=56, dropout=0.0).train(), image(1, 3, 56, 56)
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("name", TABLE_1)
def test_every_net_works_at_crop_56_with_an_eighth_of_the_width(name):
    net = net_of(name, crop=56, width=1 / 8, classes=10)
    assert net.conv1_1.out_channels == 8
    assert net.fc6.weight.shape == (512, 64, 1, 1)
    assert net.fc7.weight.shape == (512, 512, 1, 1)
    assert net(image(2, 3, 56, 56)).shape == (2, 10)
