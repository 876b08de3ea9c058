"""Published weights: formats made here, read back against independent forward passes."""

import fcntl

import cv2
import numpy as np
import pytest
import torch
import torchvision
from conftest import composed, run

from vgg.core.errors import UserError
from vgg.nets import caffe, initialisation, pretrained
from vgg.nets.base import FC_LAYERS
from vgg.nets.vgg import VGG
from vgg.runs import plan, published, weights
from vgg.runs.run import Run
from vgg.training import fit as training_fit

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224)).astype(np.float32))


@pytest.fixture(scope="module")
def narrow() -> VGG:
    """Net D with a sixteenth of the channels and five classes, at scale 1; biases that are not zero."""
    net = VGG("D", 5, 1.0, 1 / 16).eval()
    initialisation.draw(net, "kaiming", 3)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0, 0.1, generator=generator)
    net.mean.copy_(torch.tensor(caffe.IMAGENET_MEAN))
    return net


def caffemodel(net: VGG, old: bool) -> bytes:
    """As the authors' files hold it, V1 layers with four legacy dimensions, BGR, fc as (1, 1, out, in); or newer."""
    made = caffe.caffe_net()()
    for name, layer in net.named_children():
        one = (made.layers if old else made.layer).add(name=name)
        weight = layer.weight.detach().numpy()
        weight = weight[:, ::-1] if name == "conv1_1" else weight
        if name in FC_LAYERS:
            weight = weight.reshape(1, 1, len(weight), -1) if old else weight.reshape(len(weight), -1)
        bias = layer.bias.detach().numpy()
        for values in (weight, bias.reshape(1, 1, 1, -1) if old else bias):
            blob = one.blobs.add(data=values.ravel().tolist())
            if old:
                blob.num, blob.channels, blob.height, blob.width = values.shape
            else:
                blob.shape.dim.extend(values.shape)
    return made.SerializeToString()


