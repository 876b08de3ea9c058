"""docs/configuration.md: every key with its values, its defaults and its meaning, made from their definitions.

`python -m vgg options > docs/configuration.md`
"""

from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vgg.core.compose import CONF, flat, values_of
from vgg.core.config import EvaluateConfig, TrainConfig
from vgg.core.errors import short

START = """# Configuration

Every key of train.py and evaluate.py, as `KEY=VALUE` on the command line. This page is made by `python -m vgg options`
from `src/vgg/core/config.py`, which checks the values, and from `conf/`, which has them. The default is that of
`data=digits model=D train_scale=jitter`; where it is another key's, that one is named."""

WORDS = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text", type(None): "`null`"}


def schema_of(annotation: Any) -> type | None:
    """The group of keys that a field holds, None where it holds a value."""
    return next((part for part in (annotation, *get_args(annotation)) if is_dataclass(part)), None)


def values(annotation: Any) -> str:
    """What a field takes, in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list of: {values(get_args(annotation)[0])}"
    parts = get_args(annotation)
    if hasattr(annotation, "__metadata__"):  # Annotated: its bounds are said where they are broken
        return values(parts[0])
    return ", ".join(map(values, parts)) if parts else WORDS[annotation]


def default(config: dict[str, Any], key: str) -> str:
    """As YAML has it; `${data.lr}` is another key's."""
    value = config[key]
    return f"`{value[2:-1]}`'s" if isinstance(value, str) and value.startswith("${data.") else f"`{short(value)}`"


def rows(schema: type, config: dict[str, Any], prefix: str = "", leave_out: tuple[str, ...] = ()) -> list[str]:
    """A table's lines, a line a key."""
    lines = []
    for name, field in schema.__pydantic_fields__.items():
        key = prefix + name
        if name in leave_out or key not in config:
            continue
        lines.append(f"| `{key}` | {values(field.annotation)} | {default(config, key)} | {field.description} |")
    return lines


def table(lines: list[str]) -> str:
    return "\n".join(["| key | values | default | |", "|---|---|---|---|", *lines])


def composed(name: str) -> dict[str, Any]:
    """The values where nothing is given, flat; those that stand for another key's as they are written."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose(name), resolve=False)
    config["dirs"]["cache"] = "~/.cache/vgg"
    return flat(config)


def rendered() -> str:
    """The whole page as Markdown."""
    train, evaluate = composed("train"), composed("evaluate")
    parts = [START, "## One run", table(rows(TrainConfig, train))]
    for name, field in TrainConfig.__pydantic_fields__.items():
        schema = schema_of(field.annotation)
        if schema is None or name in ("data", "ablation"):
            continue
        parts += [f"## {name}", f"{field.description[0].upper()}{field.description[1:]}."]
        parts.append(table(rows(schema, train, f"{name}.")))
    parts += ["## evaluate.py", "All of these beside the keys above."]
    parts.append(table(rows(EvaluateConfig, evaluate, leave_out=tuple(TrainConfig.__pydantic_fields__))))
    for name, field in EvaluateConfig.__pydantic_fields__.items():
        schema = schema_of(field.annotation)
        if schema is not None and name not in TrainConfig.__pydantic_fields__:
            parts += [f"## {name}", f"{field.description[0].upper()}{field.description[1:]}."]
            parts.append(table(rows(schema, evaluate, f"{name}.")))
    return "\n\n".join([*parts, *data_options()]) + "\n"


def data_options() -> list[str]:
    """What each data option brings, side by side."""
    names = sorted(path.stem for path in CONF.glob("data/*.yaml") if path.stem != "base")
    options = {name: OmegaConf.to_container(values_of("data", name)) for name in names}
    schema = TrainConfig.__pydantic_fields__["data"].annotation
    head = f"| key | values | {' | '.join(f'`data={name}`' for name in options)} | |"
    lines = [head, "|---" * (len(options) + 3) + "|"]
    for name, field in schema.__pydantic_fields__.items():
        of_each = " | ".join(f"`{short(option[name])}`" for option in options.values())
        lines.append(f"| `data.{name}` | {values(field.annotation)} | {of_each} | {field.description} |")
    return ["## data", "The images, and what is chosen for them.", "\n".join(lines)]
