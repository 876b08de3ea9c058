"""A finished run, or torchvision's weights, on photos: as evaluate.py scores them, and as a person reads it."""

import io
import subprocess
import sys
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import SMALL, TINY, composed, noise
from PIL import Image
from torchvision.transforms import functional

import vgg
from vgg.commands import predict as commands_predict
from vgg.commands import score as commands_score
from vgg.commands.cli import main
from vgg.core.errors import UserError
from vgg.evaluation import arrays
from vgg.evaluation.images import evaluated_images
from vgg.nets import initialisation, pretrained
from vgg.nets.vgg import VGG
from vgg.prediction import predictor as prediction_predictor
from vgg.prediction import score_maps
from vgg.prediction.predictor import Predictor
from vgg.runs import weights
from vgg.runs.run import Run

CLASSES = ("ant", "bee", "cat")
METHODS = ("dense", "multicrop", "fused", "tencrop", "center")


@pytest.fixture
def photos(root):
    """Twelve photos in three class folders; one of them is upright."""
    noise(7, 20, 32).save(root / "bee" / "1.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the runs, in it photos/D-jitter: a tiny net that is as good as finished."""
    runs = tmp_path_factory.mktemp("runs")
    cfg = composed(*TINY, "data.root=photos", "data.classes=3", "model=D", "train_scale=jitter", f"dirs.runs={runs}")
    run = Run.named(f"photos/D-jitter{SMALL}", runs)
    net = weights.build(cfg, 3)
    initialisation.draw(net, "kaiming", 5)
    with torch.no_grad():
        net.fc8.weight.mul_(0.1)
    net.mean.copy_(torch.tensor([110.0, 120.0, 130.0]))
    run.prepare(cfg, None)
    weights.save(run, net, CLASSES)
    return runs


@pytest.fixture
def predictor(folder) -> Predictor:
    return vgg.load(f"photos/D-jitter{SMALL}", folder)


@pytest.mark.parametrize("method", METHODS)
def test_posteriors_are_those_of_evaluate_for_the_same_images(predictor, folder, photos, method, monkeypatch):
    monkeypatch.setattr(arrays, "run_fresh", lambda command, request, trainer: commands_score.score(request) or 0)
    options = ("data.name=photos", "data.root=photos", f"data.val={photos}", f"dirs.runs={folder}")
    cfg = composed(*TINY, *options, f"dirs.cache={folder / 'cache'}", f"eval_method={method}", evaluate=True)
    images = evaluated_images(cfg, CLASSES)
    assert len(images) == 12
    runs = arrays.evaluated_runs(cfg)
    expected, _ = arrays.posterior_of(cfg, runs, images)
    assert expected.std() > 1e-3
    found = [predictor.posterior(images.path(index), method) for index in range(12)]
    np.testing.assert_allclose(torch.stack(found).numpy(), expected, rtol=1e-4, atol=1e-6)
    single = replace(cfg, test_scale=replace(cfg.test_scale, q=[320]))
    expected, _ = arrays.posterior_of(single, runs, images)
    np.testing.assert_allclose(predictor.posterior(images.path(5), method, 320), expected[5], rtol=1e-4, atol=1e-6)


def test_a_photo_is_a_path_its_bytes_or_what_pillow_has_read(predictor, photos):
    path = photos / "ant" / "0.png"
    expected = predictor.posterior(path, "dense")
    with Image.open(path) as image:
        for photo in (str(path), path.read_bytes(), image, image.convert("RGBA")):
            assert torch.equal(predictor.posterior(photo, "dense"), expected)
    encoded = io.BytesIO()
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (70, 80), dtype=np.uint16))
    deep.save(encoded, "PNG")
    assert torch.equal(predictor.rescaled(deep, 256), predictor.rescaled(encoded.getvalue(), 256))


def test_the_most_probable_classes_come_first_and_ties_in_the_order_of_the_classes(predictor, photos):
    path = photos / "cat" / "2.png"
    posterior = predictor.posterior(path, "tencrop", [256, 512])
    best = predictor.top(path, 2, "tencrop", [256, 512])
    assert [p for _, p in best] == sorted(posterior.tolist(), reverse=True)[:2]
    assert best[0][0] == CLASSES[posterior.argmax()]
    assert predictor.ranked(torch.tensor([0.3, 0.4, 0.3]), 5) == [
        ("bee", pytest.approx(0.4)),
        ("ant", pytest.approx(0.3)),
        ("cat", pytest.approx(0.3)),
    ]


