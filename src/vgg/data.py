"""The LightningDataModule: training crops at random scales, whole batches in a seeded order, validation crops."""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from vgg.config import TrainConfig, Trainer, UserError, require
from vgg.decoded import Pictures, keep
from vgg.files import write_whole
from vgg.images import Listing, listing, refuse_unreadable, same_classes, single_class, why_unreadable
from vgg.pictures import UNREADABLE, Picture
from vgg.scales import PAPER_CROP, draw_scale, real_pixels, single_scale
from vgg.transforms import COLOUR_SHIFT_DEVIATION, Colours, centre_crop, training_crop

COLOUR_SAMPLE = 10_000  # training images at most that the mean and the principal components are computed on
IMAGENET_MEAN = (123.68, 116.779, 103.939)
END = object()
ATTEMPTS = 100  # at a readable training image, before it is the disk that is at fault


class TrainingCrops(Dataset):
    """Item (epoch, index) -> (crop (crop, crop, 3) uint8, label, alpha (3,), key, index of an unreadable file or -1).

    alpha is the colour shift's, key the number from 0 to 2^32 - 1 that the image's dropout masks are drawn from.
    Everything random is a function of (seed, epoch, index): it differs between epochs and images, and does not depend
    on workers or ranks. An unreadable image is replaced by another one, drawn from the same numbers.
    """

    def __init__(self, images: Listing, cfg: TrainConfig):
        self.images, self.seed, self.pictures = images, cfg.seed, Pictures(images)
        self.scale, self.mirror, self.crop = cfg.data.scale, cfg.data.mirror, real_pixels(PAPER_CROP, cfg.data.scale)
        self.smin, self.smax = cfg.train_scale.smin, cfg.train_scale.smax

    def __getitem__(self, key: tuple[int, int]) -> tuple[Any, ...]:
        return self.drawn(*key)[:-1]

    def example(self, picture: Picture, index: int, side: int, rng: np.random.Generator) -> tuple[Any, ...]:
        """The crop of an image at smaller side `side`, and what is to be learnt of it."""
        return training_crop(picture, side, self.crop, self.mirror, rng), self.images.labels[index]

    def drawn(self, epoch: int, index: int) -> tuple[Any, ...]:
        """An item, and the S that was drawn for it."""
        rng = np.random.default_rng([self.seed, epoch, index])
        bad = -1
        for _ in range(ATTEMPTS):
            try:
                scale = draw_scale(self.smin, self.smax, rng)
                side = real_pixels(scale, self.scale)
                example = self.example(self.pictures[index], index, side, rng)
                break
            except UNREADABLE:
                bad, index = index, int(rng.integers(len(self.images)))
        else:
            raise UserError(
                f"{ATTEMPTS} images in a row cannot be read, {self.images.path(bad)} the last: is the disk there?"
            )
        alpha = torch.tensor(rng.normal(0, COLOUR_SHIFT_DEVIATION, 3), dtype=torch.float32)
        return *example, alpha, int(rng.integers(2**32)), bad, scale


