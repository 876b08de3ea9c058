"""A run is a cell of the grid on one data set and has a name, `digits/D-jitter`; everything of it lies in its folder.

config.yaml     its configuration          record.json   parent, classes, weights' sha256, versions, what went wrong
last.ckpt       to go on from              weights.pt    the finished net: only a finished run has it
csv/, wandb/    learning curves            colours.pt    mean and principal components of the training pixels
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from vgg import paths
from vgg.cells import without_seed
from vgg.config import REPOSITORY, STARTS_FROM_A, Data, TrainConfig, TrainScale, UserError, no_option, require, short
from vgg.files import flock, write_whole
from vgg.images import Listing

# What may change within a run's name: the machine's part, paths, and what only names the run.
NOT_IDENTITY = (
    "ablation",
    "plan",
    "trainer",
    "logger",
    "dirs",
    "tag",
    "chain",
    "data.root",
    "data.val",
    "data.download",
    "data.cache",
    "data.skip_corrupt",
    "weights.path",
    "localisation.annotations",
    "data.draw",
    "data.dropout",
    "data.schedule",
)
# Of the keys in a stored config.yaml and record.json. A change of their names or meanings, or a new one that is needed,
# counts it up: an older run is then refused.
SCHEMA_VERSION = 3
NEW_KEYS = {
    3: {"data.cache": "auto"}
}  # version -> keys that came with it, and what runs of the one before were made with
# Keys of the identity that a run's name shows in a way of its own, or that result lines carry beside it (precision).
SUFFIXES_OF_THEIR_OWN = (
    *("task", "layers", "seed", "data.form", "data.name", "model.name", "train_scale.name", "init.draw", "init.from_a"),
    *("weights.source", "localisation.boxes", "trainer.precision"),
)
CONF = REPOSITORY / "conf"
TRAIN_SCALES = CONF / "train_scale"
SCALE_OPTIONS = {path.stem.removeprefix("S"): path.stem for path in sorted(TRAIN_SCALES.glob("*.yaml"))}
Config = TypeVar("Config")


def typed(cfg: DictConfig, schema: type[Config]) -> Config:
    """The composed configuration as `schema`. Raises UserError with the key's name where a key or value is wrong."""
    try:
        paths.expand(cfg)
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} is missing") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    return schema(**values)


def option(group: str, name: str, schema: type[Config], key: str | None = None) -> Config:
    """An option of conf/ whose file says everything, as train_scale=S256. UserError about `key` where there is none."""
    files = {path.stem: path for path in (REPOSITORY / "conf" / group).glob("*.yaml")}
    require(name in files, no_option(key or group, name, files))
    return typed(OmegaConf.load(files[name]), schema)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"width": 1}} -> {"data.width": 1}."""
    items: dict[str, Any] = {}
    for key, value in tree.items():
        items.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return items


def train_part(cfg: TrainConfig) -> TrainConfig:
    """The configuration without what only evaluation reads."""
    return TrainConfig(**{key: getattr(cfg, key) for key in TrainConfig.__dataclass_fields__})


def part_of(key: str, parts: tuple[str, ...]) -> bool:
    """Whether a flat key is one of these keys, or of one of these groups."""
    return any(f"{key}.".startswith(f"{part}.") for part in parts)


def without_effect(cfg: TrainConfig) -> tuple[str, ...]:
    """The keys that change nothing in this run, nor in those that its lineage starts from."""
    first_stage = cfg.train_scale.parent is None and cfg.task == "classification"
    named_start = cfg.init.parent is not None or cfg.weights.source is not None
    return (
        *(("localisation",) if cfg.task == "classification" else ()),
        *(("data.finetune_epochs",) if first_stage else ()),
        *(("data.epochs",) if not first_stage and named_start and cfg.data.finetune_epochs is not None else ()),
        *(("data.patience",) if cfg.optimizer.schedule else ()),
    )


def identity(cfg: TrainConfig) -> dict[str, Any]:
    """The keys that may not change within a run's name, flat, with their values."""
    out = (*NOT_IDENTITY, *without_effect(cfg))
    kept = {key: value for key, value in flat(asdict(train_part(cfg))).items() if not part_of(key, out)}
    return kept | {"trainer.precision": cfg.trainer.precision}


def differences(one: TrainConfig, other: TrainConfig) -> list[str]:
    """`data.lr: 0.01, now 0.02` for every key of both identities that differs."""
    before, now = identity(one), identity(other)
    return [f"{key}: {before[key]}, now {now[key]}" for key in before if before[key] != now.get(key, before[key])]


