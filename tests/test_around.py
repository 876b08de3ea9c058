"""The networks around it: sizes against their sources, scores against the libraries' own, dense maps, recipes."""

import csv
import re
from collections import OrderedDict
from functools import cache
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from conftest import TINY, append, composed, evaluation
from test_network import close, fc_net, image, inputs_of
from torch import nn
from torch.nn import functional

from vgg.core.catalogue import FC6_WINDOWS, LIBRARY, MODELS, SMALLEST_SCALE
from vgg.core.errors import UserError
from vgg.core.scales import SCALES, real_pixels
from vgg.evaluation import arrays
from vgg.evaluation.selection import Origins
from vgg.evaluation.views import posteriors
from vgg.nets import pretrained
from vgg.nets.alexnet import COLUMNS
from vgg.nets.base import Network
from vgg.nets.factory import make
from vgg.nets.initialisation import draw
from vgg.report import chart_data, tables
from vgg.report.parts import Lacking
from vgg.runs import plan, weights
from vgg.runs.run import Run
from vgg.training import fit as training_fit
from vgg.training.checkpoints import Checkpoints, Interrupted
from vgg.training.learning_rate import Steps
from vgg.training.modules import Classifier

# Million parameters and multiply-adds of 1,000 classes at 224.
SIZES = {
    # Krizhevsky et al. 2012: "60 million parameters" with two towers; Sze et al. 2017, Table II: 61 M, 724 M.
    "alexnet-towers": (60.965, 724.407),
    # The towers joined: conv2, conv4 and conv5 see all maps. By its layers; nobody states it.
    "alexnet": (62.378, 1135.256),
    # Zeiler & Fergus state sizes of layers only.
    "zfnet": (107.628, 2476.705),
    # Szegedy et al. 2014, Table 1: 6.8 M and 1,500 M. torchvision's: 3x3 filters in place of 5x5, no auxiliary nets.
    "googlenet": (6.625, 1498.376),
    # He et al. 2015, Table 1: 1.8, 3.6, 3.8, 7.6 and 11.3 billion. torchvision's with bottlenecks have the stride in
    # the 3x3 layer, so that the 1x1 layer before it sees four times as many places.
    "resnet18": (11.690, 1814.073),
    "resnet34": (21.798, 3663.761),
    "resnet50": (25.557, 4089.184),
    "resnet101": (44.549, 7801.405),
    "resnet152": (60.193, 11513.627),
    # Zagoruyko & Komodakis 2016: 68.9 M. Xie et al. 2016: 25.0 M. Huang et al. 2016: 8 M in their Figure 3.
    "wide_resnet50_2": (68.883, 11398.021),
    "resnext50_32x4d": (25.029, 4230.480),
    "densenet121": (7.979, 2834.162),
    # timm's model card of seresnet50: 28.1 M, 4.1 billion; its weights of senet154 have 461 MB, four bytes each. Hu et
    # al. 2017 have SE-ResNet-50 with 3.87 billion, the stride as in ResNet-50.
    "senet154": (115.089, 20688.364),
    "seresnet50": (28.088, 4091.699),
}


@cache
def shaped(name: str) -> Network:
    """A whole net with shapes and no numbers."""
    with torch.device("meta"):
        return make(name).eval()


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_publications_or_the_librarys(name):
    count, operations = parameters(shaped(name)), shaped(name).multiply_adds()
    assert (round(count / 1e6, 3), round(operations / 1e6, 3)) == SIZES[name]
    if LIBRARY.get(name) == "torchvision":
        stated = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
        assert (count, round(operations / 1e9, 3)) == (stated["num_params"], stated["_ops"])


def test_lenet_5_has_the_60_000_parameters_and_340_908_connections_of_1998():
    net, units = make("lenet5", 10, 0.25), []
    assert parameters(net) - parameters(net.output) == 60_000
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, _, output: units.append((layer, output[0].numel())))
    net(image(1, 3, 56, 56))
    biased = {layer: units for layer, units in units if layer is not net.output}
    summed = 3 * (6 * 14 * 14 + 16 * 5 * 5)  # sub-sampling takes four inputs by one weight
    assert net.multiply_adds() + sum(biased.values()) + summed == 340_908


