"""What happens around the steps of section 3.1: plateau, finite loss, checkpoints and signals, a line an epoch."""

import math
import signal
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from torch import Tensor

from vgg.config import UserError
from vgg.files import write_whole
from vgg.process import STOPPING
from vgg.runs import spoken
from vgg.text import duration

MEASURES = ("loss", "most_frequent_answer")  # of a classifier's validation, beside the errors
DECREASES = 3  # of the learning rate, each by 10; the plateau after them ends the training


class Plateau(Callback):
    """The learning rate is divided by 10 when validation top-1 stops improving; three decreases, then the end.

    Steps at the end of validation, before the epoch's checkpoint, so that a resumed run takes the same steps.
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.best, self.waited, self.decreases, self.ended = math.inf, 0, 0, False
        self.errors: dict[str, float] = {}  # of the last validation; beside them MEASURES

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        shown = trainer.callback_metrics
        names = [*(f"{name}_error" for name in module.accuracies), *(MEASURES if f"val/{MEASURES[0]}" in shown else ())]
        self.errors = {name: float(shown[f"val/{name}"]) for name in names}
        self.adapt(trainer)

    def adapt(self, trainer: pl.Trainer) -> None:
        """Lower the learning rate, or end the training, where the last validation's error asks for it."""
        error = next(iter(self.errors.values()))
        self.waited = 0 if error < self.best else self.waited + 1
        self.best = min(error, self.best)
        if self.waited < self.patience:
            return
        self.waited = 0
        if self.decreases == DECREASES:
            self.ended = trainer.should_stop = True
            return
        self.decreases += 1
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= 0.1

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.ended

    def state_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("best", "waited", "decreases", "ended", "errors")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Steps(Plateau):
    """The learning rate falls at given shares of the epochs instead: [share, factor on the first learning rate], ..."""

    def __init__(self, schedule: list[list[float]]):
        super().__init__(patience=0)
        self.schedule = schedule

    def factor(self, share: float) -> float:
        """On the learning rate when this share of the epochs is over."""
        return next((factor for start, factor in reversed(self.schedule) if share >= start), 1.0)

    def adapt(self, trainer: pl.Trainer) -> None:
        over = trainer.current_epoch + 1
        now, then = (self.factor(epochs / trainer.max_epochs) for epochs in (over - 1, over))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= then / now


class FiniteLoss(Callback):
    """A loss that is not a finite number ends the training. Looks every few steps: each look waits for the device."""

    EVERY = 20

    def __init__(self) -> None:
        self.recent: list[Tensor] = []
        self.last_finite = math.nan

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self.recent.append(outputs["loss"].detach())
        if len(self.recent) == self.EVERY or trainer.is_last_batch:
            self.look(trainer)

    def look(self, trainer: pl.Trainer) -> None:
        """Called before every checkpoint too, so that none holds weights that are not numbers."""
        if not self.recent:
            return
        losses = trainer.strategy.reduce(torch.stack(self.recent), reduce_op="mean").tolist()
        first = trainer.fit_loop.epoch_loop.total_batch_idx + 1 - len(losses)
        self.recent.clear()
        for number, loss in enumerate(losses, start=first):
            if not math.isfinite(loss):
                rate, own = trainer.optimizers[0].param_groups[0]["lr"], trainer.lightning_module.cfg.init.draw == "own"
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
        """Lightning counts micro-batches of a rank: the steps behind them, in the micro-batches of now."""
        before, now = checkpoint["accumulate"], trainer.accumulate_grad_batches
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts.update({key: count // before * now for key, count in counts.items()})

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