def scale_option(name: str) -> str:
    """The train_scale option of a run's name: 256 -> S256. Raises UserError where there is none."""
    require(
        name in SCALE_OPTIONS,
        f"train_scale.name={name}: there are {', '.join(SCALE_OPTIONS)}. Another S is given by train_scale.smin and "
        "train_scale.smax, which the run's name shows",
    )
    return SCALE_OPTIONS[name]


def recipe(model: str) -> list[DictConfig | dict[str, Any]]:
    """What a model option brings, after those that it starts from: of nets around Table 1's other groups' keys too."""
    own = OmegaConf.load(CONF / "model" / f"{model}.yaml")
    if "model" not in own:
        return [{"model": own}]
    return [*(part for name in own.pop("defaults", []) for part in recipe(name)), own]


@cache
def defaults(form: str, model: str, scale: str) -> dict[str, Any]:
    """The values of conf/ where a command gives nothing but data=, model= and train_scale=, flat."""
    base = OmegaConf.load(CONF / "run.yaml")
    for key in ("defaults", "hydra", "dirs", "plan"):
        del base[key]
    options = {"data": form, "train_scale": scale_option(scale), "init": "default", "weights": "none"}
    groups = {group: OmegaConf.load(CONF / group / f"{option}.yaml") for group, option in options.items()}
    return flat(OmegaConf.to_container(OmegaConf.merge(base, groups, *recipe(model)), resolve=True))


def suffix(key: str, value: Any, keys: list[str]) -> str:
    """`-lr0.01` of data.lr, in letters that any file system takes. Where several of the keys end alike it is whole."""
    last = key.rpartition(".")[2]
    alone = sum(other.rpartition(".")[2] == last for other in keys) == 1

    def text(value: Any) -> str:
        if isinstance(value, list):
            return "_".join(map(text, value))
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        return (
            f"{value:g}".replace("+", "") if isinstance(value, float) else re.sub(r"[^A-Za-z0-9_.]+", "_", str(value))
        )

    return f"-{last if alone else key}{text(value)}"


def run_name(cfg: TrainConfig) -> str:
    """`<data>/<model>-<scale>` and a suffix for each choice that differs from the data and model options' defaults.

    -fc, -glorot, -noA, -torchvision, -seed2 and -loc-pcr, then `-<key><value>`, as in A-256-lr0.01, in the order of the
    configuration, and the tag. What no name shows is refused within a name: other images, precision, changed defaults.
    """
    usual = defaults(cfg.data.form, cfg.model.name, cfg.train_scale.name)
    name = f"{cfg.data.name}/{cfg.model.name}-{cfg.train_scale.name}"
    if cfg.layers == "fc":
        name += "-fc"
    if cfg.init.draw != usual["init.draw"]:
        name += f"-{cfg.init.draw}"
    if not cfg.init.from_a:
        name += "-noA"
    if cfg.weights.source:
        name += f"-{cfg.weights.source}"
    if cfg.seed != 1:
        name += f"-seed{cfg.seed}"
    if cfg.task == "localisation":
        name += f"-loc-{cfg.localisation.boxes}"
    keys = [key for key in usual if not part_of(key, NOT_IDENTITY)]
    for key, value in identity(cfg).items():
        if key not in SUFFIXES_OF_THEIR_OWN and value != usual[key]:
            name += suffix(key, value, keys)
    return name + (f"-{cfg.tag}" if cfg.tag else "")


def spoken(error: str) -> str:
    """top1_error -> top-1 error."""
    return error.replace("top", "top-").replace("_", " ")


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


def parent_config(cfg: TrainConfig) -> TrainConfig | None:
    """The configuration of the run this one starts from: only model, train_scale and trained layers replaced.

    None for random weights. A parent named by init.parent has no
    configuration here: it is taken as it is.
    """
    if cfg.task == "localisation":
        return replace(train_part(cfg), task="classification", layers="all")
    if cfg.train_scale.parent is not None:
        scale = option("train_scale", cfg.train_scale.parent, TrainScale, key="train_scale.parent")
        return replace(train_part(cfg), train_scale=scale, layers="all")
    if cfg.init.from_a and cfg.model.name in STARTS_FROM_A:
        return replace(train_part(cfg), model=replace(cfg.model, name="A"), layers="all")
    return None


def sha256_of_tensors(state: dict[str, Any]) -> str:
    """Of names, shapes and bytes, in the order of names: the same weights have the same sum in any file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(f"{key} {tuple(state[key].shape)}\n".encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