class TrainingBatches(Sampler):
    """The (epoch, index) keys of one rank's micro-batches, epoch after epoch; each iteration is the next epoch.

    The order of an epoch is a permutation drawn from (seed, epoch). Step k of all ranks together takes its images
    k * batch ... (k + 1) * batch - 1, whatever the number of ranks and micro-batches; the last, partial batch is
    dropped. An epoch begins with the first `next`: loaders throw iterators away unused. Set `epoch` and `start` (in
    micro-batches) to go on in the middle.
    """

    def __init__(self, images: int, batch: int, micro_batch: int, rank: int, ranks: int, seed: int):
        require(images >= batch, f"data.batch={batch}: there are only {images} training images")
        self.images, self.batch, self.micro_batch, self.seed = images, batch, micro_batch, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.images // self.batch * (self.batch // self.ranks // self.micro_batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, start = self.epoch, self.start
        self.epoch, self.start = epoch + 1, 0
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        steps = order[: self.images // self.batch * self.batch].reshape(-1, self.ranks, self.batch // self.ranks)
        micro_batches = steps[:, self.rank].reshape(-1, self.micro_batch)
        for row in micro_batches[start:]:
            yield [(epoch, int(index)) for index in row]


class CentreCrops(Dataset):
    """Item row -> (central crop (crop, crop, 3) uint8 at smaller side `side`, label, -1), for validation in training.

    An unreadable image is (zeros, -1, its index).
    """

    def __init__(self, images: Listing, side: int, crop: int, rank: int, ranks: int):
        self.images, self.side, self.crop, self.pictures = images, side, crop, Pictures(images)
        self.indices = range(rank, len(images), ranks)  # every image once, whatever the number of ranks

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        index = self.indices[row]
        try:
            crop = centre_crop(self.pictures[index], self.side, self.crop)
        except UNREADABLE:
            return torch.zeros(self.crop, self.crop, 3, dtype=torch.uint8), -1, index
        return crop, self.images.labels[index], -1


def training_colours(images: Listing, published_mean: tuple[float, ...] | None = None) -> Colours:
    """Mean RGB and principal components of the training pixels, over a fixed sample of at most `COLOUR_SAMPLE`."""
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    sample = np.random.default_rng(0).permutation(len(images))[:COLOUR_SAMPLE]
    for index in tqdm(sample, "mean and principal components of the colours", leave=False, disable=None):
        try:
            image = Image.fromarray(Picture(images.read(index)).pixels())
        except UNREADABLE:
            continue
        image.thumbnail((256, 256), Image.Resampling.BOX)
        pixels = np.asarray(image, dtype=np.float64).reshape(-1, 3)
        count, total, products = count + len(pixels), total + pixels.sum(0), products + pixels.T @ pixels
    require(count > 0, f"no image in {images.root} can be read")
    found = Colours.of(count, total, products)
    if published_mean is not None:
        return Colours(torch.tensor(published_mean), found.components, found.deviations)
    return found


def leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and SIGTERM reach a whole process group: decoding goes on until the training process has had its say."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def decoding_workers(how: Trainer, ranks: int) -> int:
    """Decoding processes of this rank: as configured, or two fewer than its share of the cores it may use, at most 16.

    On two cores none: a net that computes on both loses more to a third process than decoding in turn costs.
    """
    if how.workers is not None:
        return how.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = int(os.environ.get("SLURM_CPUS_PER_TASK", cores // (ranks // how.num_nodes)))  # srun's, of this rank
    return max(0, min(16, share - 2))


def end_workers() -> None:
    """Before this process exits: the SIGTERM that multiprocessing would end its children with is lost on them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()


def one_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; a thread makes the next one while the last is used."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=[1]) as pool:  # of that thread alone
        following = pool.submit(next, batches, END)
        while (batch := following.result()) is not END:
            following = pool.submit(next, batches, END)
            yield batch


class Loader(DataLoader):
    """Batches of decoding processes, which are killed where they give none for ten minutes, or 20 s when asked to stop.

    Whoever waits for such a process waits for ever: it may hang on a disk that does not answer.
    """

    LOOK, STOPPING, PATIENCE = 5, 20, 600  # seconds: between two looks, until it hangs when asked to stop, and else

    def __init__(self, dataset: Dataset, *, asked_to_stop: Callable[[], bool] = lambda: False, **how: Any):
        super().__init__(dataset, worker_init_fn=leave_signals_to_parent, **how)
        self.asked_to_stop = asked_to_stop
        self.waiting_since: float | None = None
        self.given_up = False

    def watch(self, ended: threading.Event) -> None:
        """In a thread of its own: a wait inside a queue or a socket ends when the process at its other end does."""
        while not ended.wait(self.LOOK):
            waited = time.monotonic() - (self.waiting_since or math.inf)
            if waited >= self.PATIENCE or (waited >= self.STOPPING and self.asked_to_stop()):
                self.given_up = True
                for worker in multiprocessing.active_children():
                    worker.kill()

    def __iter__(self) -> Iterator[Any]:
        batches, ended = super().__iter__(), threading.Event()
        if self.num_workers:
            threading.Thread(target=self.watch, args=[ended], daemon=True).start()
        else:
            yield from one_ahead(batches)
            return
        try:
            while True:
                self.waiting_since = time.monotonic()
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                finally:
                    self.waiting_since = None
                yield batch
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not self.given_up:
                raise
            raise UserError(
                "no decoding process has given anything for too long: does the disk answer? trainer.workers=0 decodes "
                "without them"
            ) from error
        finally:
            ended.set()


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
