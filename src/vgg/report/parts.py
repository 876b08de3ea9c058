"""A part of the page, and what it lacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Lacking(Exception):
    """What is not there, in a sentence, and the command that makes it: a part of the report shows these instead."""

    def __init__(self, sentence: str, command: str = ""):
        super().__init__(sentence)
        self.command = command


@dataclass(frozen=True)
class Part:
    """A part of the page: what it shows, or the sentence that says what it lacks, and the command that makes it."""

    content: Any = None
    lacking: str = ""
    command: str = ""


def part(make: Callable[[], Any]) -> Part:
    """What `make` gives, or what it says is lacking."""
    try:
        return Part(make())
    except Lacking as lack:
        return Part(lacking=str(lack), command=lack.command)
