"""The LightningDataModule: a classification data set with scale jittering (section 3.1)."""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vgg.core import paths
from vgg.core.errors import require
from vgg.core.files import alone, write_whole
from vgg.core.paper import IMAGENET_MEAN
from vgg.core.scales import PAPER_CROP, real_pixels, single_scale
from vgg.data.colours import Colours, training_colours
from vgg.data.crops import CentreCrops, EveryImageOnce, TrainingCrops, TrainingOrder
from vgg.data.datasets import Source, listing
from vgg.data.decoded import Pictures, keep
from vgg.data.listing import refuse_unreadable, same_classes, single_class, why_unreadable
from vgg.data.workers import Loader, decoding_workers


class ImageData(pl.LightningDataModule):
    """Training crops with scale jittering, mirror images and colour shifts; central crops to validate and test on.

    A training batch is (crops (N, crop, crop, 3) uint8 RGB, labels (N,), shift (N, 3, 1, 1), keys (N,)): the shift is
    to be added to the crops' levels, keys are whole numbers from 0 to 2^32 - 1 to draw an image's dropout masks from.
    Everything random is a function of (seed, epoch, image). A validation or test batch is (crops, labels), each image
    once; the test images are the validation images. Images that cannot be read are not in it.

    Args:
        root: the folder with train/ and val/, each with a folder of images a class; None: the embedded digits.
        form: how the images are kept, as data.form says it; None: in class folders, or the digits without a root.
        val: another folder with the validation images.
        val_share: of the photos of a root without train/ and val/ that has the class folders itself, held out.
        download: fetch the images where `form` knows from where.
        scale: 1, 1/2, 1/4 or 1/8 of the paper's pixels: the crop's 224, and S and Q.
        smin: the training scale S is drawn from smin..smax for each image and access, in the paper's pixels.
        smax: the same as smin for a fixed S.
        mirror: mirror half of the training crops.
        batch: images of one step, over all devices and accumulated micro-batches of the trainer.
        seed: of crops, mirror images, colour shifts, keys and the order of the images.
        workers: decoding processes of each device; None: two fewer than its cores.
        cache: "ram" keeps decoded images in memory, "auto" where they are few, "none" never.
        cache_dir: the folder of what is made or fetched; None: ~/.cache/vgg.
        skip_corrupt: leave unreadable validation images out, and say which; False: they are an error.

    Attributes:
        train: the training images, a `Listing`; `train.classes` are the class names.
        val: the validation images.
        colours: mean RGB and principal components of the training images; the mean is what a net subtracts.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        form: Literal["digits", "folder", "imagenette", "imagenet", "voc"] | None = None,
        *,
        val: str | os.PathLike[str] | None = None,
        val_share: float = 0.2,
        download: bool = False,
        scale: float = 1.0,
        smin: int = 256,
        smax: int = 512,
        mirror: bool = True,
        batch: int = 256,
        seed: int = 1,
        workers: int | None = None,
        cache: Literal["auto", "ram", "none"] = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        skip_corrupt: bool = False,
    ):
        super().__init__()
        root, val, cache_dir = (path and os.path.expanduser(path) for path in (root, val, cache_dir))
        form = form or ("folder" if root else "digits")
        self.save_hyperparameters()
        self.cache_dir = Path(cache_dir or paths.cache()).expanduser()
        self.source = Source(form, root, val, download, val_share=val_share)
        self.train, self.val = (listing(self.source, self.cache_dir, split) for split in ("train", "val"))
        require(len(self.train.classes) > 1, single_class(self.train))
        same_classes(self.train.classes, self.val.classes, f"{self.train.root} and {self.val.root}")
        self.pictures: dict[str, Pictures] = {}
        self.steps_done = 0  # of the epoch to go on with
        self.unreadable: dict[str, set[int]] = {"train": set(), "val": set()}  # images of a split
        self.left_out: set[int] = set()  # validation images, over all ranks

    @cached_property
    def colours(self) -> Colours:
        """Computed once for these images, and kept in the cache. ImageNet has the published mean."""
        published = self.source.form == "imagenet"
        name = f"{self.train.sha256[:16]}-{self.train.content[:16]}-{'published' if published else 'measured'}-mean.pt"
        cached = self.cache_dir / "colours" / name
        with alone(cached):
            if not cached.exists():
                colours = training_colours(self.train, IMAGENET_MEAN if published else None)
                with write_whole(cached) as file:
                    torch.save(vars(colours), file)
        return Colours(**torch.load(cached, weights_only=True))

    def setup(self, stage: str) -> None:
        """Decode the images that are kept in memory."""
        how, ranks = self.hparams, self.trainer.world_size // self.trainer.num_nodes
        workers = decoding_workers(how.workers, ranks)
        smallest = {"train": real_pixels(how.smin, how.scale), "val": None}
        for split in {"fit": ("train", "val")}.get(stage, ("val",)):
            if split not in self.pictures:
                images = getattr(self, split)
                self.pictures[split] = keep(images, smallest[split], how.cache, workers, ranks)
        kept = sum(pictures.bytes for pictures in self.pictures.values())
        if kept and stage == "fit" and self.trainer.is_global_zero:
            print(f"{kept / 1e6:,.0f} MB of decoded images are kept in memory (data.cache)", flush=True)

    def loader(self, dataset: Dataset, **options: Any) -> DataLoader:
        workers = decoding_workers(self.hparams.workers, self.trainer.world_size // self.trainer.num_nodes)
        return Loader(
            dataset,
            asked_to_stop=lambda: any(getattr(callback, "signal", 0) for callback in self.trainer.callbacks),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            **options,
        )

    def train_dataloader(self) -> DataLoader:
        trainer, batch = self.trainer, self.hparams.batch
        order = TrainingOrder(len(self.train), batch, trainer.global_rank, trainer.world_size, self.hparams.seed)
        order.start, self.steps_done = self.steps_done % (len(self.train) // batch), 0
        crops = self.training_crops()
        crops.pictures = self.pictures["train"]
        micro_batch = batch // trainer.world_size // trainer.accumulate_grad_batches
        return self.loader(crops, finish=self.trained, sampler=order, batch_size=micro_batch)

    def training_crops(self, of: Callable[..., TrainingCrops] = TrainingCrops) -> TrainingCrops:
        how = self.hparams
        return of(self.train, how.scale, how.smin, how.smax, how.mirror, how.seed)

    def trained(self, batch: list[Tensor], last: bool) -> list[Tensor]:
        """A batch of `training_crops` as it is trained on. Files that could not be read are named once."""
        crops, *targets, alpha, keys, unreadable = batch
        for index in set(unreadable.tolist()) - {-1} - self.unreadable["train"]:
            self.unreadable["train"].add(index)
            path, why = self.train.path(index), why_unreadable(self.train, index) or "by now it can be"
            print(f"cannot read {path}: another image is trained in its place ({why})", flush=True)
        return [crops, *targets, self.colours.shift(alpha), keys]

    def val_dataloader(self) -> DataLoader:
        how, trainer = self.hparams, self.trainer
        (q,) = single_scale(how.smin, how.smax)
        crops = self.validation_crops(real_pixels(q, how.scale), real_pixels(PAPER_CROP, how.scale))
        crops.pictures = self.pictures["val"]
        mine = EveryImageOnce(crops, trainer.world_size, trainer.global_rank)
        return self.loader(crops, finish=self.validated, sampler=mine, batch_size=min(100, how.batch))

    test_dataloader = val_dataloader

    def validation_crops(self, side: int, crop: int) -> CentreCrops:
        return CentreCrops(self.val, side, crop)

    def validated(self, batch: list[Tensor], last: bool) -> list[Tensor]:
        """A batch of `validation_crops` without unreadable images. With the last one those of all ranks are refused."""
        *parts, unreadable = batch
        readable = unreadable < 0
        self.unreadable["val"].update(unreadable[~readable].tolist())
        if last:
            strategy = self.trainer.strategy
            marks = torch.zeros(len(self.val), device=strategy.root_device)
            marks[list(self.unreadable["val"])] = 1
            found = set(strategy.reduce(marks, reduce_op="sum").nonzero().flatten().tolist())
            refuse_unreadable(self.val, sorted(found - self.left_out), self.hparams.skip_corrupt)
            self.left_out |= found  # which are named once
        return parts if readable.all() else [part[readable] for part in parts]

    def state_dict(self) -> dict[str, Any]:
        """Where the order of images stands, in steps, and sums of what a resumed run must find as it was."""
        trainer = self.trainer
        per_epoch = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
        epoch = trainer.current_epoch
        return {"epoch": epoch, "steps": trainer.global_step - epoch * per_epoch, "sha256": self.sums()}

    def sums(self) -> dict[str, str]:
        return {"training images": self.train.sha256, "validation images": self.val.sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for what, sha256 in self.sums().items():
            require(
                state.get("sha256", {}).get(what) == sha256,
                f"the {what} of {self.train.root.parent} are not the ones that this training was started with; restore "
                "them, or train under another name with tag=NAME",
            )
        self.steps_done = state["steps"]