def test_the_score_map_is_what_dense_evaluation_averages(predictor, photos):
    upright = photos / "bee" / "1.png"
    with Image.open(upright) as image:
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert predictor.score_map(upright).shape == (
        3,
        19,
        10,
    )  # at Q = 512: 102 x 64 pixels, 28 a window, 4 from one to the next
    one, other = (predictor.score_map(photo, 320).mean((1, 2)).softmax(0) for photo in (upright, mirrored))
    torch.testing.assert_close((one + other) / 2, predictor.posterior(upright, "dense", 320))


def test_the_training_scale_says_the_test_scales(folder, predictor):
    assert (predictor.scales, predictor.map_scale) == ((256, 384, 512), 512)
    run = Run.named(f"photos/D-jitter{SMALL}", folder)
    fixed = Run.named("photos/D-384", folder)
    cfg = run.config()
    fixed.prepare(replace(cfg, train_scale=replace(cfg.train_scale, name="384", smin=384, smax=384)), None)
    weights.save(fixed, weights.load(run)[0], CLASSES)
    assert vgg.load("photos/D-384", folder).scales == (352, 384, 416)


def test_a_run_on_imagenet_has_the_classes_english_names(folder):
    run = Run.named("imagenet/A-256", folder)
    cfg = composed(
        "data=imagenet", "data.root=x", "data.width=0.0625", "data.scale=0.125", "model=A", "train_scale=S256"
    )
    run.prepare(cfg, None)
    weights.save(run, weights.build(cfg, 1000), tuple(f"n{number:08d}" for number in range(1000)))
    assert vgg.load("imagenet/A-256", folder).classes[:2] == ("tench", "goldfish")
    assert prediction_predictor.english(("n01440764", "n02102040")) == ("tench", "English springer")
    for others in (("n01440764", "n00000001"), ("n1", "dog")):
        assert prediction_predictor.english(others) == others


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("photos/E-jitter", "photos/E-jitter is not finished, or there is no such run"),
        ("D-jitter", "with its data"),
        ("torchvision:vgg12", "torchvision:vgg11, torchvision:vgg13, torchvision:vgg16, torchvision:vgg19"),
        ("timm:vgg16", "not known"),
    ],
)
def test_what_is_not_there_is_said(folder, name, said):
    with pytest.raises(UserError, match=said):
        vgg.load(name, folder)


def test_what_cannot_be_asked_of_a_net_is_refused(predictor, photos):
    path = photos / "ant" / "0.png"
    with pytest.raises(
        UserError,
        match=r"method=sparse: there is no such option, choose one of center, dense, ",
    ):
        predictor.posterior(path, "sparse")
    with pytest.raises(UserError, match=r"q\[0\]=200: should be greater than or equal to 224"):
        predictor.posterior(path, "dense", 200)
    for content in (b"", b"text", path.read_bytes()[:300]):
        with pytest.raises(UserError, match="the photo cannot be read"):
            predictor.posterior(content)


def test_without_network_torchvisions_weights_are_a_users_error(tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"could not fetch https://.*vgg16.*pth.*no network"):
        vgg.load("torchvision:vgg16")
    damaged = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    for content in (b"", b"weights"):
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=f"could not fetch .*{damaged}"):
            vgg.load("torchvision:vgg16")


def test_torchvisions_weights_give_torchvisions_own_posteriors_and_class_names(tmp_path, monkeypatch):
    torch.manual_seed(5)
    oracle = torchvision.models.vgg11(init_weights=False).eval()
    for weight in oracle.parameters():
        weight.data.mul_(6**0.5)  # as drawn, they would leave nothing of the image
    monkeypatch.setattr(pretrained, "fetched", lambda model: {"A": tmp_path / "vgg11.pth"}[model])
    torch.save(oracle.state_dict(), tmp_path / "vgg11.pth")
    predictor = vgg.load("torchvision:vgg11")
    assert (predictor.scales, predictor.map_scale) == ((256,), 512)
    photo = noise(3, 120, 86).crop((0, 0, 340, 256))  # nothing to be resampled
    levels = functional.center_crop(functional.to_tensor(photo), 224)
    with torch.no_grad():
        scores = oracle(functional.normalize(levels, pretrained.TORCHVISION_MEAN, pretrained.TORCHVISION_STD)[None])
    expected = scores.softmax(1)[0]
    assert expected.max() > 2 / 1000
    torch.testing.assert_close(predictor.posterior(photo, "center"), expected, rtol=1e-3, atol=1e-6)
    names = torchvision.models.VGG11_Weights.IMAGENET1K_V1.meta["categories"]
    assert predictor.ranked(expected, 1)[0][0] == names[expected.argmax()]


