from types import SimpleNamespace

import torch
from pytorch_lightning.callbacks import TQDMProgressBar

from vgg.training.progress import Bar


def test_the_bar_has_the_mean_loss_of_the_epochs_images_and_the_learning_rate(monkeypatch):
    monkeypatch.setattr(TQDMProgressBar, "get_metrics", lambda *unused: {"v_num": 0, "val/top1_error": 12.0})
    trainer = SimpleNamespace(optimizers=[SimpleNamespace(param_groups=[{"lr": 0.001}])])
    module = SimpleNamespace(sums=torch.tensor([30.0, 500.0, 200.0, 20.0]))  # of 20 images: loss, errors in %, images
    assert Bar().get_metrics(trainer, module) == {"lr": "0.001", "val/top1_error": 12.0, "loss": "1.500"}
    module.sums = None
    assert "loss" not in Bar().get_metrics(trainer, module)
