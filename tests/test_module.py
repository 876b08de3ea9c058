"""The LightningModule and the LightningDataModule, each by itself and together in any `pl.Trainer`."""

import re

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from vgg.core.paths import REPOSITORY
from vgg.data import digits
from vgg.data.datamodule import ImageData
from vgg.nets.state_dicts import sha256_of_tensors
from vgg.training.learning_rate import Plateau, Steps
from vgg.training.modules import Classifier

TINY_A = {"model": "A", "scale": 0.125, "width": 1 / 64, "draw": "glorot"}


@pytest.fixture
def trainer(tmp_path):
    def made(*callbacks: pl.Callback, **how: object) -> pl.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return pl.Trainer(accelerator="cpu", default_root_dir=tmp_path, callbacks=list(callbacks), **quiet | how)

    return made


def batches(count: int, classes: int = 3) -> list[tuple[torch.Tensor, ...]]:
    """Training batches of 4 by the documented layout, of no data set."""
    draw = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(256, (4, 28, 28, 3), dtype=torch.uint8, generator=draw),
            torch.randint(classes, (4,), generator=draw),
            torch.randn(4, 3, 1, 1, generator=draw),
            torch.randint(2**32, (4,), generator=draw),
        )
        for _ in range(count)
    ]


def test_the_lines_of_the_docs_page_train_test_and_load_a_net(tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "lightning.md").read_text(), re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 10
    monkeypatch.setattr(digits, "SCENES", {"train": 84, "val": 37})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    exec(lines, names := {})
    assert {"test/top1_error", "test/top5_error", "test/loss"} <= set(names["trainer"].logged_metrics)
    best = names["trainer"].checkpoint_callback.best_model_path
    saved = torch.load(best, weights_only=True)["state_dict"]
    assert sha256_of_tensors(names["best"].state_dict()) == sha256_of_tensors(saved)
    assert ImageData.load_from_checkpoint(best, weights_only=True).hparams == names["data"].hparams


def test_the_module_trains_on_any_batches_of_the_layout_with_any_callback_and_logger(trainer, tmp_path):
    module = Classifier(classes=3, **TINY_A)
    loader, val = (DataLoader(batch, batch_size=None) for batch in (batches(6), [one[:2] for one in batches(2)]))
    stopping = EarlyStopping("val/top1_error", patience=0, min_delta=1000)
    made = trainer(stopping, ModelCheckpoint(tmp_path, monitor="val/loss"), logger=CSVLogger(tmp_path), max_epochs=5)
    made.fit(module, loader, val)
    assert made.current_epoch == 2, "EarlyStopping did not see the error"
    assert module.hparams.draw in (tmp_path / "lightning_logs/version_0/hparams.yaml").read_text()
    (tested,) = made.test(module, val, verbose=False)
    assert tested["test/top1_error"] == made.validate(module, val, verbose=False)[0]["val/top1_error"]


def test_training_means_are_logged_where_nothing_is_validated(trainer):
    made = trainer(max_epochs=1, enable_checkpointing=False)
    made.fit(Classifier(classes=3, **TINY_A), DataLoader(batches(2), batch_size=None))
    assert {"train/loss", "train/top1_error"} == set(made.logged_metrics)


@pytest.mark.parametrize("when", [{"every_n_train_steps": 14}, {"every_n_epochs": 1}])
def test_a_training_goes_on_from_lightnings_own_checkpoints_bit_for_bit(when, trainer, scenes, tmp_path):
    def fitted(epochs: int, *callbacks: pl.Callback, start: str | None = None) -> Classifier:
        data = ImageData(scenes, scale=0.125, batch=8, workers=0, cache_dir=tmp_path)
        module = Classifier(classes=10, patience=1, **TINY_A)
        trainer(*callbacks, max_epochs=epochs).fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        return module

    saving = ModelCheckpoint(tmp_path, **when)
    whole = fitted(2, saving)
    first = ModelCheckpoint(tmp_path / "first", save_top_k=-1, **when)
    fitted(2 if "every_n_train_steps" in when else 1, first)
    parts = fitted(2, ModelCheckpoint(tmp_path / "other"), start=first.best_model_path)
    assert sha256_of_tensors(parts.net.state_dict()) == sha256_of_tensors(whole.net.state_dict())


def test_the_rule_of_the_learning_rate_comes_with_the_module_unless_the_trainer_has_one(trainer):
    for schedule, given, expected in (
        (None, [], [(Plateau, 2)]),
        ([[0.5, 0.1]], [], [(Steps, 0)]),
        (None, [Plateau(7)], [(Plateau, 7)]),
    ):
        made = trainer(*given, fast_dev_run=True)
        made.fit(
            Classifier(classes=3, patience=2, schedule=schedule, **TINY_A), DataLoader(batches(1), batch_size=None)
        )
        rules = [(type(one), one.patience) for one in made.callbacks if isinstance(one, Plateau)]
        assert rules == expected


def test_only_validations_of_a_training_count_for_the_plateau(trainer):
    module, val = Classifier(classes=3, **TINY_A), DataLoader([one[:2] for one in batches(2)], batch_size=None)
    made = trainer(max_epochs=1, num_sanity_val_steps=2, enable_checkpointing=False)
    made.fit(module, DataLoader(batches(2), batch_size=None), val)
    made.validate(module, val, verbose=False)
    (rule,) = (callback for callback in made.callbacks if isinstance(callback, Plateau))
    assert (rule.waited, list(rule.errors)) == (0, ["top1_error", "loss", "most_frequent_answer"])


def test_the_optimiser_takes_every_value_of_the_recipe():
    how = {"momentum": 0.7, "weight_decay": 0.03, "nesterov": True, "lr": 0.2}
    for caffe_bias, expected in ((False, [how]), (True, [how, how | {"lr": 0.4, "weight_decay": 0.0}])):
        groups = Classifier(classes=3, caffe_bias=caffe_bias, **how, **TINY_A).configure_optimizers().param_groups
        assert [{key: group[key] for key in how} for group in groups] == expected
        assert [len(group["params"]) for group in groups] == ([11, 11] if caffe_bias else [22])


@pytest.mark.parametrize(("classes", "errors"), [(5, ["top1_error"]), (6, ["top1_error", "top5_error"])])
def test_up_to_five_classes_have_no_top5_error(classes, errors):
    module = Classifier(classes=classes, **TINY_A)
    outputs = torch.eye(classes).roll(1, 0)
    _, found = module.loss(outputs, torch.arange(classes))
    assert list(found) == errors == [f"{name}_error" for name in module.accuracies]
    assert found["top1_error"] == 100