def test_a_crop_that_is_too_small_is_refused_with_the_scale_that_fits():
    for name in ("googlenet", "resnet18", "densenet121", "seresnet50"):  # the others have the same pools
        trunk, smallest = shaped(name).trunk, SMALLEST_SCALE.get(name, 0.125)
        crop = real_pixels(224, smallest)
        assert min(trunk(torch.empty(1, 3, crop, crop, device="meta")).shape) > 0
        if smallest > 0.125:
            with pytest.raises(RuntimeError, match="too small"):
                trunk(torch.empty(1, 3, crop // 2, crop // 2, device="meta"))
            with pytest.raises(UserError, match=f"data.scale={smallest / 2}.*fits is data.scale={smallest}"):
                composed(f"model={name}", f"data.scale={smallest / 2}")


@pytest.mark.parametrize(("name", "sides"), FC6_WINDOWS.items())
def test_fc6_of_alexnet_and_zfnet_takes_the_map_that_the_crop_gives_at_each_scale(name, sides):
    for scale, side in zip(SCALES, sides, strict=True):
        net = make(name, 7, scale, 1 / 16).eval()
        assert net.window == side
        assert net(image(1, 3, net.crop, net.crop)).shape == (1, 7)
        assert net.score_map(image(1, 3, net.crop, net.crop + 32)).shape[3] == 1 + 32 // net.stride


def enliven(net: nn.Module) -> None:
    """Weights that keep the signal, and batch normalisations that do something."""
    generator = torch.Generator().manual_seed(7)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2, generator=generator)
            nn.init.uniform_(layer.running_var, 0.5, 1.5, generator=generator)
            nn.init.uniform_(layer.weight, 0.7, 1.3, generator=generator)


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "densenet121", "seresnet50"])
def test_published_weights_give_the_librarys_own_scores_and_the_map_has_them_as_its_mean(name):
    torch.manual_seed(1)
    if LIBRARY[name] == "timm":
        oracle = timm.create_model(name, num_classes=3)
    else:  # the published GoogLeNet normalises once more, and has its auxiliary classifiers
        more = {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
        oracle = torchvision.models.get_model(name, num_classes=3, **more)
    enliven(oracle.eval().double())
    net = make(name, 3, 0.25).eval().double()
    net.load_state_dict(pretrained.from_library(oracle.state_dict(), name))
    x = image(2, 3, 96, 70).double()
    normalise = torchvision.transforms.Normalize(pretrained.TORCHVISION_MEAN, pretrained.TORCHVISION_STD)
    with torch.inference_mode():
        scores, expected = net(x), oracle(normalise(x / 255))
        close(scores, expected)
        assert (expected[0] - expected[1]).abs().max() > 0.01 * expected.abs().max()
        found = net.score_map(x)
    assert found.shape == (2, 3, 3, 2 if name in ("googlenet", "densenet121") else 3)  # which round down, or up
    close(found.mean(dim=(2, 3)), scores)


def test_every_published_net_has_a_file_with_its_hash_and_timms_have_imagenets_mean():
    for name, library in LIBRARY.items():
        assert re.fullmatch(r"https://\S+-[0-9a-f]{8}\.pth", pretrained.address(name))
        if library == "timm":
            about = timm.get_pretrained_cfg(name)
            assert (about.mean, about.std) == (pretrained.TORCHVISION_MEAN, pretrained.TORCHVISION_STD)


def test_the_deviation_is_folded_into_senet_154s_deeper_stem():
    state = {"conv1.0.weight": torch.ones(1, 3, 1, 1), "conv1.1.running_mean": torch.ones(1)}
    found = pretrained.from_library(state | {"conv1.1.running_var": torch.ones(1)}, "senet154")
    assert set(found) - {"mean"} <= set(shaped("senet154").state_dict())
    assert not (found["trunk.conv1.0.weight"] == 1).any()


def test_densenets_file_has_names_of_an_older_form():
    key = "features.denseblock1.denselayer1.norm1.weight"
    state = OrderedDict((name, torch.ones(2)) for name in (key.replace("norm1", "norm.1"), "classifier.bias"))
    state |= {"features.conv0.weight": torch.ones(1, 3, 1, 1)}
    state |= {f"features.norm0.running_{what}": torch.ones(1) for what in ("mean", "var")}
    assert {f"trunk.{key}", "fc.bias"} <= set(pretrained.from_library(state, "densenet121"))


@pytest.mark.parametrize("name", COLUMNS)
def test_alexnet_and_zfnet_are_dense_by_their_fc_layers_as_convolutions(name):
    net, x = make(name, 7, 0.5, 1 / 16).eval(), image(2, 3, 112 + 2 * 16, 112 + 16)
    draw(net, "kaiming", 1)
    with torch.inference_mode():
        features, found = inputs_of(net.fc6, net, x), net.score_map(x)
        assert found.shape[2:] == (3, 2)
        for i, j in ((0, 0), (2, 1)):
            close(found[:, :, i, j], fc_net(net, features[:, :, i : i + net.window, j : j + net.window]))
        assert net.score_map(x[:, :, :112, :112]).shape[2:] == (1, 1)


@pytest.mark.parametrize(
    ("name", "scale"),
    [*((name, scale) for name in ("alexnet", "zfnet") for scale in SCALES)]
    + [(name, 0.5) for name in ("googlenet", "resnet18", "densenet121")],
)
def test_a_cell_of_the_score_map_looks_where_it_is_said_to(name, scale, monkeypatch):
    """The middle of the gradient of one cell, in equal weights and with means in the place of maxima."""
    net = make(name, 2, scale, 1 / 16 if name in COLUMNS else 1.0, 0.0).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())

    def mean_pool(x, kernel, stride, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        return functional.avg_pool2d(x, kernel, stride, padding, ceil_mode)

    monkeypatch.setattr(functional, "max_pool2d", mean_pool)
    pixels = torch.ones(1, 3, 384, 384, requires_grad=True)
    scores = net.score_map(pixels)
    cell = scores.shape[2] // 2
    (gradient,) = torch.autograd.grad(scores[0, 0, cell, cell], pixels)
    seen = gradient.abs().sum((0, 1, 2))
    middle = float((seen * torch.arange(384)).sum() / seen.sum())
    assert middle == pytest.approx(net.stride * cell + (net.cell - 1) / 2, abs=0.1)


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "zfnet", "googlenet", "resnet18", "densenet121", "seresnet50"])
def test_every_net_is_evaluated_on_crops(name):
    net = make(name, 3, 0.5, 1 / 16 if name in COLUMNS else 1.0, 0.0).eval()
    if name in COLUMNS:
        draw(net, "kaiming", 1)
    x = image(1, 3, 144, 120)
    corners = [(0, 0), (0, 8), (32, 0), (32, 8), (16, 4)]
    stacked = torch.cat([x[:, :, top : top + 112, left : left + 112] for top, left in corners])
    with torch.inference_mode():
        expected = net(torch.cat([stacked, stacked.flip(3)])).softmax(1).mean(0, keepdim=True)
        close(posteriors(net, x, "tencrop"), expected)
        if net.dense:
            maps = net.score_map(torch.cat([x, x.flip(3)]))
            close(posteriors(net, x, "dense"), maps.mean(dim=(2, 3)).softmax(1).mean(0, keepdim=True))


