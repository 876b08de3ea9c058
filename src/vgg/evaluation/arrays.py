"""The arrays of posteriors and descriptors that an evaluation averages, computed where they are missing."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from vgg.core.catalogue import NOT_DENSE, OF_TABLE_1, PUBLISHED
from vgg.core.config import DESCRIPTORS, EvaluateConfig, TrainScale
from vgg.core.errors import require, short
from vgg.core.files import alone
from vgg.core.scales import PAPER_CROP, multi_scale, single_scale
from vgg.data.listing import Listing, refuse_unreadable, same_classes, why_unreadable
from vgg.evaluation import posteriors
from vgg.evaluation.errors import VIEW_NAMES
from vgg.evaluation.posteriors import Key
from vgg.launch.processes import run_fresh
from vgg.runs import plan
from vgg.runs.identity import identity, run_name
from vgg.runs.run import Run

# Identity keys that say something of the images to score and how, here.
OF_EVALUATION = {"task", "trainer.precision", "data.name", "data.form", "data.classes", "data.mirror"}

OF_PUBLISHED = {"model.name", "model.ceil_mode", "data.scale", "data.width"}  # those that weights from elsewhere have

GROUPS = {"model.name": "model", "init.from_a": "init", "init.draw": "init"}  # by which these keys are given

GROUPS |= {f"train_scale.{name}": "train_scale" for name in ("name", "smin", "smax", "lr_factor", "parent")}


@dataclass(frozen=True)
class Array:
    """One array of posteriors or descriptors that an evaluation needs."""

    run: Run
    key: Key
    path: Path


def evaluated_runs(cfg: EvaluateConfig) -> list[Run]:
    """The finished runs that the configuration names. Raises UserError with the command that trains a missing one.

    And where an option of the command line says something else of a net than its run's own configuration.
    """
    runs = named_runs(cfg)
    for run in runs:
        refuse_contradictions(cfg, run)
    return runs


def refuse_contradictions(cfg: EvaluateConfig, run: Run) -> None:
    """Raise UserError where the command line gives an identity key another value than the run has.

    A data option names the images to score: its keys count where they are given one by one. What was held out of a
    folder without a split counts always: another share would score photos that the net was trained on.
    """
    published = run.published
    options, asked, stored = plan.given(), identity(cfg), identity(run.config())
    held_out = "data.val_share" if stored["data.name"] == cfg.data.name else None
    different = [
        f"{key}={short(asked[key])}, but {run.name} has {key}={short(stored[key])}"
        for key in asked.keys() & stored.keys()
        if (key in options or GROUPS.get(key) in options or key == held_out)
        and asked[key] != stored[key]
        and key not in OF_EVALUATION
        and not (published and key not in OF_PUBLISHED)
    ]
    require(not different, "\n".join(sorted(different)))


def named_runs(cfg: EvaluateConfig) -> list[Run]:
    """The finished runs of these names, or the one that model, train_scale and so on name."""
    if cfg.runs is None:
        run = Run.named(run_name(cfg), cfg.dirs.runs)
        published = cfg.weights.source is not None and cfg.task != "localisation"
        if published and not run.finished:  # not trained further: the published net itself
            from vgg.runs.published import imported  # which imports torch

            return [imported(cfg)]
        require(run.finished, f"{run.name} is not trained. Train it:\n  {plan.command(cfg)}")
        return [run]
    runs = [Run.named(name, cfg.dirs.runs, cfg.data) for name in cfg.runs]
    missing = [run for run in runs if not run.finished]
    for source, _, net in (run.name.partition("/") for run in missing):
        require(
            net not in PUBLISHED.get(source, ()),
            f"{source}/{net} is not here yet: model={net} weights={source} in the place of runs= fetches it",
        )
    require(not missing, "not trained, or not finished: " + ", ".join(f"{run.name} ({run.folder})" for run in missing))
    return runs


def test_scales(cfg: EvaluateConfig, run: Run) -> list[int]:
    """The test scales Q of this run in the paper's pixels: those given, or the rule for its training scale.

    Of a published net the configuration says what scale that was.
    """
    return scales_for(cfg, cfg.train_scale if run.published else run.config().train_scale)


def scales_for(cfg: EvaluateConfig, scale: TrainScale) -> list[int]:
    """The test scales for this training scale."""
    if cfg.test_scale.q is not None:
        return list(cfg.test_scale.q)
    rule = {"single": single_scale, "multi": multi_scale}[cfg.test_scale.rule]
    scales = list(rule(scale.smin, scale.smax))
    require(
        min(scales) >= PAPER_CROP,
        f"test_scale={cfg.test_scale.rule} is Q = {', '.join(map(str, scales))} for a net of S = {scale.smin}, and Q = "
        f"{min(scales)} is smaller than the {PAPER_CROP} crop: test_scale.q=[…] names others",
    )
    return scales


def arrays_of(cfg: EvaluateConfig, run: Run, images: Listing) -> list[Array]:
    """Every (run, view, Q) whose posteriors this evaluation averages for one run."""
    class_match(run, images)
    return arrays_under(cfg, run, images, cfg.eval_method.views, test_scales(cfg, run))


def class_match(run: Run, images: Listing) -> str | None:
    """How a published net's classes and the images' belong together; None for a run's, which must be the same."""
    classes = tuple(run.record()["classes"])
    if run.published:
        from vgg.runs.weights import published_match  # which imports torch

        return published_match(run.name, classes, images)
    same_classes(classes, images.classes, f"{run.name} cannot be scored on {images.root}")
    return None


