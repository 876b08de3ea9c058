"""A plan is the set of runs a goal needs, parents first. Finished runs are skipped, interrupted ones resumed."""

import json
import re
import shlex
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from vgg.cells import CELL
from vgg.config import Data, EvaluateConfig, TrainConfig, TrainScale, UserError, keys, require, short
from vgg.images import Listing, data_root, listing
from vgg.nets import NOT_DENSE, OF_TABLE_1
from vgg.process import run_fresh
from vgg.runs import Run, differences, option, parent_config, run_name, scale_option, spoken
from vgg.text import duration


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
        from vgg.published import imported  # which imports torch

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


def planned(cfg: TrainConfig) -> list[Step]:
    """Every step of the cell or ablation that the configuration names, parents first, each once."""
    cells = [cfg] if cfg.ablation is None else [cell_config(cfg, cell) for cell in cfg.ablation.cells]
    steps: dict[str, Step] = {}
    for cell in cells:
        for step in lineage(cell):
            steps.setdefault(step.run.name, step)
    return list(steps.values())


def train(cfg: TrainConfig) -> None:
    """Print the plan and train what is missing, each run in a process of its own.

    A run that fails does not stop those that do not start from it; UserError names the failures at the end.
    """
    require(cfg.task != "transfer", "task=transfer trains no net, it is about finished ones: python evaluate.py")
    steps = planned(cfg)
    leads = cfg.trainer.node_rank == 0
    print("plan: " + (" → " if cfg.ablation is None else ", ").join(step.run.name for step in steps))
    if cfg.plan.dry_run:
        print(with_times(steps, cfg))
        return
    for step in steps:
        print(f"  {step.run.name:<28} {step.state}", flush=True)
    if not all(step.run.finished for step in steps):
        root = data_root(cfg.data, Path(cfg.dirs.cache))  # before processes that take seconds to start
        require(root.is_dir(), f"data.root={root}: no such folder")
    failures: dict[str, str] = {}
    begun, to_train = time.monotonic(), [step for step in steps if not step.run.finished]
    for step in steps:
        if step.run.finished:
            step.run.clear()
            continue
        if step.parent is not None and not step.parent.finished and leads:
            failures[step.run.name] = f"{step.run.name} was not started: {step.parent.name} is not finished"
            continue
        try:
            train_step(step, progress(step, to_train, cfg))
        except UserError as error:
            failures[step.run.name] = str(error)
    if failures:
        raise UserError("\n  ".join(failures.values()))
    took = f" in {duration(time.monotonic() - begun)}" if to_train else ""
    if cfg.ablation is not None:
        print(f"{len(steps)} runs are finished{took}. Evaluate them:\n  {command(cfg, 'evaluate.py')}")
        return
    if not leads:
        return
    run = steps[-1].run
    name, error = next(iter(run.record()["validation"].items()))
    method = "multicrop" if cfg.model.name in NOT_DENSE else "fused"
    print(
        f"{run.name} is finished{took}: {spoken(name)} {error:.2f} % on a centre crop of the validation images. "
        f"Evaluate it:\n  {command(cfg, 'evaluate.py')} eval={method}"
    )


def with_times(steps: list[Step], cfg: TrainConfig) -> str:
    """A dry run's lines: what is done, what is missing, and how long that may take."""
    from vgg import estimate  # which imports torch

    seconds = estimate.estimated_seconds(steps, cfg)
    on_paper = seconds is None and cfg.data.form == "imagenet"
    one_gpu = {step.run.name: estimate.h100_seconds(step) for step in steps if on_paper and not step.run.finished}
    lines = []
    for step in steps:
        name, time = step.run.name, ""
        if seconds and name in seconds:
            time = f"at most {duration(seconds[name])}"
        elif name in one_gpu:
            time = f"{duration(one_gpu[name]):>10} {duration(one_gpu[name] / estimate.EIGHT):>10}"
        lines.append(f"  {name:<28} {step.state:<44} {time}".rstrip())
    if one_gpu:
        lines.insert(0, f"{'':74} {'one H100':>10} {'eight':>10}")
        total = sum(one_gpu.values())
        lines.append(
            f"{len(one_gpu)} of {len(steps)} runs to train, {duration(total)} on one H100, "
            f"{duration(total / estimate.EIGHT)} on eight. Not measured: {estimate.OPERATIONS} operations for each "
            f"multiply-add,\n{estimate.SUSTAINED:.0%} of the {estimate.H100 / 1e12:.0f} TFLOP/s in bf16 sustained, "
            f"eight GPUs {estimate.EIGHT:g} times as fast as one, decoding that keeps up. plan.images_per_second=…\n"
            "estimates from net D's speed on your devices"
        )
        if cfg.trainer.precision != "bf16-mixed":
            lines.append(f"trainer.precision={cfg.trainer.precision} takes longer: these are bf16-mixed's times")
    elif seconds:
        lines.append(f"{len(seconds)} of {len(steps)} runs to train, at most {duration(sum(seconds.values()))} in turn")
    elif seconds is None and not all(step.run.finished for step in steps):
        lines.append("how long it takes is not known: give net D's speed on your devices, plan.images_per_second=400")
    return "\n".join(lines)


def progress(step: Step, to_train: list[Step], cfg: TrainConfig) -> dict[str, float] | None:
    """Print where in its plan a training stands and the time left, as far as a speed was measured.

    Returns that for the run's record: its number, how many runs are trained, and the seconds of those after it. None
    where there is one alone.
    """
    if len(to_train) == 1 or cfg.trainer.node_rank > 0:
        return None
    from vgg.estimate import estimated_seconds  # which imports torch

    number = to_train.index(step) + 1
    seconds = estimated_seconds(to_train[number - 1 :], cfg)
    left = f", about {duration(sum(seconds.values()))} left" if seconds else ""
    print(f"run {number} of {len(to_train)}{left}: {step.run.name}", flush=True)
    after = {"seconds_after": sum(seconds.values()) - seconds[step.run.name]} if seconds else {}
    return {"number": number, "runs": len(to_train)} | after


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
