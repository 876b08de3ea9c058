"""train.py: print a plan and train what it lacks."""

import time
from pathlib import Path

from vgg.core.catalogue import NOT_DENSE
from vgg.core.config import TrainConfig
from vgg.core.errors import UserError, require
from vgg.core.text import duration, spoken
from vgg.data.datasets import data_root
from vgg.data.summary import summary
from vgg.runs.plan import Step, command, images_of, planned, train_step


def train(cfg: TrainConfig) -> None:
    """Print the plan and train what is missing, each run in a process of its own.

    A run that fails does not stop those that do not start from it; UserError names the failures at the end.
    """
    require(cfg.task != "transfer", "task=transfer trains no net, it is about finished ones: python evaluate.py")
    steps = planned(cfg)
    leads = cfg.trainer.node_rank == 0
    if not cfg.plan.dry_run and cfg.data.form == "folder" and not all(step.run.finished for step in steps):
        images = images_of(cfg)  # a wrong folder is refused before anything else is said
        if leads:
            print(f"{cfg.data.name}: {cfg.data.root}\n{summary(cfg.data, images, Path(cfg.dirs.cache))}")
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
    from vgg.runs import estimate  # which imports torch

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
    from vgg.runs.estimate import estimated_seconds  # which imports torch

    number = to_train.index(step) + 1
    seconds = estimated_seconds(to_train[number - 1 :], cfg)
    left = f", about {duration(sum(seconds.values()))} left" if seconds else ""
    print(f"run {number} of {len(to_train)}{left}: {step.run.name}", flush=True)
    after = {"seconds_after": sum(seconds.values()) - seconds[step.run.name]} if seconds else {}
    return {"number": number, "runs": len(to_train)} | after
