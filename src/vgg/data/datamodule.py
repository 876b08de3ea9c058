"""The LightningDataModule of one run's training and validation images."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vgg.core.config import TrainConfig
from vgg.core.errors import require
from vgg.core.files import write_whole
from vgg.core.scales import PAPER_CROP, real_pixels, single_scale
from vgg.data.colours import IMAGENET_MEAN, Colours, training_colours
from vgg.data.crops import CentreCrops, TrainingBatches, TrainingCrops
from vgg.data.datasets import listing
from vgg.data.decoded import keep
from vgg.data.listing import refuse_unreadable, same_classes, single_class, why_unreadable
from vgg.data.workers import Loader, decoding_workers


class ImageData(pl.LightningDataModule):
    """Training and validation images of one run. `folder` is the run's: the colours are kept there."""

    def __init__(self, cfg: TrainConfig, folder: Path):
        super().__init__()
        self.cfg, self.folder = cfg, folder
        self.train = listing(cfg.data, Path(cfg.dirs.cache), "train")
        self.val = listing(cfg.data, Path(cfg.dirs.cache), "val")
        require(len(self.train.classes) > 1, single_class(self.train))
        same_classes(self.train.classes, self.val.classes, f"training and validation images of {cfg.data.name}")
        self.resume_at: dict[str, Any] | None = None
        self.unreadable: set[int] = set()  # of the training images
        self.skipped: set[int] = set()  # of the validation images

    def prepare_data(self) -> None:
        """On one rank: the colours, computed once for these images and kept beside the run."""
        published = self.cfg.data.form == "imagenet"
        name = f"{self.train.sha256[:16]}-{self.train.content[:16]}-{'published' if published else 'measured'}-mean.pt"
        cached = Path(self.cfg.dirs.cache) / "colours" / name
        if not cached.exists():
            found = training_colours(self.train, IMAGENET_MEAN if published else None)
            with write_whole(cached) as file:
                torch.save(vars(found), file)
        with write_whole(self.folder / "colours.pt") as file:
            file.write(cached.read_bytes())

    def setup(self, stage: str) -> None:
        """Decode the images that are kept in memory, `data.cache`."""
        cfg, ranks = self.cfg, self.trainer.world_size
        workers, here = decoding_workers(cfg.trainer, ranks), ranks // cfg.trainer.num_nodes
        smallest = real_pixels(cfg.train_scale.smin, cfg.data.scale)
        self.pictures = {
            "train": keep(self.train, smallest, cfg.data.cache, workers, here),
            "val": keep(self.val, None, cfg.data.cache, workers, here),
        }
        kept = sum(pictures.bytes for pictures in self.pictures.values())
        if kept and self.trainer.is_global_zero:
            print(f"{kept / 1e6:,.0f} MB of decoded images are kept in memory (data.cache)", flush=True)

    def colours(self) -> Colours:
        return Colours(**torch.load(self.folder / "colours.pt", weights_only=True))

    def loader(self, dataset: Dataset, **how: Any) -> DataLoader:
        workers = decoding_workers(self.cfg.trainer, self.trainer.world_size)
        return Loader(
            dataset,
            asked_to_stop=lambda: any(getattr(callback, "signal", 0) for callback in self.trainer.callbacks),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            **how,
        )

    def train_dataloader(self) -> DataLoader:
        trainer, batch = self.trainer, self.cfg.data.batch
        micro_batch = batch // trainer.world_size // trainer.accumulate_grad_batches
        self.batches = TrainingBatches(
            len(self.train), batch, micro_batch, trainer.global_rank, trainer.world_size, self.cfg.seed
        )
        if self.resume_at is not None:
            done, per_epoch = self.resume_at["steps"] * trainer.accumulate_grad_batches, len(self.batches)
            self.batches.epoch, self.batches.start = self.resume_at["epoch"] + done // per_epoch, done % per_epoch
        crops = self.training_crops()
        crops.pictures = self.pictures["train"]
        return self.loader(crops, batch_sampler=self.batches)

    def training_crops(self) -> TrainingCrops:
        return TrainingCrops(self.train, self.cfg)

    def val_dataloader(self) -> DataLoader:
        (q,) = single_scale(self.cfg.train_scale.smin, self.cfg.train_scale.smax)
        side, crop = (real_pixels(pixels, self.cfg.data.scale) for pixels in (q, PAPER_CROP))
        crops = self.validation_crops(side, crop, self.trainer.global_rank, self.trainer.world_size)
        crops.pictures = self.pictures["val"]
        return self.loader(crops, batch_size=min(100, self.cfg.data.batch))

    def validation_crops(self, *how: int) -> CentreCrops:
        return CentreCrops(self.val, *how)

    def on_before_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        """On the host, where looking at indices costs no wait: name the training files that could not be read."""
        if not self.trainer.training:
            return batch
        *trained, unreadable = batch
        for index in set(unreadable.tolist()) - {-1} - self.unreadable:
            self.unreadable.add(index)
            path, why = self.train.path(index), why_unreadable(self.train, index) or "by now it can be"
            print(f"cannot read {path}: another image is trained in its place ({why})", flush=True)
        return trained

    def refuse_unreadable(self, indices: list[int]) -> None:
        """Of the validation images; those that may be skipped are named once."""
        if new := [index for index in indices if index not in self.skipped]:
            refuse_unreadable(self.val, new, self.cfg.data.skip_corrupt)
            self.skipped.update(new)

    def state_dict(self) -> dict[str, Any]:
        """Where the order of images stands: steps of which every micro-batch is *processed*, so that none is lost."""
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return {
            "epoch": self.trainer.current_epoch,
            "steps": progress.current.processed // self.trainer.accumulate_grad_batches,
            "sha256": self.sums(),
        }

    def sums(self) -> dict[str, str]:
        """Of what a resumed run must find as it was."""
        return {"training images": self.train.sha256, "validation images": self.val.sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for what, sha256 in self.sums().items():
            require(
                state.get("sha256", {}).get(what) == sha256,
                f"the {what} of {self.cfg.data.name} are not the ones {self.folder} was started with; restore them, or "
                "train under another name with tag=NAME",
            )
        self.resume_at = state
