"""From what Hydra composed to a typed configuration."""

from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from vgg.core import paths
from vgg.core.config import TrainConfig
from vgg.core.errors import UserError, no_option, require
from vgg.core.paths import REPOSITORY

CONF = REPOSITORY / "conf"

Config = TypeVar("Config")


def typed(cfg: DictConfig, schema: type[Config]) -> Config:
    """The composed configuration as `schema`. Raises UserError with the key's name where a key or value is wrong."""
    shared = "data" in cfg and OmegaConf.is_missing(cfg.data, "form")
    require(not shared, "data=base has what the other data options share, choose one of them, as data=digits")
    try:
        paths.expand(cfg)
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} is missing") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    return schema(**values)


def values_of(group: str, name: str) -> DictConfig:
    """The values of an option's file, over those of the options of its group that it starts from."""
    values = OmegaConf.load(CONF / group / f"{name}.yaml")
    parents = [parent for parent in values.pop("defaults", []) if parent != "_self_"]
    return OmegaConf.merge(*(values_of(group, parent) for parent in parents), values)


def option(group: str, name: str, schema: type[Config], key: str | None = None) -> Config:
    """An option of conf/ whose file says everything, as train_scale=S256. UserError about `key` where there is none."""
    names = [path.stem for path in (CONF / group).glob("*.yaml")]
    require(name in names, no_option(key or group, name, names))
    return typed(values_of(group, name), schema)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"width": 1}} -> {"data.width": 1}."""
    items: dict[str, Any] = {}
    for key, value in tree.items():
        items.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return items


def train_part(cfg: TrainConfig) -> TrainConfig:
    """The configuration without what only evaluation reads."""
    return TrainConfig(**{key: getattr(cfg, key) for key in TrainConfig.__dataclass_fields__})
