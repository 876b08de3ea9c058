"""The plateau rule and the schedule (section 3.1)."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from vgg.core.errors import require

MEASURES = ("loss", "most_frequent_answer")  # of a classifier's validation, beside the errors

DECREASES = 3  # of the learning rate, each by 10; the plateau after them ends the training


class Plateau(Callback):
    """The learning rate is divided by 10 when validation top-1 stops improving; three decreases, then the end.

    Steps at the end of a training's validation, before any checkpoint, so that a resumed run takes the same steps.
    """

    def __init__(self, patience: int):
        self.patience = patience
        self.best, self.waited, self.decreases, self.ended = math.inf, 0, 0, False
        self.errors: dict[str, float] = {}  # of the last validation; beside them MEASURES

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
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
        require(trainer.max_epochs > 0, "a schedule is by shares of the epochs: Trainer(max_epochs=…)")
        over = trainer.current_epoch + 1
        now, then = (self.factor(epochs / trainer.max_epochs) for epochs in (over - 1, over))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= then / now
