"""What leans on Lightning's insides, as 2.6.6 has them; tests/test_lightning_internals.py looks whether they are so."""

import subprocess
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger


def take_ranks(trainer: pl.Trainer) -> list[subprocess.Popen]:
    """The processes that Lightning has started here, away from its observer: it kills rank 0 when one has failed."""
    started = getattr(trainer.strategy.launcher, "procs", [])
    ranks, started[:] = list(started), []
    return ranks


def count_in(checkpoint: dict[str, Any], before: int, now: int) -> None:
    """Let a checkpoint that counts micro-batches of a rank, `before` a step, count the steps behind it by `now` a step.

    Inside an epoch `completed` is one less than `processed`, by which Lightning knows that.
    """
    for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
        if isinstance(counts, dict):
            processed = counts["processed"]
            counts.update({key: processed // before * now - (processed - count) for key, count in counts.items()})


def without_anonymous(logger: WandbLogger) -> WandbLogger:
    """The logger without an argument that it passes on, and that W&B warns of."""
    logger._wandb_init.pop("anonymous", None)
    return logger
