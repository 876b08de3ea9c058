"""What only a GPU can show. `python -m pytest -m gpu` runs these alone; without CUDA they are skipped."""

import copy
import signal

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROUNDING, SMALL, TINY, composed, difference, training_difference
from torch.utils.data import DataLoader

from vgg.core.config import VIEWS
from vgg.evaluation.views import posteriors
from vgg.launch.trainer import lightning_trainer
from vgg.nets import initialisation
from vgg.nets.vgg import VGG
from vgg.runs.run import Run
from vgg.training import fit as training_fit
from vgg.training.checkpoints import Checkpoints, Interrupted
from vgg.training.modules import Classifier

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


def batch(images: int = 16, crop: int = 28) -> tuple[torch.Tensor, ...]:
    """What a module is trained on: crops, labels, colour shift, keys of dropout."""
    drawn = torch.Generator().manual_seed(0)
    return (
        torch.randint(256, (images, crop, crop, 3), dtype=torch.uint8, generator=drawn),
        torch.randint(10, (images,), generator=drawn),
        5 * torch.randn(images, 3, 1, 1, generator=drawn),
        torch.randint(2**32, (images,), generator=drawn),
    )


class UntilTheFirstStep(pl.Callback):
    """End when the weights have changed: in 16-mixed the first steps are left out until their scale fits."""

    def on_train_start(self, trainer, module):
        self.drawn = copy.deepcopy(module.net.state_dict())

    def on_train_batch_end(self, trainer, module, *unused):
        trainer.should_stop = not torch.equal(module.net.fc8.weight, self.drawn["fc8.weight"])


def step(net: str, *overrides: str, compiled: bool = False) -> tuple[dict, dict]:
    """A net's weights as they were drawn, and after one step of SGD on a device, both on the CPU."""
    module = Classifier(net, 10, scale=0.125, width=1 / 8, dropout=0.5, draw="glorot", lr=1e-3)
    drawn = copy.deepcopy(module.net.state_dict())
    if compiled:
        module.net.compile()
    first = UntilTheFirstStep()
    how = {"logger": False, "max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    trainer = lightning_trainer(composed(*overrides).trainer, callbacks=[first], **how)
    trainer.fit(module, DataLoader([batch()] * 20, batch_size=None))
    return drawn, {name: tensor.cpu() for name, tensor in module.net.state_dict().items()}


@pytest.mark.parametrize("net", ["A-LRN", "D"])
@pytest.mark.parametrize(("precision", "accuracy"), [("32-true", 1e-3), ("16-mixed", 0.05), ("bf16-mixed", 0.3)])
def test_a_step_with_dropout_is_the_cpus_to_the_precisions_accuracy(net, precision, accuracy):
    drawn, on_cpu = step(net, "trainer=cpu")
    _, on_gpu = step(net, "trainer=gpu", f"trainer.precision={precision}")
    assert 0 < difference(on_gpu, on_cpu, drawn) < accuracy


def test_a_compiled_step_is_the_plain_ones():
    drawn, plain = step("A", "trainer=gpu")
    assert difference(step("A", "trainer=gpu", compiled=True)[1], plain, drawn) < 1e-3


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("softmax", ["last", "first"])
def test_every_view_gives_the_cpus_posteriors(view, softmax):
    net = VGG("D", 10, 0.25, 1 / 8).eval().requires_grad_(False)
    initialisation.draw(net, "kaiming", 1)
    net.fc8.weight.mul_(0.02)
    images = 255 * torch.rand(3, 3, 72, 96, generator=torch.Generator().manual_seed(0))
    expected = posteriors(net, images, view, softmax)
    found = posteriors(net.cuda().to(memory_format=torch.channels_last), images.cuda(), view, softmax)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-5)


def trained(folder, name: str, *options: str) -> Run:
    """A run on one GPU or several, in this process or in one for each."""
    made = Run.named(name, folder / "runs")
    with made.lock():
        made.prepare(composed(*options), None)
        training_fit.fit(made)
    return made


def test_a_run_stopped_inside_an_epoch_goes_on_where_it_was(scenes, tmp_path, monkeypatch):
    tiny = [option for option in TINY if not option.startswith("trainer=")]
    options = ("model=A", "train_scale=S256", "data.epochs=2", "logger=csv", "trainer=gpu", *tiny)
    options, name = (*options, f"data.root={scenes}", "data.lr=2e-5"), f"scenes/A-256{SMALL}-epochs2-lr2e-05"
    whole = trained(tmp_path / "whole", name, *options)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "asked_to_stop", lambda self, trainer: trainer.global_step == 3 and signal.SIGTERM)
        with pytest.raises(Interrupted):
            trained(tmp_path / "parts", name, *options)
    assert training_difference(trained(tmp_path / "parts", name, *options), whole) < ROUNDING


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two CUDA devices")
def test_all_devices_train_what_one_does(scenes, tmp_path):
    tiny = [option for option in TINY if not option.startswith(("trainer=", "data.batch="))]
    devices = torch.cuda.device_count()
    options = ("model=A", "train_scale=S256", "data.epochs=1", "logger=csv", "data.lr=2e-5", *tiny)
    options, name = (*options, f"data.root={scenes}", f"data.batch={2 * devices}"), "scenes/A-256"
    one = trained(tmp_path / "one", name, *options, "trainer=gpu", "trainer.devices=1")
    several = trained(tmp_path / "several", name, *options, "trainer=ddp", f"trainer.devices={devices}")
    assert training_difference(several, one) < ROUNDING


def test_net_d_at_224_trains_a_batch_of_256_in_micro_batches_of_32_within_16_gb():
    if torch.cuda.get_device_properties(0).total_memory < 20e9:
        pytest.skip("the GPU has less than 20 GB of memory")
    module = Classifier("D", 10)
    how = {"logger": False, "max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    cfg = composed("trainer=gpu", "trainer.precision=bf16-mixed").trainer
    trainer = lightning_trainer(cfg, accumulate_grad_batches=8, **how)
    torch.cuda.reset_peak_memory_stats()
    trainer.fit(module, DataLoader([batch(32, 224)] * 8, batch_size=None))
    assert trainer.global_step == 1
    assert torch.cuda.max_memory_allocated() < 16e9
