"""A run in other programs' formats, read back by those programs."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from conftest import composed
from safetensors import safe_open

from vgg.core.errors import UserError
from vgg.nets import initialisation, pretrained
from vgg.nets.vgg import VGG
from vgg.prediction import export
from vgg.runs import weights
from vgg.runs.run import Run


def scene(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, height, width)).astype(np.float32))


def drawn(net: VGG) -> VGG:
    initialisation.draw(net, "kaiming", 1)
    net.mean.copy_(torch.tensor([100.0, 110.0, 120.0]))
    return net.eval()


@pytest.fixture
def small(tmp_path) -> Run:
    """A finished run of a tiny net C."""
    cfg = composed("model=C", "train_scale=S256", f"dirs.runs={tmp_path}")
    run = Run.named("digits/C-256", tmp_path)
    run.prepare(cfg, None)
    weights.save(run, drawn(weights.build(cfg, 10)), tuple("0123456789"))
    return run


def test_torchvisions_own_module_gives_the_same_scores_from_the_exported_state():
    net = drawn(VGG("A", 3))
    oracle = torchvision.models.vgg11(num_classes=3).eval()
    state = export.to_torchvision(net, "A")
    oracle.load_state_dict(state)
    image = scene(224, 224)
    normalised = torchvision.transforms.functional.normalize(
        image / 255, (net.mean / 255).tolist(), pretrained.TORCHVISION_STD
    )
    with torch.no_grad():
        torch.testing.assert_close(oracle(normalised), net(image), rtol=1e-3, atol=1e-3)
    back = pretrained.from_torchvision(state, "A")
    for name, value in net.state_dict().items():
        if name != "mean":  # which torchvision's users give to Normalize
            torch.testing.assert_close(back[name], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("model", "net"), [("C", {}), ("D", {"width": 0.5}), ("D", {"scale": 0.5}), ("D", {"ceil_mode": True})]
)
def test_nets_that_torchvision_does_not_have_are_refused(model, net):
    with pytest.raises(UserError, match="torchvision"), torch.device("meta"):
        export.to_torchvision(VGG(model, **net), model)


def test_safetensors_holds_every_tensor_and_says_what_it_is(small, tmp_path):
    path, _ = export.export(small, "safetensors", tmp_path / "net.safetensors")
    state = weights.load(small)[0].state_dict()
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in state.items())
        assert json.loads(file.metadata()["classes"]) == list("0123456789")
        assert file.metadata()["model"] == "C"


def test_onnx_gives_dense_posteriors_at_any_size(small, tmp_path):
    path, _ = export.export(small, "onnx", tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(path)
    net, _ = weights.load(small)
    for size in ((56, 56), (97, 140)):
        image = scene(*size)
        with torch.no_grad():
            expected = net(image).softmax(1).numpy()
        (found,) = session.run(None, {"images": image.numpy()})
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(UserError, match="not finished"):
        export.export(Run.named("digits/E-256", tmp_path), "onnx")
