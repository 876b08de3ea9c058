"""A plan is the set of runs a goal needs, parents first. Finished runs are skipped, interrupted ones resumed."""

import json
import shlex
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from vgg.core.compose import option, train_part
from vgg.core.config import STARTS_FROM_A, Data, EvaluateConfig, TrainConfig, TrainScale, keys
from vgg.core.errors import UserError, require, short
from vgg.data.datasets import listing
from vgg.data.listing import Listing
from vgg.launch.processes import run_fresh
from vgg.runs.cells import cell_config
from vgg.runs.identity import differences, run_name, scale_option
from vgg.runs.run import Run


def parent_config(cfg: TrainConfig) -> TrainConfig | None:
    """The configuration of the run this one starts from: only model, train_scale and trained layers replaced.

    None for random weights. A parent named by init.parent has no
    configuration here: it is taken as it is.
    """
    if cfg.task == "localisation":
        return replace(train_part(cfg), task="classification", layers="all")
    if cfg.train_scale.parent is not None:
        scale = option("train_scale", cfg.train_scale.parent, TrainScale, key="train_scale.parent")
        return replace(train_part(cfg), train_scale=scale, layers="all")
    if cfg.init.from_a and cfg.model.name in STARTS_FROM_A:
        return replace(train_part(cfg), model=replace(cfg.model, name="A"), layers="all")
    return None


@dataclass(frozen=True)
class Step:
    """One run of a plan, what it is trained with, and the run it starts from."""

    run: Run
    cfg: TrainConfig
    parent: Run | None

    @property
    def state(self) -> str:
        """For the printed plan."""
        if self.run.finished:
            return "finished"
        if any((self.run.folder / name).is_file() for name in ("last.ckpt", "previous.ckpt")):
            return "to resume"
        if self.parent is None:
            return "to train, from random weights"
        scale = self.parent.config().data.scale if self.parent.finished else self.cfg.data.scale
        return f"to train, from {self.parent.name}" + (f" of scale {scale:g}" if scale != self.cfg.data.scale else "")


# Of the options given on the command line, those that say which cell or what to do, and those of evaluate.py alone.
REPLACED = {"task", "model", "train_scale", "layers", "ablation", "chain", "plan", "eval"}

REPLACED |= keys(EvaluateConfig).keys() - keys(TrainConfig).keys()

ONE_OF_SEVERAL = {"trainer.num_nodes", "trainer.node_rank"}  # of torchrun's machines; evaluate.py runs on one


def given() -> dict[str, str]:
    """The options of the command line by their keys, as they were written: {"data.lr": "data.lr=0.1"}; groups too."""
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {word.lstrip("+~").partition("=")[0].partition("@")[0]: word for word in words}


def command(cfg: TrainConfig, script: str = "train.py") -> str:
    """The command for this cell: the one that was given, with another model, training scale and trained layers.

    Or for the named plan, which says its cells itself.
    """
    scale, name = cfg.train_scale, scale_option(cfg.train_scale.name)
    words = [f"model={cfg.model.name}", f"train_scale={name}"]
    usual = option("train_scale", name, TrainScale)
    words += [
        f"train_scale.{key}={short(value)}" for key, value in asdict(scale).items() if value != getattr(usual, key)
    ]
    words += ["layers=fc"] if cfg.layers == "fc" else []
    words += [f"task={cfg.task}"] if cfg.task == "localisation" else []
    if cfg.ablation is not None:
        words = [word for key, word in given().items() if key.startswith("ablation")]
    of_others = ONE_OF_SEVERAL if script == "evaluate.py" and cfg.trainer.launch == "torchrun" else set()
    for key, word in given().items():
        of_any_net = key.startswith("model.") and key != "model.name"  # as model.dropout, which model= does not replace
        if (of_any_net or REPLACED.isdisjoint((key, key.partition(".")[0]))) and key not in of_others:
            words.append(word)
    return shlex.join(["python", script, *words])


@cache
def listed(data: str, cache: Path) -> dict[str, Listing]:
    """Split -> its images, listed once a command; `data` is the option in JSON."""
    return {split: listing(Data(**json.loads(data)), cache, split) for split in ("train", "val")}


