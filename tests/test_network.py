import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vgg.core.scales import SCALES, cell_stride, left_out, map_side, real_pixels, score_map_side
from vgg.nets.base import FC_LAYERS, kept, lrn
from vgg.nets.factory import make
from vgg.nets.initialisation import draw
from vgg.nets.vgg import TABLE_1, VGG, receptive_fields

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
SIDES = {224: 1, 256: 2, 288: 3, 352: 5, 384: 6, 416: 7, 512: 10}  # of the paper's score maps at its test scales
PUBLISHED = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}


def net_of(name: str, scale: float = 1.0, width: float = TINY, classes: int = 7, **how) -> VGG:
    net = VGG(name, classes, scale, width, **how).eval()
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


def inputs_of(layer: nn.Module, net: nn.Module, x: Tensor, keys: Tensor | None = None) -> Tensor:
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(x, keys)
    hook.remove()
    return seen[0]


def fc_net(net: VGG, features: Tensor) -> Tensor:
    x = features.flatten(1)
    for name in FC_LAYERS:
        layer = net.get_submodule(name)
        x = F.linear(x, layer.weight.flatten(1), layer.bias)
        x = x if name == "fc8" else F.relu(x)
    return x


def seen_pixels(name: str, cell: int, scale: float = 1.0) -> tuple[int, int]:
    """First and last pixel, on one axis, that one cell of the last max pool depends on."""
    first = last = cell
    for number, column in reversed(list(enumerate(TABLE_1[name]))):
        if number >= left_out(scale):
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
    for scale in SCALES:
        first, last = seen_pixels(name, 3, scale)
        assert receptive_fields(name, scale)["fc6"] == last - first + 1 + 6 * cell_stride(scale)
    assert list(sides.values()) == sorted(sides.values())
    assert receptive_fields("B")["conv1_2"] == receptive_fields("B-5x5")["conv1_1"] == 5
    with torch.device("meta"):
        assert [*sides, "fc7", "fc8"] == [layer for layer, _ in VGG(name).named_children()]


@pytest.mark.parametrize("name", TABLE_1)
def test_multiply_adds_are_those_of_the_layers_that_run(name):
    net, counted = net_of(name, scale=0.25), []

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
    net, x = net_of("A-LRN", width=1 / 4), image(1, 3, 224, 224)
    a = F.relu(net.conv1_1(x))
    b = torch.empty_like(a)
    for i in range(16):
        neighbours = a[:, max(0, i - 2) : min(15, i + 2) + 1]
        b[:, i] = a[:, i] / (2 + 1e-4 * neighbours.square().sum(1)) ** 0.75
    close(inputs_of(net.conv2_1, net, x), F.max_pool2d(b, 2))
    assert (a / b).nan_to_num(0).max() > 1.1 * 2**0.75


