"""Lightning 2.6.6 has what src/vgg/launch/lightning_internals.py leans on, and what made Plateau a callback."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from vgg.launch.lightning_internals import count_in, take_ranks, without_anonymous

OTHER = f"src/vgg/launch/lightning_internals.py was written for Lightning 2.6.6, this is {pl.__version__}"


class Fitted(BoringModel):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val"}}

    def validation_step(self, batch, batch_index):
        self.log("val", self.step(batch))


@pytest.fixture
def checkpoint(tmp_path):
    """What is saved of a training of 6 micro-batches an epoch, two a step."""

    def saved(**when) -> dict:
        saving = ModelCheckpoint(tmp_path, filename="one", save_top_k=-1, **when)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=6,
            limit_val_batches=1,
            accumulate_grad_batches=2,
            callbacks=[saving],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Fitted())
        return torch.load(saving.best_model_path, weights_only=True)

    return saved


def test_a_checkpoint_counts_micro_batches_and_inside_an_epoch_the_last_is_not_completed(checkpoint):
    def counts() -> dict:
        return inside["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]

    inside = checkpoint(every_n_train_steps=2)
    assert counts() == {"ready": 4, "started": 4, "processed": 4, "completed": 3}, OTHER
    count_in(inside, 2, 4)
    assert counts() == {"ready": 8, "started": 8, "processed": 8, "completed": 7}
    count_in(inside, 4, 1)
    assert counts() == {"ready": 2, "started": 2, "processed": 2, "completed": 1}


def test_an_epochs_checkpoint_is_written_before_reduce_lr_on_plateau_steps(checkpoint):
    """Where this fails, a scheduler of configure_optimizers can take the place of training/learning_rate.py."""
    (scheduler,) = checkpoint(every_n_epochs=1, save_on_train_epoch_end=True)["lr_schedulers"]
    assert scheduler["last_epoch"] == 0, OTHER


def test_the_ranks_that_lightning_starts_can_be_taken_from_its_launcher():
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1)
    assert launcher.procs == [], OTHER
    launcher.procs.append("rank 1")
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy._launcher = launcher
    assert take_ranks(trainer) == ["rank 1"], OTHER
    assert launcher.procs == []


def test_wandbs_logger_has_the_argument_that_is_taken_from_it(tmp_path):
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    assert "anonymous" in logger._wandb_init, OTHER
    assert "anonymous" not in without_anonymous(logger)._wandb_init
