"""What is kept of an evaluation, a line of JSON: record classes, read and written here alone."""

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import ConfigDict, ValidationError

from vgg.core.errors import UserError
from vgg.core.paper import Interval, Scales, adapter


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What all kinds of evaluations have: of which nets and images, and with which command, code and versions."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    kind: ClassVar[str]  # the name of its file, and what follows the data's name in results/

    runs: tuple[str, ...]
    cells: tuple[str, ...]  # the runs' names without the data; of published weights the cell that they are scored as
    data: str
    classes: int
    scale: tuple[float, ...]
    mirror: tuple[bool, ...]  # whether the evaluation averages the mirror images in
    schedule: tuple[tuple[tuple[float, float], ...] | None, ...]  # (share of the epochs, factor) ...; None: plateaus
    width: tuple[float, ...]
    parameters: tuple[int, ...]
    multiply_adds: tuple[int, ...]  # of a training crop
    seed: tuple[int, ...]
    draw: tuple[str, ...]
    from_a: tuple[bool, ...]
    default_draw: str  # the data option's
    ceil_mode: tuple[bool, ...]
    precision: str
    source_sha256: tuple[str | None, ...]  # of published weights' files
    weights_sha256: tuple[str, ...]
    images_sha256: str
    images: int
    skipped: int
    groups: str | None  # sampling.packed_groups; None: every image is a photo of its own
    command: str
    commit: str | None
    date: str
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """What was evaluated, and how: a later line with the same key takes an earlier one's place."""
        return json.dumps([*self.settings(), self.mirror, self.precision, self.images_sha256])

    def settings(self) -> tuple[Any, ...]:
        """What the key has besides precision and images."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Classification(Evaluation):
    """Section 4: errors in %, their 95 % intervals, and for every image whether it was right, as packed bits."""

    kind = "results"
    views: tuple[str, ...]
    q: Scales
    softmax: str
    top1: float
    top1_interval: Interval
    top1_correct: str
    top5: float | None  # None with at most FEW classes, as are the next two
    top5_interval: Interval | None
    top5_correct: str | None
    majority_error: float  # of always answering the most frequent class
    class_error: float  # the mean of the classes' top-1 errors

    def __post_init__(self) -> None:
        for name in ("top1_correct", "top5_correct"):
            if (text := getattr(self, name)) is not None:
                bits(name, text, self.images)

    @property
    def nets(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(run, its test scales) of each net: the order of neither is told apart."""
        return tuple(sorted((run, tuple(sorted(q))) for run, q in zip(self.runs, self.q, strict=True)))

    def settings(self) -> tuple[Any, ...]:
        return self.nets, sorted(self.views), self.softmax, self.ceil_mode

    @property
    def at_chance(self) -> bool:
        """Whether the interval of the top-1 error reaches the error of always answering the most frequent class."""
        return self.top1_interval[1] >= self.majority_error

    def correct(self, key: str = "top1") -> np.ndarray:
        """(images,) bool: whether an image was right."""
        return bits(key, getattr(self, f"{key}_correct"), self.images)


@dataclass(frozen=True, kw_only=True)
class Localisation(Evaluation):
    """Appendix A: the localisation error in %."""

    kind = "localisation"
    protocol: str
    q: Scales
    classes_by: tuple[str, ...]
    k: int
    t: float
    error: float
    error_interval: Interval
    error_correct: str
    class_error: float  # the mean of the classes' errors
    mean_iou: float
    constant_box_error: float  # of the best constant box, the class given

    def __post_init__(self) -> None:
        bits("error_correct", self.error_correct, self.images)

    def settings(self) -> tuple[Any, ...]:
        return self.runs, self.q, self.protocol, self.classes_by, self.k, self.t

    def correct(self, key: str = "error") -> np.ndarray:
        """(images,) bool: whether an image was right."""
        return bits(key, getattr(self, f"{key}_correct"), self.images)


@dataclass(frozen=True, kw_only=True)
class Transfer(Evaluation):
    """Appendix B: linear SVMs on descriptors, in %: mean class recall over splits, or mAP."""

    kind = "transfer"
    features: str
    q: tuple[int, ...]
    combine: str
    samples: int
    dimensions: int
    held_out: float
    split_seed: int
    labels: str
    train: int | str  # images a class, or the split's name
    test: int | str
    training_samples: int
    test_samples: int
    measure: str
    c: tuple[float, ...]
    mean: float
    spread: float | None  # between splits
    recall: tuple[float, ...] | None  # of each split; None for VOC, where the following are not
    person_boxes: bool = False
    year: int | None = None
    ap: dict[str, tuple[float, float]] | None = None  # area, 11-point
    map_area: float | None = None
    map_11_point: float | None = None

    def settings(self) -> tuple[Any, ...]:
        return (
            *(sorted(self.runs), len(self.c), self.features, self.q, self.combine, self.labels, self.person_boxes),
            *(self.train, self.test, self.held_out, self.split_seed, self.ceil_mode),
        )


KINDS = {record.kind: record for record in (Classification, Localisation, Transfer)}

Kind = TypeVar("Kind", bound=Evaluation)


def bits(name: str, text: str, count: int) -> np.ndarray:
    """(count,) bool from packed bits. Raises ValueError where they are not so many."""
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{name} has {len(packed)} bytes for {count} images")
    return np.unpackbits(packed, count=count).astype(bool)


def packed_bits(right: np.ndarray) -> str:
    """(images,) bool as text."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def written(record: Evaluation) -> str:
    """A record as a line of JSON."""
    return json.dumps(asdict(record)) + "\n"


def read(path: Path, kind: type[Kind]) -> list[Kind]:
    """The evaluations in a file, of several with one key the last; none where there is no file.

    Raises UserError naming a line that is damaged or of another version.
    """
    by_key: dict[str, Kind] = {}
    for number, text in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
        try:
            record = adapter(kind).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            what = ".".join(map(str, first["loc"])) or "it"
            raise UserError(
                f"{path}, line {number} is damaged or of another version ({what}: {first['msg']}): remove the line"
            ) from error
        by_key.pop(record.key, None)
        by_key[record.key] = record
    return list(by_key.values())