def arrays_under(cfg: EvaluateConfig, run: Run, images: Listing, views: list[str], scales: list[int]) -> list[Array]:
    """Every (run, view, Q) of one run, with the rounding of its pools that the configuration asks for."""
    record, cfg_of_run = run.record(), run.config()
    require(
        cfg_of_run.model.name not in NOT_DENSE or not {"dense", *DESCRIPTORS}.intersection(views),
        f"{run.name} cannot be dense, its input is fixed: eval_method=multicrop, tencrop or center",
    )
    ours = cfg_of_run.model.name in OF_TABLE_1
    require(cfg.ceil_mode is None or ours, f"ceil_mode={cfg.ceil_mode} is about Table 1's nets, not about {run.name}")
    ceil_mode = cfg_of_run.model.ceil_mode if cfg.ceil_mode is None else cfg.ceil_mode
    arrays = []
    for view in views:
        for q in scales:
            key = Key(
                weights=record["weights_sha256"],
                images=images.sha256,
                view=view,
                q=q,
                softmax=cfg.eval_method.softmax if view == "dense" else "last",
                ceil_mode=ceil_mode,
                mirror=cfg.data.mirror,
                precision=cfg.trainer.precision,
            )
            arrays.append(Array(run, key, key.path(Path(cfg.dirs.cache))))
    return arrays


def is_missing(array: Array, images: Listing) -> bool:
    """Whether it is not stored, or is of other images with the same names and sizes.

    Or leaves out an image that can be read by now: a disk has its moments.
    """
    if not array.path.is_file() or posteriors.origin(array.path).get("content", images.content) != images.content:
        return True
    return any(why_unreadable(images, index) is None for index in posteriors.left_out(array.path))


def compute_missing(cfg: EvaluateConfig, arrays: list[Array], images: Listing) -> None:
    """Have the missing arrays computed, one process a run, and by one of the commands that want them."""
    require(
        cfg.trainer.launch != "torchrun" or cfg.trainer.num_nodes == 1,
        "evaluate.py runs on one machine, or on several in a Slurm allocation (trainer=slurm)",
    )
    for run in dict.fromkeys(array.run for array in arrays if is_missing(array, images)):
        of_run = [array for array in arrays if array.run == run]
        with alone(of_run[0].path.with_name(of_run[0].key.weights)):
            tasks = [
                {"view": array.key.view, "q": array.key.q, "path": str(array.path)}
                for array in of_run
                if is_missing(array, images)
            ]
            said = ", ".join(f"{VIEW_NAMES[task['view']]} at Q={task['q']}" for task in tasks)
            if tasks:
                print(f"{run.name}: {said}", flush=True)
                compute(cfg, run, tasks)


def compute(cfg: EvaluateConfig, run: Run, tasks: list[dict[str, Any]], **more: Any) -> None:
    """Have one run's arrays computed by a process of its own; arrays among `more` it finds in files."""
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=".score-") as folder:  # where every machine sees it
        request = Path(folder) / "request.yaml"
        for name, value in more.items():
            if isinstance(value, np.ndarray):
                more[name] = str(Path(folder) / f"{name}.npy")
                np.save(more[name], value)
        content = {"run": run.name, "tasks": tasks, "config": asdict(cfg)} | more
        OmegaConf.save(OmegaConf.create(content), request)
        status = run_fresh("score", request, cfg.trainer)
    require(status == 0, f"{run.name} could not be evaluated (exit status {status})")


def posterior_of(cfg: EvaluateConfig, runs: list[Run], images: Listing) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the posteriors asked for, (images, classes), and the images that it covers."""
    arrays = [array for run in runs for array in arrays_of(cfg, run, images)]
    for match in filter(None, (class_match(run, images) for run in runs)):
        print(match, flush=True)
    loaded, covered = stored(cfg, arrays, images)
    return posteriors.mean(loaded), covered


def stored(cfg: EvaluateConfig, arrays: list[Array], images: Listing) -> tuple[list[np.ndarray], np.ndarray]:
    """The arrays, computed where they are missing, and the images (images,) that all of them cover.

    Raises UserError listing the others, unless they may be skipped.
    """
    compute_missing(cfg, arrays, images)
    loaded, named = [], set()
    for array in arrays:
        rows, covered = posteriors.load(array.path, len(images))
        refuse_unreadable(images, [i for i in np.flatnonzero(~covered) if i not in named], cfg.data.skip_corrupt)
        named.update(np.flatnonzero(~covered))
        loaded.append(rows)
    return loaded, np.array([index not in named for index in range(len(images))])
