"""Paths as people write them: `~` and variables of the environment stand for what they stand for in a shell."""

import hashlib
import os
import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vgg.core.errors import UserError, require

REPOSITORY = Path(__file__).resolve().parents[3]

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
    """The command line's words with `data.root=~/photos` as Hydra takes it, each path of a sweep in quotes."""
    return [quoted_word(word) for word in arguments]


def quoted_word(word: str) -> str:
    key, equals, value = word.partition("=")
    if key.lstrip("+") not in SETTINGS:
        return word
    home = re.compile(r"~[^'\"]*")
    return key + equals + ",".join(f'"{path}"' if home.fullmatch(path) else path for path in value.split(","))


def cache() -> str:
    """The cache where dirs.cache names no other: $XDG_CACHE_HOME/vgg, or ~/.cache/vgg."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vgg")


def folder_digest(folder: Path) -> str:
    """What the cache calls a folder: 16 letters that stand for its whole path."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


OmegaConf.register_new_resolver("vgg.cache", cache, replace=True)

OmegaConf.register_new_resolver("vgg.path", expanded, replace=True)
