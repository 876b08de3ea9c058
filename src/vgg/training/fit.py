"""One run, trained or resumed in this process: `python -m vgg fit FOLDER` on a folder that train.py prepared."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from vgg.core.config import TrainConfig
from vgg.core.errors import UserError, require
from vgg.core.files import write_whole
from vgg.core.software import commit, versions
from vgg.data.datamodule import ImageData
from vgg.launch.ranks import together
from vgg.launch.trainer import device_name, lightning_trainer
from vgg.nets import initialisation, state_dicts
from vgg.nets.base import Network
from vgg.runs import weights
from vgg.runs.run import Run
from vgg.training.checkpoints import Checkpoints, FiniteLoss, WholeFiles
from vgg.training.learning_rate import Plateau
from vgg.training.modules import Classifier, Recipe
from vgg.training.progress import Bar, EpochLines
from vgg.training.wandb_logger import Curves, ExampleCrops


def parts(
    cfg: TrainConfig, data_of: Callable[..., ImageData] = ImageData, module_of: Callable[..., Recipe] = Classifier
) -> tuple[Recipe, ImageData]:
    """The LightningModule and the LightningDataModule of a configuration: here its keys become their arguments."""
    data = data_of(
        root=cfg.data.root,
        form=cfg.data.form,
        val=cfg.data.val,
        val_share=cfg.data.val_share,
        download=cfg.data.download,
        scale=cfg.data.scale,
        smin=cfg.train_scale.smin,
        smax=cfg.train_scale.smax,
        mirror=cfg.data.mirror,
        batch=cfg.data.batch,
        seed=cfg.seed,
        workers=cfg.trainer.workers,
        cache=cfg.data.cache,
        cache_dir=cfg.dirs.cache,
        skip_corrupt=cfg.data.skip_corrupt,
    )
    module = module_of(
        model=cfg.model.name,
        classes=len(data.train.classes),
        scale=cfg.data.scale,
        width=cfg.data.width,
        dropout=cfg.model.dropout,
        ceil_mode=cfg.model.ceil_mode,
        draw=cfg.init.draw,
        draw_seed=cfg.seed,
        mean=data.colours.mean.tolist(),
        layers=cfg.layers,
        lr=cfg.learning_rate,
        momentum=cfg.optimizer.momentum,
        weight_decay=cfg.optimizer.weight_decay,
        nesterov=cfg.optimizer.nesterov,
        caffe_bias=cfg.optimizer.caffe_bias,
        patience=cfg.data.patience,
        schedule=cfg.optimizer.schedule,
    )
    return module, data


def start_from_parent(net: Network, cfg: TrainConfig, run: Run, classes: tuple[str, ...]) -> None:
    """Net A's layers or all of the parent's in the place of random ones, as recorded when the run was prepared."""
    parent_name = run.record()["parent"]
    if parent_name is None:
        return
    parent = Run.named(parent_name, cfg.dirs.runs)
    source, source_classes = weights.load(parent)
    layers = [name for name, _ in net.named_children()]
    boxes = cfg.task == "localisation"
    whole = boxes or cfg.train_scale.parent or cfg.init.parent or cfg.weights.source  # otherwise net A's layers
    odd = {name for name, _ in source.named_children()} ^ set(layers)
    if not whole:
        layers = list(initialisation.A_LAYERS)
    elif odd:
        raise UserError(f"{run.name} cannot start from {parent.name}: only one of them has {', '.join(sorted(odd))}")
    if boxes or not weights.same_outputs(source_classes, classes):
        layers.remove(net.classifier[-1])
    try:
        copied = initialisation.copy_layers(net, source.state_dict(), layers)
    except ValueError as error:
        raise UserError(f"{run.name} cannot start from {parent.name}: {error}") from error
    if whole:
        net.mean.copy_(source.mean)
    if not boxes and net.classifier[-1] not in copied:
        print(f"{run.name}: the classes of {parent.name} are others, its outputs are not taken", flush=True)
    fresh = [name for name, _ in net.named_children() if name not in copied]
    print(f"{run.name}: from {parent.name} {', '.join(copied)}; random: {', '.join(fresh) or 'none'}", flush=True)


def readable_checkpoint(run: Run) -> Path | None:
    """The newest whole checkpoint of this run; a damaged or foreign one is named and passed over."""
    for name in ("last.ckpt", "previous.ckpt"):
        path = run.folder / name
        if not path.is_file():
            continue
        try:
            found = state_dicts.read_tensors(path, {"state_dict", "loops", "run"})["run"]
            require(found == run.name, f"{path} is a checkpoint of {found}, not of {run.name}")
            return path
        except UserError as error:
            print(f"refused: {error}", flush=True)
    return None


def accumulation(cfg: TrainConfig, ranks: int) -> int:
    """Micro-batches of one step on one rank. Raises UserError where the batch does not divide."""
    batch, micro_batch = cfg.data.batch, cfg.trainer.micro_batch
    require(batch % ranks == 0, f"data.batch={batch} does not divide over {ranks} devices")
    share = batch // ranks
    require(
        micro_batch is None or share % micro_batch == 0,
        f"trainer.micro_batch={micro_batch} does not divide the {share} images of each device",
    )
    return share // (micro_batch or share)


def setting(cfg: TrainConfig, trainer: pl.Trainer) -> dict[str, Any]:
    """What trains, beside the configuration. Last bits depend on it, and batch normalisation on the micro-batch."""
    devices = trainer.world_size
    return {
        "versions": versions(),
        "commit": commit(),
        "device": device_name(trainer.strategy.root_device),
        "devices": devices,
        "micro_batch": cfg.data.batch // devices // trainer.accumulate_grad_batches,
        "compile": cfg.trainer.compile,
    }


def fit(run: Run, data_of: Callable[..., ImageData] = ImageData, module_of: Callable[..., Recipe] = Classifier) -> None:
    """Train or resume this run until it is finished. The same call again goes on where it stopped."""
    folder, cfg = run.folder, run.config()
    finite, lines = FiniteLoss(), EpochLines(run.name, cfg.data.batch)
    callbacks = [finite, Checkpoints(run.name, folder / "last.ckpt", cfg.trainer.checkpoint_minutes, finite), lines]
    if sys.stderr.isatty():
        callbacks.append(Bar(refresh_rate=20, leave=False))  # each time it shows the loss, it waits for the device
    curves = Curves.of(cfg, run)
    if curves is not None:
        callbacks.append(ExampleCrops(curves))
    trainer = lightning_trainer(
        cfg.trainer,
        max_epochs=cfg.epochs,
        logger=[CSVLogger(folder, name="csv"), *([curves] if curves else [])],
        callbacks=callbacks,
        plugins=[WholeFiles()],
        num_sanity_val_steps=0,
    )
    trainer.accumulate_grad_batches = accumulation(cfg, trainer.world_size)
    module, data = parts(cfg, data_of, module_of)
    net, classes = module.net, data.train.classes
    checkpoint = readable_checkpoint(run)
    if checkpoint is None:
        start_from_parent(net, cfg, run, classes)
    if cfg.trainer.compile:
        net.compile()  # in place: a compiled copy would give the weights other names
    if trainer.is_global_zero:
        run.add_setting(setting(cfg, trainer), checkpoint is not None)
        with write_whole(folder / "colours.pt") as file:
            torch.save(vars(data.colours), file)
    share = cfg.data.batch // trainer.world_size // trainer.accumulate_grad_batches
    with together(trainer, f"lower trainer.micro_batch, now {share}, which changes no step's batch"):
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except UserError as error:
            raise UserError(str(error).rpartition("UserError: ")[2]) from error  # a worker's comes with its traceback
        if trainer.is_global_zero:
            (plateau,) = (callback for callback in trainer.callbacks if isinstance(callback, Plateau))
            run.update_record(
                epochs=trainer.current_epoch, validation=plateau.errors, images_per_second=round(lines.speed, 1)
            )
            weights.save(run, net, classes)
            run.clear()
            if curves is not None:
                curves.keep_weights(run)
        trainer.strategy.barrier()  # no rank ends before the weights are there
