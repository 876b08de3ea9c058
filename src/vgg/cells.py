"""The names of the grid's cells, and which evaluations are the paper's: one cell, one seed, nothing else changed."""

import re

from vgg.nets import DRAWS, MODELS, TRAINING_SCALES
from vgg.records import Classification, Localisation

# A run's name without data and seed that fullmatches this differs from its options' defaults in nothing else.
CELL = re.compile(
    rf"(?P<model>{'|'.join(MODELS)})-(?P<scale>{'|'.join(TRAINING_SCALES)})(?P<fc>-fc)?(-(?P<draw>{'|'.join(DRAWS)}))?(?P<no_a>-noA)?(-loc-(?P<boxes>pcr|scr))?"
)
K_AND_T = (5, 0.0)  # of the merging of boxes: the paper states neither, these are conf/evaluate.yaml's
SEED = re.compile(r"-seed(\d+)(?=-|$)")


def without_seed(name: str) -> str:
    """What the runs of several seeds share of their names."""
    return SEED.sub("", name)


def cell_of(run: str, data: str, seed: int, draw: str, default_draw: str) -> str | None:
    """The paper's cell that a run is of, by its name; None where the name says that something else was changed too.

    A run's name has a suffix for every setting that differs from the data option's default; one that says the default
    is a tag.
    """
    name = run.removeprefix(f"{data}/")
    said = SEED.search(name)
    found = CELL.fullmatch(without_seed(name))
    named = found and (int(said[1]) if said else 1, found["draw"])
    if named != (seed, None if draw == default_draw else draw):
        return None
    return without_seed(name)


def cells_of(line: Classification | Localisation) -> list[str | None]:
    """The paper's cells that an evaluation's runs are of."""
    each = zip(line.runs, line.seed, line.draw, strict=True)
    return [cell_of(run, line.data, seed, draw, line.default_draw) for run, seed, draw in each]


def papers_settings(line: Classification | Localisation) -> bool:
    """Whether an evaluation is the paper's: cells of its grid trained as the data option has it, all of one seed, pools
    that round down, the soft-max last, boxes merged by K_AND_T."""
    unstated = line.softmax == "last" if isinstance(line, Classification) else (line.k, line.t) == K_AND_T
    return len(set(line.seed)) == 1 and not any(line.ceil_mode) and unstated and None not in cells_of(line)


def full_name(cell: str, draw: str) -> str:
    """A cell's name that says its draw, whatever the data option's default is."""
    found = CELL.fullmatch(cell)
    return f"{found['model']}-{found['scale']}{found['fc'] or ''}-{draw}{found['no_a'] or ''}"