def test_pools_round_as_published_whatever_an_evaluation_says_of_table_1s():
    net = make("zfnet", 3, 0.5, 1 / 16).eval()
    net.ceil_mode = False
    assert net.score_map(image(1, 3, 120, 152)).shape[2:] == (1, 3)
    own = composed("model=zfnet", "train_scale=S256")
    run = SimpleNamespace(name="digits/zfnet-256", config=lambda: own, record=lambda: {"weights_sha256": ""})
    for given in ("false", "true"):
        asked = composed("eval=table3", f"ceil_mode={given}", evaluate=True)
        with pytest.raises(UserError, match="about Table 1's nets, not about digits/zfnet-256"):
            arrays.arrays_under(asked, run, SimpleNamespace(sha256=""), ["dense"], [256])


def test_lenet_5_is_not_evaluated_dense():
    own = composed("model=lenet5", "train_scale=S256")
    run = SimpleNamespace(name="digits/lenet5-256", config=lambda: own, record=lambda: {"weights_sha256": ""})
    asked, images = composed("eval=table3", evaluate=True), SimpleNamespace(sha256="")
    with pytest.raises(UserError, match="digits/lenet5-256 cannot be dense, its input is fixed: eval_method=multicrop"):
        arrays.arrays_under(asked, run, images, ["dense"], [256])
    (array,) = arrays.arrays_under(asked, run, images, ["multicrop"], [256])
    assert (array.key.view, array.key.q) == ("multicrop", 256)


def test_a_net_with_batch_normalisation_resumes_inside_an_epoch_bit_for_bit(scenes, tmp_path, monkeypatch):
    options = (*TINY, "model=resnet18", "train_scale=S256", f"data.root={scenes}", "data.width=1", "logger=csv")
    cfg = composed(*options, "data.batch=28", "data.epochs=2", "data.lr=0.01", "model.dropout=0", "trainer.workers=0")
    whole, parts = (Run.named("scenes/resnet18-256", tmp_path / name) for name in ("whole", "parts"))
    for run in (whole, parts):
        run.prepare(cfg, None)
    training_fit.fit(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "asked_to_stop", lambda callbacks, trainer: 15 * (trainer.global_step == 5))
        with pytest.raises(Interrupted):
            training_fit.fit(parts)
    training_fit.fit(parts)
    assert parts.record()["weights_sha256"] == whole.record()["weights_sha256"]