def prototxt(net: VGG) -> str:
    """The deploy file that goes with it, for another program."""
    text = ['name: "narrow"', 'input: "data"', "input_dim: 1", "input_dim: 3", "input_dim: 224", "input_dim: 224"]
    bottom = "data"

    def layer(name: str, kind: str, more: str = "", top: str | None = None) -> None:
        nonlocal bottom
        top = top or name
        text.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {more} }}')
        bottom = top

    for number, block in enumerate(net.blocks, start=1):
        for name in block:
            out = net.get_submodule(name).out_channels
            layer(name, "Convolution", f"convolution_param {{ num_output: {out} kernel_size: 3 pad: 1 }}")
            layer(f"relu{name[4:]}", "ReLU", top=name)
        layer(f"pool{number}", "Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    for name in FC_LAYERS:
        layer(name, "InnerProduct", f"inner_product_param {{ num_output: {net.get_submodule(name).out_channels} }}")
        if name != "fc8":
            layer(f"relu_{name}", "ReLU", top=name)
    return "\n".join(text)


@pytest.mark.parametrize("old", [True, False], ids=["V1", "newer"])
def test_a_caffemodel_gives_the_scores_that_opencv_reads_from_it(narrow, old, tmp_path):
    content = caffemodel(narrow, old)
    (tmp_path / "net.caffemodel").write_bytes(content)
    (tmp_path / "net.prototxt").write_text(prototxt(narrow))
    oracle = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    bgr = IMAGE.numpy()[:, ::-1] - np.array(caffe.IMAGENET_MEAN[::-1], dtype=np.float32).reshape(1, 3, 1, 1)
    expected = []
    for image in bgr:
        oracle.setInput(np.ascontiguousarray(image[None]))
        expected.append(oracle.forward()[0])
    found = VGG("D", 5, 1.0, 1 / 16).eval()
    found.load_state_dict(caffe.from_caffe(content, "D"))
    with torch.no_grad():
        scores = found(IMAGE).numpy()
    np.testing.assert_allclose(scores, np.stack(expected), rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    for name, value in narrow.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name


def test_another_file_than_a_caffemodel_of_the_net_is_refused(narrow, tmp_path):
    path = tmp_path / "x.caffemodel"
    cfg = composed("weights=caffe", f"weights.path={path}", "model=E", f"dirs.runs={tmp_path}")
    with pytest.raises(UserError, match="no such file"):
        published.imported(cfg)
    for content, why in ((caffemodel(narrow, True), "conv3_4"), (b"not a caffemodel", "does not hold"), (b"", "none")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=why):
            published.imported(cfg)
    path.write_bytes(caffemodel(narrow, True)[:-1000])
    with pytest.raises(UserError, match="does not hold"):
        published.imported(cfg)


@pytest.fixture(scope="module")
def vgg11(tmp_path_factory):
    """torchvision's own vgg11 with three classes, and its state_dict in a file."""
    torch.manual_seed(5)
    net = torchvision.models.vgg11(num_classes=3).eval()
    for layer in net.classifier:
        if isinstance(layer, torch.nn.Linear):  # torchvision draws these so small that every score is nearly 0
            torch.nn.init.kaiming_normal_(layer.weight)
    path = tmp_path_factory.mktemp("published") / "vgg11.pth"
    torch.save(net.state_dict(), path)
    return net, path


def test_torchvisions_weights_become_a_finished_run_with_torchvisions_own_scores(vgg11, tmp_path, monkeypatch):
    oracle, path = vgg11
    cfg = composed("weights=torchvision", f"weights.path={path}", "model=A", f"dirs.runs={tmp_path}")

    def save(run: Run, *arguments: object) -> str:
        """While another process that wants the same weights waits."""
        with (run.folder / ".lock").open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return weights.save(run, *arguments)

    monkeypatch.setattr(published, "save", save)
    made = published.imported(cfg)
    assert made == Run.named("torchvision/A", tmp_path)
    assert made.record()["source_sha256"] == published.sha256_of_file(path)
    net, classes = weights.load(made)
    assert len(classes) == 3
    normalised = torchvision.transforms.functional.normalize(
        IMAGE / 255, pretrained.TORCHVISION_MEAN, pretrained.TORCHVISION_STD
    )
    with torch.no_grad():
        torch.testing.assert_close(net(IMAGE), oracle(normalised), rtol=1e-3, atol=1e-3)
    assert published.imported(cfg) == made
    other = tmp_path / "other.pth"
    other.write_bytes(b"other weights")
    with pytest.raises(UserError, match="another file"):
        published.imported(composed("weights=torchvision", f"weights.path={other}", "model=A", f"dirs.runs={tmp_path}"))


@pytest.mark.long
def test_published_nets_are_evaluated_without_training_and_are_parents_with_a_fresh_fc8(vgg11, root, tmp_path_factory):
    _, path = vgg11
    folder = tmp_path_factory.mktemp("further")
    photos = folder / "photos"
    photos.mkdir()
    (photos / "val").symlink_to(root)  # no training images are asked for
    options = ("data=folder", f"data.root={photos}", "data.scale=1", "data.width=1", "logger=csv", "trainer=cpu")
    source = ("model=A", "weights=torchvision", f"weights.path={path}")
    output = run(folder, "evaluate.py", *source, *options, "eval_method=center", "test_scale=single")
    assert "torchvision/A, centre crop, 12 images" in output
    cfg = composed(*source, *options, "layers=fc", f"dirs.runs={folder / 'runs'}")
    (step,) = plan.lineage(cfg)
    assert (step.run.name, step.parent.name) == ("photos/A-jitter-fc-torchvision-scale1-width1", "torchvision/A")
    step.run.prepare(cfg, step.parent)
    before = weights.load(step.parent)[0].state_dict()
    net = weights.build(cfg, 3)
    initialisation.draw(net, cfg.init.draw, cfg.seed)
    training_fit.start_from_parent(net, cfg, step.run, ("ant", "bee", "cat"))
    started = net.state_dict()
    same = {key for key in started if torch.equal(started[key], before[key])}
    assert set(started) - same == {"fc8.weight"}  # the biases of both are 0


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("weights=torchvision", "model=C", "data.scale=1", "data.width=1"), "model=C"),
        (("weights=torchvision", "model=D"), "data.scale=1"),
        (("weights=torchvision", "init.parent=x/D-256", "data.scale=1", "data.width=1"), "init.parent"),
    ],
)
def test_what_published_weights_cannot_be_is_refused(overrides, named, tmp_path):
    with pytest.raises(UserError, match=named):
        plan.lineage(composed(*overrides, f"dirs.runs={tmp_path}"))