def images_of(cfg: TrainConfig) -> dict[str, Listing]:
    """Split -> the images that the configuration names."""
    return listed(json.dumps(asdict(cfg.data)), Path(cfg.dirs.cache))


def refuse_other_images(run: Run, cfg: TrainConfig) -> None:
    """Of a finished run, where the configuration's images are on this machine."""
    if "images" not in run.record():
        return
    try:
        images = images_of(replace(cfg, data=replace(cfg.data, download=False)))
    except UserError as error:
        print(f"{run.name}: its images are not compared: {error}")
        return
    run.refuse_other_images(images)


def lineage(cfg: TrainConfig) -> list[Step]:
    """The run of this configuration and the runs it starts from, parents first; a finished run needs no parents."""
    run = Run.named(run_name(cfg), cfg.dirs.runs)
    if run.finished:
        run.refuse_another(cfg)
        refuse_other_images(run, cfg)
        return [Step(run, cfg, None)]
    if cfg.weights.source is not None:
        from vgg.runs.published import imported  # which imports torch

        require(
            (cfg.data.scale, cfg.data.width) == (1, 1),
            f"weights={cfg.weights.source} are of nets at scale 1 and full width: add data.scale=1 data.width=1",
        )
        return [Step(run, cfg, imported(cfg))]
    if cfg.init.parent is not None:
        parent = Run.named(cfg.init.parent, cfg.dirs.runs, cfg.data)
        require(parent.finished, f"init.parent={cfg.init.parent}: no finished run in {parent.folder}")
        return [Step(run, cfg, parent)]
    start = parent_config(cfg)
    whole = cfg.task == "localisation" or cfg.train_scale.parent is not None  # otherwise net A's layers at most
    require(
        cfg.layers == "all" or whole,
        f"layers=fc: the convolutions of {run.name} are random and would stay so; take train_scale=S384 or jitter",
    )
    if start is None:
        return [Step(run, cfg, None)]
    parent = Run.named(run_name(start), cfg.dirs.runs)
    if parent.finished:
        refuse_other_images(parent, start)
        if different := differences(parent.config(), start):
            print(f"{run.name}: its parent {parent.name} is taken as it is, though\n  " + "\n  ".join(different))
        return [Step(parent, start, None), Step(run, cfg, parent)]
    require(cfg.chain, f"{run.name} starts from {parent.name}, which is not trained. Train it:\n  {command(start)}")
    return [*lineage(start), Step(run, cfg, parent)]


def planned(cfg: TrainConfig) -> list[Step]:
    """Every step of the cell or ablation that the configuration names, parents first, each once."""
    cells = [cfg] if cfg.ablation is None else [cell_config(cfg, cell) for cell in cfg.ablation.cells]
    steps: dict[str, Step] = {}
    for cell in cells:
        for step in lineage(cell):
            steps.setdefault(step.run.name, step)
    return list(steps.values())


def train_step(step: Step, position: dict[str, float] | None = None) -> None:
    """Train or resume one run while holding its lock; success is the weights on the disk. Its record says `position`.

    With torchrun on several machines, the one with node_rank 0 does that; the others' ranks wait for its own to start.
    """
    how = step.cfg.trainer
    if how.node_rank > 0:
        status = run_fresh("fit", step.run.folder, how)
        require(status == 0, f"{step.run.name}: this machine's ranks ended with exit status {status}")
        return
    with step.run.lock() as descriptor:
        if step.run.finished:  # by the process that held the lock
            step.run.refuse_another(step.cfg)
            return
        step.run.prepare(step.cfg, step.parent)
        step.run.update_record(plan=position)
        step.run.keep_images(images_of(step.cfg))
        status = run_fresh("fit", step.run.folder, how, keep_open=(descriptor,))
    if step.run.finished:
        return
    error = step.run.record().get("error")
    if error is None:  # a mistake says itself what to do, and would be made again
        resumes = "\nThe same command goes on with it" if status < 0 or status > 128 else ""  # a signal ended it
        error = f"its process ended with exit status {status}{resumes}"
    raise UserError(f"{step.run.name} was not finished: {error}")
