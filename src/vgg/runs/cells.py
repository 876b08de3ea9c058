"""The names of the grid's cells, and the configuration of a cell."""

import re
from dataclasses import replace

from vgg.core.catalogue import DRAWS, MODELS, OF_TABLE_1, TRAINING_SCALES
from vgg.core.compose import option
from vgg.core.config import TrainConfig, TrainScale
from vgg.core.errors import require
from vgg.runs.identity import scale_option


def scale_of(name: str) -> TrainScale | None:
    """The training scale that a run's name tells, with or without its data; None where it follows no cell's pattern."""
    found = CELL.match(name.rpartition("/")[2])
    if found is None:
        return None
    given = {key: int(value) for key, value in re.findall(r"-(smin|smax)(\d+)(?=-|$)", name)}
    return replace(option("train_scale", scale_option(found["scale"]), TrainScale), **given)


def cell_config(cfg: TrainConfig, cell: str) -> TrainConfig:
    """The configuration of an ablation's cell, named as its run is without the data: `D-jitter-fc`, `A-256-std001`."""
    found = CELL.fullmatch(cell)
    require(found is not None, f"ablation.cells: {cell} is not a cell, as D-jitter-fc or A-256-std001 are")
    other = {found["model"], cfg.model.name} - set(OF_TABLE_1)
    require(not other, f"an ablation is of Table 1's nets; others bring their recipes by model={','.join(other)}")
    return replace(
        cfg,
        ablation=None,
        model=replace(cfg.model, name=found["model"]),
        train_scale=scale_of(cell),
        layers="fc" if found["fc"] else "all",
        task="localisation" if found["boxes"] else "classification",
        localisation=replace(cfg.localisation, boxes=found["boxes"] or cfg.localisation.boxes),
        init=replace(cfg.init, draw=found["draw"] or cfg.init.draw, from_a=cfg.init.from_a and not found["no_a"]),
    )


# A run's name without data and seed that fullmatches this differs from its options' defaults in nothing else.
CELL = re.compile(
    rf"(?P<model>{'|'.join(MODELS)})-(?P<scale>{'|'.join(TRAINING_SCALES)})(?P<fc>-fc)?(-(?P<draw>{'|'.join(DRAWS)}))?(?P<no_a>-noA)?(-loc-(?P<boxes>pcr|scr))?"
)

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


def full_name(cell: str, draw: str) -> str:
    """A cell's name that says its draw, whatever the data option's default is."""
    found = CELL.fullmatch(cell)
    return f"{found['model']}-{found['scale']}{found['fc'] or ''}-{draw}{found['no_a'] or ''}"
