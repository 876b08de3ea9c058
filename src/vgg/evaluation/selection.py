"""Which evaluations count: of which origin, of which weights, about which images, and of which cell of the grid."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg.core.errors import require
from vgg.core.files import write_whole
from vgg.core.paper import ErrorRow, error_rows
from vgg.core.paths import REPOSITORY
from vgg.evaluation.records import KINDS, Classification, Kind, Localisation, read, written
from vgg.runs.cells import cell_of, full_name, without_seed

K_AND_T = (5, 0.0)  # of the merging of boxes: the paper states neither, these are conf/evaluate.yaml's


def cells_of(line: Classification | Localisation) -> list[str | None]:
    """The paper's cells that an evaluation's runs are of."""
    trained = zip(line.runs, line.seed, line.draw, strict=True)
    return [cell_of(run, line.data, seed, draw, line.default_draw) for run, seed, draw in trained]


def papers_settings(line: Classification | Localisation) -> bool:
    """Whether an evaluation is the paper's: cells of its grid trained as the data option has it, all of one seed, pools
    that round down, the soft-max last, boxes merged by K_AND_T."""
    unstated = line.softmax == "last" if isinstance(line, Classification) else (line.k, line.t) == K_AND_T
    return len(set(line.seed)) == 1 and not any(line.ceil_mode) and unstated and None not in cells_of(line)


Cell = tuple[tuple[tuple[str, tuple[int, ...]], ...], tuple[str, ...]]  # (net, its test scales) ..., views

BySeed = dict[int, Classification]


def curated(data: str, kind: str = "results") -> Path:
    """Where results that are kept in the repository stand."""
    return REPOSITORY / "results" / (f"{data}.jsonl" if kind == "results" else f"{data}-{kind}.jsonl")


@dataclass(frozen=True)
class Origins:
    """Where evaluations on one data set come from: the repository, and a folder of runs."""

    data: str
    runs: Path
    mine: bool = False  # the user's are what is shown and decided by

    def kept(self, kind: type[Kind]) -> list[Kind]:
        return read(curated(self.data, kind.kind), kind)

    def made(self, kind: type[Kind]) -> list[Kind]:
        """The user's."""
        return read(self.runs / self.data / f"{kind.kind}.jsonl", kind)

    @property
    def of_user(self) -> bool:
        """Whether the user's are what is shown: they were asked for, or the repository has nothing on this data."""
        return self.mine or not any(curated(self.data, kind).is_file() for kind in KINDS)

    def ours(self, kind: type[Kind]) -> list[Kind]:
        """What is shown, and decided by."""
        return self.made(kind) if self.of_user else self.kept(kind)

    def yours(self, kind: type[Kind]) -> list[Kind] | None:
        """What stands in columns of its own; None where there is no such column."""
        return None if self.of_user or not (made := self.made(kind)) else made


def keep(data: str, runs: Path) -> dict[Path, int]:
    """Copy the evaluations made here to results/; the files there, and the number of lines that each then has."""
    origins, kept = Origins(data, runs), {}
    for kind in KINDS.values():
        if made := origins.made(kind):
            lines = {line.key: line for line in origins.kept(kind)}
            for line in made:
                lines.pop(line.key, None)
                lines[line.key] = line
            with write_whole(curated(data, kind.kind)) as file:
                file.write("".join(map(written, lines.values())).encode())
            kept[curated(data, kind.kind)] = len(lines)
    require(bool(kept), f"nothing to keep: {runs / data / 'results.jsonl'} is missing or empty")
    return kept


def current(lines: Sequence[Kind]) -> list[Kind]:
    """Without the evaluations of weights that are gone: a run's last line says which weights it has."""
    weights = {run: sha256 for line in lines for run, sha256 in zip(line.runs, line.weights_sha256, strict=True)}
    return [line for line in lines if line.weights_sha256 == tuple(weights[run] for run in line.runs)]


def settled(lines: Sequence[Kind]) -> list[Kind]:
    """Those about one set of images, with or without their mirror images, at one precision: what most lines have, of
    equally many the last."""
    about = [(line.images_sha256, line.images, set(line.mirror) == {True}, line.precision) for line in lines]
    counts = Counter(reversed(about))
    most = max(counts, key=counts.get, default=None)
    return [line for line, one in zip(lines, about, strict=True) if one == most]


def net_cell(nets: Sequence[tuple[str, Sequence[int]]], views: Sequence[str]) -> Cell:
    """What has an error in the paper's grid, whatever the order of nets, scales and views."""
    return tuple(sorted((net, tuple(sorted(q))) for net, q in nets)), tuple(sorted(views))


def by_cell(lines: Sequence[Classification]) -> dict[Cell, BySeed]:
    """Evaluations with the paper's settings by cell and seed, about the same images at the same precision.

    A net of the data option's draw stands under its bare name, and under the name that says the draw.
    """
    evaluations: dict[Cell, BySeed] = {}
    for line in settled([line for line in lines if papers_settings(line)]):
        cells = cells_of(line)
        full = [full_name(cell, draw) for cell, draw in zip(cells, line.draw, strict=True)]
        for names in {tuple(cells), tuple(full)}:
            evaluations.setdefault(net_cell(list(zip(names, line.q, strict=True)), line.views), {})[line.seed[0]] = line
    return evaluations


def matching(row: ErrorRow, lines: Sequence[Classification]) -> list[Classification]:
    """Our evaluations of a row's nets, views and scales, one a seed."""
    return list(by_cell(current(lines)).get(row_cell(row), {}).values())


def row_cell(row: ErrorRow) -> Cell:
    return net_cell(list(zip(row.runs, row.q, strict=True)), row.views)


def paper_row(line: Classification) -> ErrorRow | None:
    """The paper's row for the same nets, views and scales, whatever the data and seed; the last where several have
    it."""
    asked = net_cell(list(zip(map(without_seed, line.cells), line.q, strict=True)), line.views)
    return next((row for row in reversed(error_rows()) if row_cell(row) == asked and row.top1 is not None), None)
