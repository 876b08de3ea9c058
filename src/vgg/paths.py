"""Paths as people write them: `~` and variables of the environment stand for what they stand for in a shell."""

import os
import re

from omegaconf import DictConfig, OmegaConf

from vgg.config import UserError, require

SETTINGS = ("data.root", "data.val", "dirs.runs", "dirs.cache", "weights.path", "localisation.annotations")
SETTINGS += ("submission", "test", "devkit")  # evaluate.py's


def expanded(text: str, key: str = "") -> str:
    """`~/photos` or `$HOME/photos` as a whole path. UserError, with the setting's key, for what stands for nothing."""
    path = os.path.expandvars(os.path.expanduser(text))
    name = f"{key}={text}" if key else text
    require(path[:1] != "~" or os.path.exists(path), f"{name}: no home folder is there for {path.partition('/')[0]}")
    missing = re.match(r".*?\$(\w+|\{\w+\})", path, re.DOTALL)
    if missing and not os.path.exists(path):
        raise UserError(f"{name}: the environment has no variable {missing[1].strip('{}')}")
    return path


def expand(cfg: DictConfig) -> None:
    """Expand every path that is a setting, in place."""
    for key in SETTINGS:
        if isinstance(value := OmegaConf.select(cfg, key), str):
            OmegaConf.update(cfg, key, expanded(value, key))


def quoted(arguments: list[str]) -> list[str]:
    """The command line's words with `data.root=~/photos` as Hydra takes it, in quotation marks."""
    return [re.sub(rf"({'|'.join(SETTINGS)})=(~[^,'\"]*)", r'\1="\2"', word) for word in arguments]


def cache() -> str:
    """The cache where dirs.cache names no other: $XDG_CACHE_HOME/vgg, or ~/.cache/vgg."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vgg")


OmegaConf.register_new_resolver("vgg.cache", cache, replace=True)
OmegaConf.register_new_resolver("vgg.path", expanded, replace=True)