@pytest.mark.parametrize("scale", SCALES)
def test_the_score_map_is_the_papers_at_every_scale(scale):
    net = net_of("A", scale)
    for q, side in SIDES.items():
        assert score_map_side(q, scale) == side
        short, long = real_pixels(q, scale), real_pixels(q + 32, scale)
        assert net.score_map(image(1, 3, short, long)).shape == (1, 7, side, side + 1)
    assert all(score_map_side(q, scale) == q // 32 - 6 for q in range(224, 769))
    assert map_side(net.crop, scale) == map_side(net.crop, scale, ceil_mode=True) == net.window == 7


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", TABLE_1)
def test_parameters_and_layers_are_the_papers_at_every_scale(name, scale):
    with torch.device("meta"):
        net = VGG(name, scale=scale)
    assert sum(parameter.numel() for parameter in net.parameters()) == PAPER[name][0]


def test_at_a_scale_the_first_pools_are_left_out_and_the_others_stay():
    sides = {scale: [] for scale in SCALES}
    for scale in SCALES:
        net = net_of("A", scale)
        for layer in ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1", "fc6"):
            sides[scale].append(inputs_of(net.get_submodule(layer), net, image(1, 3, net.crop, net.crop)).shape[-1])
    assert sides == {
        1.0: [224, 112, 56, 28, 14, 7],
        0.5: [112, 112, 56, 28, 14, 7],
        0.25: [56, 56, 56, 28, 14, 7],
        0.125: [28, 28, 28, 28, 14, 7],
    }


def test_ceil_mode_gives_5_columns_instead_of_4_on_256x341():
    x = image(1, 3, 256, 341)
    assert net_of("A").score_map(x).shape[2:] == (2, 4)
    assert net_of("A", ceil_mode=True).score_map(x).shape[2:] == (2, 5)
    assert (map_side(341, 1.0), map_side(341, 1.0, ceil_mode=True)) == (10, 11)


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


@pytest.mark.parametrize("scale", SCALES)
def test_dense_is_the_fc_net_at_the_training_crop(scale):
    net = net_of("B", scale)
    x = image(2, 3, net.crop, net.crop)
    close(net(x), fc_net(net, inputs_of(net.fc6, net, x)))


@pytest.mark.parametrize("scale", SCALES)
def test_each_cell_of_the_map_is_the_fc_layers_on_its_window_of_the_feature_map(scale):
    net = net_of("D", scale)
    x = image(1, 3, net.crop + 2 * net.stride, net.crop + 3 * net.stride)
    features = inputs_of(net.fc6, net, x)
    found = net.score_map(x)
    assert found.shape[2:] == (3, 4)
    for i in range(3):
        for j in range(4):
            window = features[:, :, i : i + net.window, j : j + net.window]
            close(found[:, :, i, j], fc_net(net, window))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["A", "D", "B-5x5"])
def test_a_cell_of_the_score_map_is_its_window_with_its_surroundings(name, scale):
    """Of a crop cut by hand around a cell's window, as large as the cell sees, the middle cell is the same."""
    net = net_of(name, scale)
    crop, step = net.crop, net.stride
    cells = -(-(receptive_fields(name, scale)["fc6"] - crop) // (2 * step))  # that the cell sees beyond its window
    x, i, j = image(1, 3, crop + (2 * cells + 2) * step, crop + (2 * cells + 3) * step), cells + 1, cells + 2
    (top, left), side = (step * (i - cells), step * (j - cells)), crop + 2 * cells * step
    around = net.score_map(x[:, :, top : top + side, left : left + side])
    whole = net.score_map(x)
    close(around[:, :, cells, cells], whole[:, :, i, j])
    alone = net.score_map(x[:, :, step * i : step * i + crop, step * j : step * j + crop])
    assert not torch.allclose(alone[:, :, 0, 0], whole[:, :, i, j], rtol=1e-3)  # which sees zeros beyond its border


def test_the_mean_is_subtracted_and_travels_in_the_state_dict():
    net, x = net_of("A", scale=0.25), image(1, 3, 56, 56)
    expected = net(x)
    assert torch.equal(net.state_dict()["mean"], torch.zeros(3))
    net.mean.copy_(torch.tensor([123.68, 116.779, 103.939]))
    other = net_of("A", scale=0.25)
    other.load_state_dict(net.state_dict())
    close(other(x + net.mean.view(1, 3, 1, 1)), expected)


@pytest.mark.parametrize("scale", SCALES)
def test_an_image_smaller_than_the_training_crop_is_refused(scale):
    net = net_of("A", scale)
    with pytest.raises(ValueError, match=f"training crop of {net.crop}"):
        net(image(1, 3, net.crop, net.crop - 1))


def test_a_scale_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="0.3"):
        VGG("A", scale=0.3)


