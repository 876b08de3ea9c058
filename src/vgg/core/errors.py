"""A user's mistakes as one line each."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

SYNONYMS = {"accumulate_grad_batches": "trainer.micro_batch", "learning_rate": "data.lr"}  # other programs' names


class UserError(Exception):
    """A mistake of the user's or a state of the disk: shown as one message, without a traceback."""


class Contradiction(ValueError):
    """Values of several keys that do not go together; its message names the keys."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def agree(condition: bool, message: str) -> None:
    """Raise Contradiction where keys of one class do not go together."""
    if not condition:
        raise Contradiction(message)


def short(value: Any) -> str:
    """A value in a line, at most 60 characters of it, as the command line and YAML write it."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:60]}…"


def nearest(key: str, names: list[str]) -> str | None:
    """The name that is most like this key, by its last part before all; None where none is like it."""

    def likeness(name: str) -> tuple[float, float]:
        last = (part.rpartition(".")[2] for part in (key, name))
        return SequenceMatcher(None, *last).ratio(), SequenceMatcher(None, key, name).ratio()

    if (synonym := SYNONYMS.get(key.rpartition(".")[2])) in names:
        return synonym
    best = max(names, key=likeness)
    return best if likeness(best)[0] >= 0.6 else None


def did_you_mean(key: str, names: list[str]) -> str:
    """The end of a message about a name that does not exist: the nearest one, or where all are."""
    name = nearest(key, names)
    return f"did you mean {name}?" if name else "python train.py --help and evaluate.py --help list all"


def no_option(key: str, value: str, options: Iterable[str]) -> str:
    """The message about an option that does not exist: with the nearest one, or all."""
    options = sorted(options)
    name = nearest(value, options)
    hint = f"did you mean {key}={name}?" if name else f"choose one of {', '.join(options)}"
    return f"{key}={short(value)}: there is no such option, {hint}"
