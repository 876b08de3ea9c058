"""A printed line an epoch, and the bar."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from vgg.core.text import duration, spoken


class EpochLines(Callback):
    """One printed line an epoch, and the learning rate and speed for the loggers."""

    def __init__(self, run: str, batch: int):
        self.run, self.batch = run, batch
        self.speed = 0.0  # images/s over all ranks in the last epoch of this process; 0: none

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, module)  # which Lightning does not call when it resumes inside an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started, self.first_step = time.monotonic(), trainer.global_step

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        seconds = time.monotonic() - self.started
        self.speed = self.batch * (trainer.global_step - self.first_step) / seconds
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        module.log_dict({"lr": self.rate, "images_per_second": self.speed}, rank_zero_only=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        shown, steps_left = trainer.callback_metrics, int(trainer.estimated_stepping_batches) - trainer.global_step
        taken, left = trainer.global_step - self.first_step, ""
        if steps_left and taken:
            left = f"  {duration(steps_left * (time.monotonic() - self.started) / taken)} left"
        errors = "  ".join(
            f"{spoken(f'{name}_error')} {shown[f'val/{name}_error']:.2f} %" for name in module.accuracies
        )
        module.print(  # above the bar, where there is one
            f"{self.run}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            f"  loss {shown['train/loss']:.3f}  {errors}  lr {self.rate:g}  {self.speed:.0f} images/s{left}"
        )


class Bar(TQDMProgressBar):
    """Lightning's bar with the learning rate, the epoch's mean loss and the last validation's errors, epochs from 1."""

    def on_train_epoch_start(self, trainer: pl.Trainer, *unused: Any) -> None:
        super().on_train_epoch_start(trainer, *unused)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        shown = {key: value for key, value in super().get_metrics(trainer, module).items() if key != "v_num"}
        if module.sums is not None:
            total, images = module.sums[0], module.sums[-1]
            shown["loss"] = f"{float(total / images):.3f}"
        return {"lr": f"{trainer.optimizers[0].param_groups[0]['lr']:g}", **shown} if trainer.optimizers else shown
