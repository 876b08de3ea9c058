"""Checkpoints that are whole or not there, the signals that ask for one, and losses that are finite."""

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from vgg.core.errors import UserError
from vgg.core.files import write_whole
from vgg.launch.lightning_internals import count_in
from vgg.launch.processes import STOPPING


class FiniteLoss(Callback):
    """A loss that is not a finite number ends the training. Looks every few steps: each look waits for the device."""

    EVERY = 20

    def __init__(self) -> None:
        self.recent: list[Tensor] = []
        self.last_finite = math.nan

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        parts = trainer.accumulate_grad_batches
        self.micro_batches = trainer.global_step * parts + (batch_index + 1) % parts
        self.recent.append(outputs["loss"].detach())
        if len(self.recent) == self.EVERY or trainer.is_last_batch:
            self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        """Called before every checkpoint too, so that none holds weights that are not numbers."""
        if not self.recent:
            return
        losses = trainer.strategy.reduce(torch.stack(self.recent), reduce_op="mean").tolist()
        self.recent.clear()
        for number, loss in enumerate(losses, start=self.micro_batches - len(losses)):
            if not math.isfinite(loss):
                rate, own = trainer.optimizers[0].param_groups[0]["lr"], trainer.lightning_module.hparams.draw == "own"
                weights = "" if own else " or other random weights (init=glorot, init=std001)"
                step = number // trainer.accumulate_grad_batches + 1
                raise UserError(
                    f"the loss is {loss} at step {step}, learning rate {rate:g}, last finite loss {self.last_finite:g}."
                    f" Try a lower learning rate (data.lr=…){weights}"
                )
            self.last_finite = loss * trainer.accumulate_grad_batches


class Interrupted(Exception):
    """Training was asked to stop and left a checkpoint; holds the signal's number."""


class WholeFiles(TorchCheckpointIO):
    """Checkpoints are written under a temporary name and renamed; the one before is kept."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        if path.exists():
            path.replace(path.with_name("previous.ckpt"))
        with write_whole(path) as file:
            torch.save(checkpoint, file)


class Checkpoints(Callback):
    """A checkpoint after every epoch, every so many minutes inside one, and when SIGTERM or Ctrl-C asks to stop.

    A signal waits for the end of the step in the air, or of the validation; a second Ctrl-C does not. A run that was
    stopped inside an epoch goes on with any number of devices and micro-batches: a checkpoint is between two steps.
    """

    # Not Lightning 2.6.6's ModelCheckpoint: by the minute it also saves inside a step of several micro-batches, whose
    # gradients are then lost, and after SIGTERM Lightning ends with status 0.

    def __init__(self, run: str, path: Path, minutes: float, finite: FiniteLoss):
        self.run, self.path, self.seconds, self.finite = run, path, 60 * minutes, finite
        self.signal, self.saved_at = 0, time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        def stop(number: int, frame: Any) -> None:
            if self.signal == signal.SIGINT == number:
                raise KeyboardInterrupt
            self.signal = number

        for number in STOPPING:
            signal.signal(number, stop)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"], checkpoint["accumulate"] = self.run, trainer.accumulate_grad_batches

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        count_in(checkpoint, checkpoint["accumulate"], trainer.accumulate_grad_batches)

    def save(self, trainer: pl.Trainer) -> None:
        self.finite.look(trainer)
        trainer.save_checkpoint(self.path, weights_only=False)
        self.saved_at = time.monotonic()

    def asked_to_stop(self, trainer: pl.Trainer) -> int:
        """The signal that any rank received, or 0."""
        if trainer.world_size == 1:
            return self.signal
        return int(
            trainer.strategy.reduce(torch.tensor(self.signal, device=trainer.strategy.root_device), reduce_op="max")
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        step, inside = divmod(batch_index + 1, trainer.accumulate_grad_batches)
        if inside or trainer.is_last_batch or (trainer.world_size > 1 and step % 10):
            return
        due = trainer.strategy.broadcast(time.monotonic() - self.saved_at > self.seconds)
        if (number := self.asked_to_stop(trainer)) or due:
            self.save(trainer)
        if number:
            raise Interrupted(number)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.save(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Of the next epoch: the loggers have the last one's line by then."""
        if number := self.asked_to_stop(trainer):
            raise Interrupted(number)