def test_alexnets_layers_have_the_published_sizes():
    net = shaped("alexnet")
    sides = [inputs_of(layer, net, torch.empty(1, 3, 224, 224, device="meta")).shape[1:] for layer in net.children()]
    assert sides[:6] == [(3, 224, 224), (96, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13), (256, 6, 6)]
    zf = shaped("zfnet")
    seen = [inputs_of(layer, zf, torch.empty(1, 3, 224, 224, device="meta")).shape[1:] for layer in zf.children()]
    assert seen[:6] == [(3, 224, 224), (96, 55, 55), (256, 13, 13), (512, 13, 13), (1024, 13, 13), (512, 6, 6)]


def test_lenet_5_takes_crops_and_says_that_it_cannot_be_dense():
    net = make("lenet5", 10, 0.25)
    for call in (lambda: net.score_map(image(1, 3, 56, 56)), lambda: net(image(1, 3, 64, 64))):
        with pytest.raises(UserError, match="fixed input of 32x32.*cannot be dense"):
            call()


def test_random_weights_are_the_librarys_by_seed_or_krizhevskys():
    state = torch.get_rng_state()
    one, same, other = (make("resnet18", 3, 0.25, dropout=0.0) for _ in range(3))
    torch.set_rng_state(state)
    for net, seed in ((one, 1), (same, 1), (other, 2)):
        draw(net, "own", seed)
    assert torch.equal(torch.get_rng_state(), state)
    first = "trunk.conv1.weight"
    assert torch.equal(one.get_parameter(first), same.get_parameter(first))
    assert not torch.equal(one.get_parameter(first), other.get_parameter(first))
    alexnet = make("alexnet", 10, 0.5, 1 / 4)
    draw(alexnet, "std001", 1)
    ones = {name for name, layer in alexnet.named_children() if layer.bias.bool().all()}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    for layer, narrower in ((alexnet.conv1, 1), (alexnet.conv3, 4), (alexnet.fc6, 4 * (6 / 5) ** 2)):
        assert float(layer.weight.detach().std()) == pytest.approx(0.01 * narrower**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("model=resnet18", "data.width=0.5"), "data.width=0.5: resnet18"),
        (("model=resnet18", "init=glorot"), "init.draw=glorot: resnet18 is drawn by draw=own"),
        (("model=D", "data.draw=own"), "init.draw=own: D is drawn by std001"),
        (("model=resnet18", "model.ceil_mode=true"), "ceil_mode"),
        (("model=alexnet", "data.scale=0.5", "weights=torchvision"), "model=alexnet"),
        (("model=resnet18", "weights=timm"), "senet154, seresnet50"),
        (("model=lenet5", "optimizer.schedule=[[0.5,0.1],[0.2,0.5]]"), "schedule"),
    ],
)
def test_what_a_net_cannot_have_is_refused(overrides, named):
    with pytest.raises(UserError, match=named):
        composed(*overrides)


def test_a_recipe_stands_over_the_datas_numbers_and_the_command_line_over_both():
    own = composed("model=resnet18", "data=imagenette", "train_scale=S384")
    assert (own.data.lr, own.data.batch, own.data.epochs, own.optimizer.weight_decay) == (0.1, 256, 30, 1e-4)
    assert own.model.dropout == 0
    assert composed("data=imagenette", "model=resnet18", "data.lr=0.3", "data.batch=8").data.lr == 0.3
    assert composed("model=alexnet", "data=imagenet", "data.root=/x").data.batch == 128
    assert composed("model=D", "data=imagenette").optimizer.weight_decay == 5e-4
    assert [step.run.name for step in plan.lineage(own)] == ["imagenette/resnet18-256", "imagenette/resnet18-384"]
    with pytest.raises(UserError, match="model=resnet18"):
        plan.planned(composed("ablation=depth", "model=resnet18"))


