"""The paper's numbers, results/paper.jsonl, as typed rows."""

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from vgg.core.paths import REPOSITORY

PAPER = REPOSITORY / "results" / "paper.jsonl"

FEW = 5  # classes, up to which there is no top-5 error

IMAGENET_MEAN = (123.68, 116.779, 103.939)  # RGB in 0..255, of the training images; published with the weights

Scales = tuple[tuple[int, ...], ...]  # the test scales of each net, in the paper's pixels

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row of the paper's: `place` says where it stands."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    place: str


@dataclass(frozen=True, kw_only=True)
class NetRow(PaperRow):
    """Table 1."""

    net: str
    weight_layers: int
    convolutions: str
    fully_connected: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SizeRow(PaperRow):
    """Table 2."""

    net: str
    million_parameters: int


@dataclass(frozen=True)
class Above:
    """An error that the paper gives as so many points more than that of other nets."""

    runs: tuple[str, ...]
    points: float


@dataclass(frozen=True, kw_only=True)
class ErrorRow(PaperRow):
    """Tables 3 to 7 and section 4.1: errors in %, None where the paper has none. Others' nets have no runs."""

    top1: float | None
    top5: float | None
    top5_test: float | None = None
    runs: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    q: Scales = ()
    method: str | None = None
    nets: int | str | None = None  # "several" where the paper does not count them
    top1_above: Above | None = None


@dataclass(frozen=True, kw_only=True)
class BoxRow(PaperRow):
    """Tables 8 to 10: localisation errors in %."""

    error: float | None
    error_test: float | None = None
    runs: tuple[str, ...] = ()
    q: Scales = ()
    protocol: str | None = None
    method: str | None = None


Number = float | Interval | None  # in %, alone or with its spread


@dataclass(frozen=True, kw_only=True)
class TransferRow(PaperRow):
    """Tables 11 and 12: mAP and mean class recall in %."""

    method: str
    voc07_map: Number = field(default=None)
    voc12_map: Number = field(default=None)
    caltech101_recall: Number = field(default=None)
    caltech256_recall: Number = field(default=None)
    voc12_actions_map: Number = field(default=None)


ROWS: dict[str, type[PaperRow]] = {
    "Table 1": NetRow,
    "Table 2": SizeRow,
    **dict.fromkeys((*(f"Table {number}" for number in range(3, 8)), "section 4.1"), ErrorRow),
    **dict.fromkeys((f"Table {number}" for number in range(8, 11)), BoxRow),
    **dict.fromkeys(("Table 11", "Table 12"), TransferRow),
}

adapter = cache(TypeAdapter)


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Every row of the paper's Tables 1 to 12, and what section 4.1 says of small filters."""
    lines = PAPER.read_bytes().splitlines()
    return tuple(adapter(ROWS[json.loads(line)["place"]]).validate_json(line) for line in lines)


def rows_of(place: str) -> list[Any]:
    """The rows of one table."""
    return [row for row in paper_rows() if row.place == place]


def error_rows() -> list[ErrorRow]:
    """The rows about nets of this grid with views and test scales: Tables 3 to 6, and section 4.1."""
    return [row for row in paper_rows() if isinstance(row, ErrorRow) and row.views and row.place != "Table 7"]
