"""An evaluation's line: errors, and with which nets, images, command, code and versions it was made.

runs/<data>/results.jsonl holds every evaluation made here; results/ holds the paper's rows and curated ones of ours.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vgg.core.config import EvaluateConfig
from vgg.core.errors import require
from vgg.core.paper import FEW
from vgg.core.software import commit, versions
from vgg.data.listing import Listing, printable
from vgg.evaluation import posteriors
from vgg.evaluation.records import Classification, Evaluation, packed_bits, written
from vgg.evaluation.sampling import groups_of, interval, packed_groups
from vgg.runs.run import Run


def photos(cfg: EvaluateConfig, images: Listing, covered: np.ndarray) -> np.ndarray | None:
    """(covered images,) numbers of the photos that they show; None where each shows its own."""
    groups = groups_of(cfg.data.form, images.files)
    return None if groups is None else np.unique(groups[covered], return_inverse=True)[1]


def error(name: str, right: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    """The error in % under this name, its 95 % interval, and for every image whether it was right."""
    ends = interval(right, np.arange(len(right)) if groups is None else groups)
    return {
        name: round(100 * float((~right).mean()), 4),
        f"{name}_interval": tuple(round(end, 2) for end in ends),
        f"{name}_correct": packed_bits(right),
    }


def class_error(right: np.ndarray, labels: np.ndarray) -> float:
    """The mean of the errors in % of the classes that have images."""
    return round(100 * float(np.mean([1 - right[labels == label].mean() for label in np.unique(labels)])), 4)


def provenance(
    cfg: EvaluateConfig, runs: list[Run], images: Listing, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """The nets and images of an evaluation, and with which command, code and versions it was made."""
    configs, records = [run.config() for run in runs], [run.record() for run in runs]
    return {
        "runs": tuple(run.name for run in runs),
        "data": cfg.data.name,
        "classes": len(images.classes),
        "scale": tuple(of_run.data.scale for of_run in configs),
        "mirror": tuple(cfg.data.mirror for _ in configs),
        "schedule": tuple(
            of_run.optimizer.schedule and tuple((share, factor) for share, factor in of_run.optimizer.schedule)
            for of_run in configs
        ),
        "width": tuple(of_run.data.width for of_run in configs),
        "parameters": tuple(record["parameters"] for record in records),
        "multiply_adds": tuple(record["multiply_adds"] for record in records),
        "cells": tuple(
            f"{of_run.model.name}-{cfg.train_scale.name}" if run.published else run.name.split("/")[1]
            for run, of_run in zip(runs, configs, strict=True)
        ),
        "source_sha256": tuple(record.get("source_sha256") for record in records),
        "seed": tuple(of_run.seed for of_run in configs),
        "draw": tuple(of_run.init.draw for of_run in configs),
        "from_a": tuple(of_run.init.from_a for of_run in configs),
        "default_draw": cfg.data.draw,
        "ceil_mode": tuple(of_run.model.ceil_mode if cfg.ceil_mode is None else cfg.ceil_mode for of_run in configs),
        "precision": cfg.trainer.precision,
        "weights_sha256": tuple(record["weights_sha256"] for record in records),
        "images_sha256": images.sha256,
        "groups": packed_groups(groups),
        "command": printable(" ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": versions(),
    }


def classification(
    cfg: EvaluateConfig,
    runs: list[Run],
    q: list[list[int]],
    images: Listing,
    posterior: np.ndarray,
    covered: np.ndarray,
) -> Classification:
    """The line: `q` has each run's test scales, `posterior` (images, classes) is about the images `covered`."""
    labels, count = np.array(images.labels)[covered], int(covered.sum())
    require(count > 0, f"none of the images in {images.root} can be read")
    groups, posterior = photos(cfg, images, covered), posterior[covered]
    right = posteriors.correct(posterior, labels, 1)
    top5 = dict.fromkeys(("top5", "top5_interval", "top5_correct"))
    if len(images.classes) > FEW:
        top5 = error("top5", posteriors.correct(posterior, labels, 5), groups)
    return Classification(
        views=tuple(sorted(cfg.eval_method.views)),
        q=tuple(map(tuple, q)),
        softmax=cfg.eval_method.softmax,
        images=count,
        skipped=len(images) - count,
        **error("top1", right, groups),
        **top5,
        majority_error=round(100 - 100 * int(np.bincount(labels).max()) / count, 4),
        class_error=class_error(right, labels),
        **provenance(cfg, runs, images, groups),
    )


def append(cfg: EvaluateConfig, line: Evaluation) -> None:
    """Add an evaluation to runs/<data>/<kind>.jsonl."""
    path = Path(cfg.dirs.runs) / cfg.data.name / f"{line.kind}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(written(line))
