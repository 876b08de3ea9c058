"""A training run in Weights & Biases: its curves, some crops as they are trained on, and its weights."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from vgg.core.config import TrainConfig
from vgg.core.errors import UserError
from vgg.data.crops import TrainingOrder
from vgg.launch.lightning_internals import without_anonymous
from vgg.runs.run import Run
from vgg.training.wandb_session import depth, failure, failures, first_line, identifier, require_login

EXAMPLES = 8  # training crops that a run shows


class Curves(WandbLogger):
    """W&B's logger under the run's name: a resumed run goes on with its curve, over the number of steps.

    Offline, each resumption writes a folder of its own with the same id, which `wandb sync` puts in order.
    """

    @classmethod
    def of(cls, cfg: TrainConfig, run: Run) -> "Curves | None":
        """The logger that the configuration asks for. Raises UserError where it is online and nobody is logged in."""
        if cfg.logger.wandb == "disabled":
            return None
        if cfg.logger.wandb == "online":
            require_login()
        record = run.record()
        names = {
            "run": run.name,
            "cell": run.cell,
            "dataset": cfg.data.name,  # W&B filters by keys of the top level only
            "depth": depth(cfg.model.name),
            "parent": record["parent"],
            "parent_sha256": record["parent_sha256"],
        }
        curves = cls(
            name=run.name,
            id=identifier(run.name),
            save_dir=run.folder,
            project=cfg.logger.project,
            group=cfg.logger.group or cfg.data.name,
            job_type="train",
            offline=cfg.logger.wandb == "offline",
            config=asdict(cfg) | names,
        )
        return without_anonymous(curves)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, started at the first call."""
        try:
            return super().experiment
        except failures() as error:
            raise UserError(failure(error)) from error

    def log_hyperparams(self, *unused: Any, **more: Any) -> None:
        """Nothing: the configuration says them all, by its own keys."""

    def keep_weights(self, run: Run) -> None:
        """Of a finished run: the weights' sha256; online the weights themselves too, made from the parent's."""
        import wandb

        record = run.record()
        sha, parent = record["weights_sha256"], record["parent"]
        self.experiment.summary["weights_sha256"] = sha
        if self._offline:
            return
        if parent is not None:
            with said(f"{run.name}: the weights of its parent {parent} are not in W&B"):
                self.experiment.use_artifact(f"{identifier(parent)}:{record['parent_sha256'][:12]}", type="model")
        with said(f"{run.name}: W&B has not taken its weights"):
            metadata = {"run": run.name, "cell": run.cell, "sha256": sha}
            artifact = wandb.Artifact(identifier(run.name), type="model", metadata=metadata)
            artifact.add_file(str(run.weights))
            self.experiment.log_artifact(artifact, aliases=["latest", sha[:12]])


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    """Around what W&B may refuse to a run that is finished: a line says so, and the run stays finished."""
    try:
        yield
    except (*failures(), ValueError) as error:  # a ValueError: there is no such artifact
        print(f"{what} ({first_line(error)})", flush=True)


class ExampleCrops(Callback):
    """Once, at the start of a run: the first crops of its first step, before mean and colour shift, each with its S."""

    def __init__(self, curves: Curves):
        self.curves = curves

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.global_step or not trainer.is_global_zero:
            return
        data, images = trainer.datamodule, trainer.datamodule.train
        crops, order = data.training_crops(), TrainingOrder(len(images), data.hparams.batch, 0, 1, data.hparams.seed)
        drawn = [crops.drawn(*key) for key in islice(order, EXAMPLES)]
        self.curves.log_image(
            "training_crops",
            [Image.fromarray(crop.numpy()) for crop, *_ in drawn],
            step=0,
            caption=[f"{images.classes[label]}, S = {scale}" for _, label, *_, scale in drawn],
        )
