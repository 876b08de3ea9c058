"""A run is a cell of the grid on one data set and has a name, `digits/D-jitter`; everything of it lies in its folder.

config.yaml     its configuration          record.json   parent, classes, weights' sha256, versions, what went wrong
last.ckpt       to go on from              weights.pt    the finished net: only a finished run has it
csv/, wandb/    learning curves            colours.pt    mean and principal components of the training pixels
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vgg.core.compose import train_part, typed
from vgg.core.config import Data, TrainConfig
from vgg.core.errors import UserError, require, short
from vgg.core.files import flock, write_whole
from vgg.data.listing import Listing
from vgg.runs.cells import without_seed
from vgg.runs.identity import differences

# Of the keys in a stored config.yaml and record.json. A change of their names or meanings, or a new one that is needed,
# counts it up: an older run is then refused.
SCHEMA_VERSION = 4

NEW_KEYS = {
    3: {"data.cache": "auto"},
    4: {"data.val_share": 0.2},
}  # version -> keys that came with it, and what runs of the one before were made with


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    name: str
    folder: Path

    @classmethod
    def named(cls, name: str, dirs_runs: str | Path, data: Data | None = None) -> "Run":
        """The run of this name; a bare name means the current data."""
        if "/" not in name:
            require(data is not None, f"{name}: name the run with its data, as in digits/{name}")
            name = f"{data.name}/{name}"
        return cls(name, Path(dirs_runs) / name)

    @classmethod
    def of(cls, folder: Path) -> "Run":
        """The run in this folder, named by its last two parts."""
        return cls(f"{folder.parent.name}/{folder.name}", folder)

    @property
    def cell(self) -> str:
        """Its name without the data and the seed."""
        return without_seed(self.name.partition("/")[2])

    @property
    def weights(self) -> Path:
        return self.folder / "weights.pt"

    @property
    def published(self) -> bool:
        """Whether these are weights from elsewhere, written here at their first use."""
        return "source_sha256" in self.record()

    @property
    def finished(self) -> bool:
        return self.weights.is_file()

    def config(self) -> TrainConfig:
        """What it was prepared with. Raises UserError where that is missing, damaged or of another schema."""
        path = self.folder / "config.yaml"
        require(path.is_file(), f"there is no run {self.name}: {path} is missing")
        try:
            stored = OmegaConf.load(path)
        except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({short(error)}): restore it, or remove {self.folder}") from error
        version = stored.pop("schema_version", None) if isinstance(stored, DictConfig) else None
        for newer, keys in NEW_KEYS.items():
            if version == newer - 1:
                version = newer
                for key, value in keys.items():
                    OmegaConf.update(stored, key, value)
        require(
            version == SCHEMA_VERSION,
            f"{path} is of another version of this code (schema_version={short(version)}, here {SCHEMA_VERSION}): "
            f"use that one, or remove {self.folder}",
        )
        return typed(stored, TrainConfig)

    def record(self) -> dict[str, Any]:
        """What record.json says; empty where there is none. Raises UserError where it is damaged."""
        path = self.folder / "record.json"
        try:
            content = json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): restore it, or remove {self.folder}") from error
        require(isinstance(content, dict), f"{path} is damaged (no object): restore it, or remove {self.folder}")
        return content

    def update_record(self, **items: Any) -> None:
        with write_whole(self.folder / "record.json") as file:
            file.write(json.dumps(self.record() | items, indent=1).encode())

    def add_setting(self, setting: dict[str, Any], resumed: bool) -> None:
        """Record what trains from now on, after what has trained it until now if that is another."""
        before = self.record().get("trained_with", []) if resumed else []
        if before[-1:] != [setting]:
            self.update_record(trained_with=[*before, setting])

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the run against other processes; the file descriptor is passed on to the process that trains.

        The lock goes with the last process that holds the descriptor: a crash releases it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.name}: another process trains it, waiting", flush=True)
                flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove what killed processes left: half-written files, and the checkpoints of a run that is finished."""
        checkpoints = ("last.ckpt", "previous.ckpt") if self.finished else ()
        for path in (*self.folder.glob(".*.[0-9]*"), *(self.folder / name for name in checkpoints)):
            path.unlink(missing_ok=True)

    def refuse_another(self, cfg: TrainConfig) -> None:
        """Raise UserError where the run was started with another identity, naming the keys."""
        if different := differences(self.config(), cfg):
            raise UserError(
                f"{self.name} was started with another configuration:\n  "
                + "\n  ".join(different)
                + f"\ngive the new one a name of its own with tag=NAME, or remove {self.folder}"
            )

    def keep_images(self, images: dict[str, Listing]) -> None:
        """Record what it is trained and validated on; refuse other images than it was started with."""
        self.refuse_other_images(images)
        self.update_record(
            images={split: listed.described() for split, listed in images.items()},
            classes=list(images["train"].classes),
        )

    def refuse_other_images(self, images: dict[str, Listing]) -> None:
        """Raise UserError, naming both folders, where training or validation images are not those of its record."""
        for split, known in self.record().get("images", {}).items():
            now = images[split].described()
            differ = [what for what in ("sha256", "content") if what in known and known[what] != now[what]]
            require(
                not differ,
                f"{self.name} has its {split} images from {known['folder']} ({known['images']:,}); those in "
                f"{now['folder']} ({now['images']:,}) are others"
                + ("" if "sha256" in differ else ", of the same names and sizes")
                + ". Give them a name of their own with data.name=NAME, or the run one with tag=NAME",
            )

    def prepare(self, cfg: TrainConfig, parent: "Run | None") -> None:
        """Write the configuration to train with; refuse another identity than the one it was started with."""
        if (self.folder / "config.yaml").is_file():
            self.refuse_another(cfg)
        self.clear()
        with write_whole(self.folder / "config.yaml") as file:
            stored = {"schema_version": SCHEMA_VERSION, **asdict(train_part(cfg))}
            file.write(OmegaConf.to_yaml(OmegaConf.create(stored)).encode())
        items: dict[str, Any] = {"run": self.name, "error": None}
        if not any((self.folder / name).is_file() for name in ("last.ckpt", "previous.ckpt")):
            items |= {"parent": None, "parent_sha256": None}
            if parent is not None:
                items |= {"parent": parent.name, "parent_sha256": parent.record().get("weights_sha256")}
                items |= {"parent_scale": parent.config().data.scale}
        self.update_record(**items)
