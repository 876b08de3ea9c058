import pytest
import torch

from vgg.core.catalogue import DRAWS
from vgg.core.config import STARTS_FROM_A
from vgg.nets.initialisation import A_LAYERS, copy_layers, draw
from vgg.nets.vgg import TABLE_1, VGG


def drawn(name: str, how: str, seed: int = 0, **more) -> VGG:
    net = VGG(name, **more)
    draw(net, how, seed)
    return net


def std(tensor: torch.Tensor) -> float:
    return float(tensor.detach().std())


def test_std001_is_a_standard_deviation_of_a_hundredth_in_every_layer_of_the_full_net():
    net = drawn("A", "std001")
    for layer in net.children():
        assert std(layer.weight) == pytest.approx(0.01, rel=0.05)
        assert abs(float(layer.weight.detach().mean())) < 0.001


@pytest.mark.parametrize(("how", "full"), [("std001", 0.01), ("literal", 0.1)])
@pytest.mark.parametrize("name", ["D", "B-5x5"])
def test_a_narrower_net_multiplies_by_the_root_of_full_fan_in_over_its_own(how, full, name):
    net = drawn(name, how, scale=0.25, width=0.25, classes=100)
    with torch.device("meta"):
        paper = VGG(name)
    for key, layer in net.named_children():
        ratio = paper.get_submodule(key).weight[0].numel() / layer.weight[0].numel()
        assert ratio == {"conv1_1": 1}.get(key, 4)
        few = 4 / (2 * layer.weight.numel()) ** 0.5
        assert std(layer.weight) == pytest.approx(full * ratio**0.5, rel=few)


def test_an_odd_width_keeps_each_layers_signal():
    net = drawn("D", "std001", scale=0.5, width=0.3, classes=100)
    with torch.device("meta"):
        paper = VGG("D")
    for key, layer in net.named_children():
        ratio = paper.get_submodule(key).weight[0].numel() / layer.weight[0].numel()
        assert std(layer.weight) == pytest.approx(0.01 * ratio**0.5, rel=0.02 + 4 / (2 * layer.weight.numel()) ** 0.5)


def test_literal_is_the_papers_variance_of_a_hundredth():
    net = drawn("A", "literal", scale=0.25)
    for key, layer in net.named_children():
        if key != "fc6":
            assert layer.weight.detach().var().item() == pytest.approx(0.01, rel=0.1)


def glorot_bound(fan_in: int, fan_out: int) -> float:
    return (6 / (fan_in + fan_out)) ** 0.5


def test_glorot_is_uniform_within_the_root_of_6_over_both_fans():
    net = drawn("C", "glorot", scale=0.25, width=0.25, classes=100)
    for layer in net.children():
        window = layer.weight[0, 0].numel()
        bound = glorot_bound(layer.in_channels * window, layer.out_channels * (1 if layer is net.fc6 else window))
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert std(layer.weight) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_glorot_takes_fc6_as_the_fully_connected_layer_it_is():
    net = drawn("A", "glorot", scale=1, width=0.125)
    bound = glorot_bound(64 * 49, 512)
    assert 0.98 * bound < net.fc6.weight.abs().max() <= bound


def test_kaiming_is_normal_with_the_root_of_2_over_fan_in():
    net = drawn("D", "kaiming", scale=0.5, width=0.25, classes=100)
    for layer in net.children():
        few = 4 / (2 * layer.weight.numel()) ** 0.5
        assert std(layer.weight) == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=few)


@pytest.mark.parametrize("how", DRAWS)
def test_biases_are_zero_and_the_seed_gives_the_weights(how):
    one, same, other = (drawn("C", how, seed, scale=0.25, width=1 / 16, classes=5) for seed in (3, 3, 4))
    for key, layer in one.named_children():
        assert not layer.bias.any()
        assert torch.equal(layer.weight, same.get_submodule(key).weight)
        assert not torch.equal(layer.weight, other.get_submodule(key).weight)


def test_the_global_random_state_plays_no_part():
    torch.manual_seed(1)
    one = drawn("A", "std001", scale=0.25, width=1 / 16)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other = VGG("A", scale=0.25, width=1 / 16)
    torch.set_rng_state(state)
    draw(other, "std001", 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_an_unknown_draw_is_refused():
    with pytest.raises(ValueError, match="std001, literal, glorot, kaiming"):
        draw(VGG("A", scale=0.25, width=1 / 64), "normal", 0)


def test_the_layers_taken_from_a_are_four_convolutional_and_three_fully_connected_ones_by_name():
    assert A_LAYERS == ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
    assert STARTS_FROM_A == ("B", "C", "D", "E")


@pytest.mark.parametrize("name", STARTS_FROM_A)
@pytest.mark.parametrize("width", [1.0, 1 / 16])
def test_as_layers_fit_every_deeper_net(name, width):
    with torch.device("meta"):
        a, net = VGG("A", width=width), VGG(name, width=width)
    for layer in A_LAYERS:
        assert a.get_submodule(layer).weight.shape == net.get_submodule(layer).weight.shape


@pytest.mark.parametrize("name", STARTS_FROM_A)
def test_as_layers_are_copied_by_name_and_everything_else_is_untouched(name):
    a = drawn("A", "std001", seed=1, scale=0.25, width=1 / 16, classes=5)
    net = drawn(name, "std001", seed=2, scale=0.25, width=1 / 16, classes=5)
    a.mean.fill_(100)
    for layer in a.children():
        torch.nn.init.ones_(layer.bias)
    source, before = a.state_dict(), {key: value.clone() for key, value in net.state_dict().items()}
    assert copy_layers(net, source, A_LAYERS) == list(A_LAYERS)
    for key, value in net.state_dict().items():
        assert torch.equal(value, source[key] if key.split(".")[0] in A_LAYERS else before[key])
    assert all(p.requires_grad for p in net.parameters())


def test_copied_weights_are_not_shared_with_their_source():
    a, b = (drawn(name, "std001", scale=0.25, width=1 / 16) for name in "AB")
    copy_layers(b, a.state_dict(), A_LAYERS)
    b.conv1_1.weight.data.zero_()
    assert a.conv1_1.weight.any()


def test_a_layer_that_does_not_fit_is_refused_by_name():
    a, net = (VGG(name, 5, 0.25, 1 / 16) for name in ("A", "B-5x5"))
    with pytest.raises(ValueError, match=r"conv1_1.*\(4, 3, 3, 3\).*\(4, 3, 5, 5\)"):
        copy_layers(net, a.state_dict(), A_LAYERS)


def test_a_missing_layer_is_refused_by_name_on_either_side():
    a, b = (VGG(name, 5, 0.25, 1 / 16) for name in "AB")
    source = a.state_dict()
    with pytest.raises(ValueError, match="conv1_2.*missing in the source"):
        copy_layers(b, source, ("conv1_2",))
    with pytest.raises(ValueError, match="conv1_2.*missing in the new net"):
        copy_layers(a, b.state_dict(), ("conv1_2",))
    del source["fc7.bias"]
    with pytest.raises(ValueError, match=r"fc7\.bias is missing in the source"):
        copy_layers(b, source, A_LAYERS)


def test_every_draw_reaches_every_net():
    for name in TABLE_1:
        net = drawn(name, "kaiming", scale=0.25, width=1 / 64)
        assert all(layer.weight.any() for layer in net.children())
