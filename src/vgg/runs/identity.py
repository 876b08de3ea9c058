"""What makes a run: the keys that may not change within its name, and the name."""

import re
from dataclasses import asdict
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg.core.compose import CONF, flat, train_part, values_of
from vgg.core.config import TrainConfig
from vgg.core.errors import require

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

# Keys of the identity that a run's name shows in a way of its own, or that result lines carry beside it (precision).
SUFFIXES_OF_THEIR_OWN = (
    *("task", "layers", "seed", "data.form", "data.name", "model.name", "train_scale.name", "init.draw", "init.from_a"),
    *("weights.source", "localisation.boxes", "trainer.precision"),
)

TRAIN_SCALES = CONF / "train_scale"

SCALE_OPTIONS = {path.stem.removeprefix("S"): path.stem for path in sorted(TRAIN_SCALES.glob("*.yaml"))}


def part_of(key: str, parts: tuple[str, ...]) -> bool:
    """Whether a flat key is one of these keys, or of one of these groups."""
    return any(f"{key}.".startswith(f"{part}.") for part in parts)


def without_effect(cfg: TrainConfig) -> tuple[str, ...]:
    """The keys that change nothing in this run, nor in those that its lineage starts from."""
    first_stage = cfg.train_scale.parent is None and cfg.task == "classification"
    named_start = cfg.init.parent is not None or cfg.weights.source is not None
    return (
        *(("localisation",) if cfg.task == "classification" else ()),
        *(("data.val_share",) if cfg.data.form != "folder" else ()),
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
def data_option(name: str, form: str) -> str:
    """The option that has this data's usual values: one of its name, as data=flowers, or that of its form."""
    of_name = (CONF / "data" / f"{name}.yaml").is_file() and values_of("data", name).form == form
    return name if of_name else form


@cache
def defaults(data: str, model: str, scale: str) -> dict[str, Any]:
    """The values of conf/ where a command gives nothing but data=, model= and train_scale=, flat."""
    base = OmegaConf.load(CONF / "run.yaml")
    for key in ("defaults", "hydra", "dirs", "plan"):
        del base[key]
    options = {"data": data, "train_scale": scale_option(scale), "init": "default", "weights": "none"}
    groups = {group: values_of(group, option) for group, option in options.items()}
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
    usual = defaults(data_option(cfg.data.name, cfg.data.form), cfg.model.name, cfg.train_scale.name)
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