def test_a_map_has_each_cells_score_in_the_middle_of_the_cells_window():
    scores = torch.tensor([[0.0, 1.0, 4.0], [2.0, 8.0, 3.0]])
    for scale in (1.0, 0.125):
        net = VGG("A", 3, scale, 1 / 64)
        crop, step = net.crop, net.stride
        height, width = crop + step, crop + 2 * step
        found = score_maps.upsampled(scores, net, height, width)
        assert found.shape == (height, width)
        for i, j in np.ndindex(2, 3):
            y, x = step * i + crop // 2, step * j + crop // 2  # between four pixels
            assert abs(found[y - 1 : y + 1, x - 1 : x + 1].mean() - scores[i, j]) < (0.1 if scale == 1 else 0.6)
        assert torch.equal(found[:4, :4], torch.full((4, 4), float(found[0, 0])))  # beyond the outermost cells
    assert torch.equal(score_maps.upsampled(torch.tensor([[2.0]]), net, 30, 35), torch.full((30, 35), 2.0))


def predicted(monkeypatch, capsys, *words: object) -> tuple[str | int | None, str]:
    """What `python -m vgg predict` ends with, None for success, and prints."""
    monkeypatch.setattr(sys, "argv", ["vgg", "predict", *map(str, words)])
    ended = None
    try:
        main()
    except SystemExit as stop:
        ended = stop.code
    return ended, capsys.readouterr().out


def test_the_command_prints_the_most_probable_classes_and_names_what_it_cannot_read(
    folder, predictor, photos, tmp_path, monkeypatch, capsys
):
    good, other = photos / "ant" / "0.png", photos / "bee" / "0.png"
    missing, broken = photos / "no.jpg", tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:300])
    options = ("--run", f"photos/D-jitter{SMALL}", "--runs", folder, "--method", "dense", "--maps", tmp_path / "maps")
    ended, shown = predicted(monkeypatch, capsys, good, missing, broken, other, *options)
    first, *parts = shown.split("\n\n")
    assert first == f"photos/D-jitter{SMALL}, dense, Q = 256, 384, 512"
    for part, path in zip(parts, (good, other), strict=True):
        name, *lines = part.strip().split("\n")
        assert name == str(path)
        expected = [f"{100 * p:.1f} % {name}" for name, p in predictor.top(path, method="dense")]
        assert [" ".join(line.split()) for line in lines] == expected
        assert len({line.index("%") for line in lines}) == 1
    first, second = str(ended).removeprefix("error: ").split("\n")
    assert first == f"{missing} cannot be read: No such file or directory"
    assert second.startswith(f"{broken} cannot be read: ")
    found = sorted((tmp_path / "maps").iterdir())
    assert [path.name for path in found] == ["1-0.png", "4-0.png"]
    with Image.open(found[0]) as drawn:
        assert drawn.format == "PNG"
        assert np.asarray(drawn).std() > 10
    ended, _ = predicted(monkeypatch, capsys, good, *options)
    assert ended is None
    assert (tmp_path / "maps" / "0.png").is_file()


def test_two_photos_of_one_name_have_maps_of_their_own():
    assert commands_predict.map_names([Path("a/x.jpg"), Path("a/y.png")]) == ["x.png", "y.png"]
    assert commands_predict.map_names([Path("a/x.jpg"), Path("b/x.jpg")]) == ["1-x.png", "2-x.png"]


def test_to_import_the_package_alone_is_quick():
    code = "import sys, vgg; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; vgg.load"
    code += "; assert 'torch' in sys.modules and 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="loud"):
        _ = vgg.loud