def test_dropout_of_half_the_fc6_and_fc7_units_only_in_training():
    net, x, keys = net_of("A", scale=0.25, width=1 / 8), image(1, 3, 56, 56), torch.tensor([5])
    assert torch.equal(net(x), net(x, keys))
    undropped = {layer: inputs_of(layer, net, x) for layer in (net.fc7, net.fc8)}
    net.train()
    assert torch.equal(inputs_of(net.fc6, net, x, keys), inputs_of(net.fc6, net, x, keys + 1))
    fc7_inputs = inputs_of(net.fc7, net, x, keys)
    alive = undropped[net.fc7] > 0
    left = fc7_inputs[alive] > 0
    assert 0.35 < left.float().mean() < 0.65
    close(fc7_inputs[alive][left], 2 * undropped[net.fc7][alive][left])
    assert (inputs_of(net.fc8, net, x, keys) == 0).float().mean() > 0.6
    with pytest.raises(ValueError, match="a key for each image"):
        net(x)


def test_masks_are_whole_numbers_arithmetic_of_key_layer_and_unit():
    def scrambled(x: int) -> int:
        for _ in range(2):
            x = ((x >> 16) ^ x) * 0x45D9F3B % 2**32
        return (x >> 16) ^ x

    keys, units = [0, 1, 2**32 - 1, 123456789], torch.zeros(3, 2, 1)
    of_one_unit = scrambled(scrambled(1) ^ scrambled(scrambled(0) ^ 8)) / 2**32  # the part of all numbers below its own
    for layer, dropout in ((6, 0.5), (7, 0.4), (8, of_one_unit)):
        expected = [
            [
                scrambled(scrambled(unit) ^ scrambled(scrambled(key) ^ layer)) >= round(dropout * 2**32)
                for unit in range(6)
            ]
            for key in keys
        ]
        assert kept(torch.tensor(keys), layer, units, dropout).flatten(1).tolist() == expected


def test_masks_differ_between_images_layers_and_units_as_independent_draws_do():
    keys, units = torch.arange(400), torch.zeros(512, 1, 1)
    masks = torch.stack([kept(keys, layer, units, 0.4).view(400, 512) for layer in (6, 7)]).double()
    assert masks.mean().item() == pytest.approx(0.6, abs=0.004)  # 5 deviations of 400,000 draws
    for one in (masks[0], masks[0].T, masks.flatten(1)):  # of images, of units, of layers
        assert one.corrcoef().fill_diagonal_(0).abs().max() < 6 / one.shape[1] ** 0.5


@pytest.mark.parametrize("name", ["A", "alexnet", "zfnet", "resnet18"])
def test_a_mask_is_the_images_whatever_goes_through_the_net_with_it(name):
    torch.manual_seed(0)
    net = make(name, 3, 0.5, 1 if name == "resnet18" else 1 / 16, 0.5).train()
    last = net.get_submodule(net.classifier[-1])
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()
    x, keys = image(4, 3, 112, 112), torch.tensor([3, 1, 4, 15])
    together = inputs_of(last, net, x, keys) == 0
    assert not torch.equal(together[0], together[1])
    apart = torch.cat([inputs_of(last, net, x[row : row + 1], keys[row : row + 1]) == 0 for row in (3, 2, 1, 0)])
    assert torch.equal(together, apart.flip(0))
    assert not torch.equal(inputs_of(last, net, x, keys + 1) == 0, together)


def test_a_dropout_of_zero_leaves_training_mode_deterministic():
    net, x = net_of("A", scale=0.25, dropout=0.0).train(), image(1, 3, 56, 56)
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("name", TABLE_1)
def test_every_net_works_at_a_quarter_of_the_scale_with_an_eighth_of_the_width(name):
    net = net_of(name, scale=0.25, width=1 / 8, classes=10)
    assert net.conv1_1.out_channels == 8
    assert net.fc6.weight.shape == (512, 64, 7, 7)
    assert net.fc7.weight.shape == (512, 512, 1, 1)
    assert net(image(2, 3, 56, 56)).shape == (2, 10)