def test_the_learning_rate_falls_at_its_shares_of_the_epochs_and_goes_on_so_after_a_resumption():
    schedule = composed("model=lenet5").optimizer.schedule
    state = {"state": SimpleNamespace(fn="fit"), "sanity_checking": False}
    trainer = SimpleNamespace(**state, max_epochs=20, optimizers=[SimpleNamespace(param_groups=[{"lr": 5e-4}])])
    trainer.callback_metrics = {"val/top1_error": torch.tensor(1.0), "val/top5_error": torch.tensor(0.0)}
    module, rates = SimpleNamespace(accuracies={"top1": None, "top5": None}), []
    for trainer.current_epoch in range(20):
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        Steps(schedule).on_validation_end(trainer, module)  # a new one each time: the optimiser's state has its rate
    assert rates == pytest.approx([5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8)


def test_layers_that_are_not_trained_keep_their_statistics_and_ranks_agree_on_theirs():
    module = Classifier("resnet18", 3, scale=0.25, dropout=0.0, draw="own", layers="fc").train()
    assert (module.net.fc.training, module.net.trunk.training) == (True, False)
    assert [name for name, p in module.named_parameters() if p.requires_grad] == ["net.fc.weight", "net.fc.bias"]
    strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor.add_(3) / 2)  # the other rank has 3
    module._trainer = SimpleNamespace(strategy=strategy)
    module.on_validation_epoch_start()
    assert set(module.net.trunk.bn1.running_mean.tolist()) == {1.5}
    assert set(module.net.trunk.bn1.running_var.tolist()) == {2.0}


def test_a_published_net_is_a_parent_with_a_fresh_classifier(tmp_path):
    torch.manual_seed(5)
    oracle, path = torchvision.models.resnet18(num_classes=4), tmp_path / "resnet18.pth"
    torch.save(oracle.state_dict(), path)
    overrides = ("weights=torchvision", f"weights.path={path}", "data.scale=1", "layers=fc", "train_scale=S256")
    cfg = composed("model=resnet18", *overrides, f"dirs.runs={tmp_path}")
    (step,) = plan.lineage(cfg)
    assert (step.run.name, step.parent.name) == ("digits/resnet18-256-fc-torchvision-scale1", "torchvision/resnet18")
    step.run.prepare(cfg, step.parent)
    net = weights.build(cfg, 3)
    training_fit.start_from_parent(net, cfg, step.run, ("ant", "bee", "cat"))
    assert torch.equal(net.trunk.layer4[1].bn2.weight, oracle.layer4[1].bn2.weight)
    assert net.fc.weight.shape == (3, 512)
    assert net.mean.tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_the_table_has_the_best_of_each_net_beside_the_published_and_its_command(runs):
    vgg = evaluation(command="python evaluate.py eval=fused")
    net = weights.build(composed("model=resnet18", "data.scale=0.25", "data.width=1"), 10)
    sizes = {key: [value] for key, value in weights.size(net).items()}
    alone = {"views": ["center"], "q": [[256]], "scale": [0.25], "width": [1.0], **sizes}
    cells = [("resnet18-256", 30.0), ("resnet18-256-seed2", 32.0), ("resnet18-384", 40.0), ("lenet5-256", 60.0)]
    others = [
        evaluation(runs=[f"digits/{cell}"], cells=[cell], top1=top1, seed=[2 if "seed2" in cell else 1], **alone)
        for cell, top1 in cells
    ]
    of_file = evaluation(runs=["torchvision/resnet34"], cells=["resnet34-256"], source_sha256=["of the file"], **alone)
    append(runs, vgg, *others, of_file, evaluation(runs=["digits/A-256"], cells=["A-256"], ceil_mode=[True]))
    shown = list(csv.reader(tables.rendered(Origins("digits", runs), "csv").splitlines()))
    found = {row[1]: row[2:] for row in shown if row[0].startswith("The networks around it")}
    assert found["resnet18"][:4] == ["2015", "11.18", "129.08", "256, centre crop, Q = 256"]
    assert found["resnet18"][4] == "31.0 ± 1.4"
    assert found["resnet34"][3] == "published, centre crop, Q = 256"
    assert found["alexnet"] == ["2012", *"–" * 5, "40.7", *"–" * 3, "18.2", "–", "–"]
    assert found["googlenet"][6::4][:2] == ["–", "7.9"]
    assert found["D"][4:8] == ["20.0", "18.0–22.0", "24.4", "-4.4"]
    assert found["A"][4] == "–"  # its pools rounded up
    assert "D: python evaluate.py eval=fused" in tables.rendered(Origins("digits", runs), "text")
    drawn = evaluation(runs=["digits/zfnet-256-glorot"], cells=["zfnet-256-glorot"], **alone)
    scale, chart = chart_data.operations_chart([*others, of_file, drawn])
    assert scale == "S = 256, centre crop, Q = 256"
    assert {net for net in MODELS if f"{net}<" in chart} == {"resnet18", "lenet5", "zfnet"}
    with pytest.raises(Lacking, match="two nets"):
        chart_data.operations_chart([vgg])
