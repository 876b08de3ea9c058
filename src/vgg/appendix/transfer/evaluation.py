"""Appendix B: how far a net's descriptors carry on other data. `python evaluate.py task=transfer`

An image's descriptor: fc7 over the whole image at each Q, averaged over space and with the mirror image's; of several Q
stacked or averaged; then L2-normalised, for each net by itself, so that all nets weigh the same; those of several nets,
and of a person's box beside the whole image, stacked. On it stands a linear SVM a class. Nothing of a net is trained.

runs/<data>/transfer.jsonl holds every such evaluation made here.
"""

import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from vgg.appendix.transfer import svm
from vgg.appendix.transfer.samples import Samples, Split, samples, splits
from vgg.appendix.transfer.tables import described, papers
from vgg.core.config import EvaluateConfig
from vgg.core.errors import require
from vgg.data.listing import Listing
from vgg.data.voc import Boxes
from vgg.evaluation import posteriors
from vgg.evaluation.arrays import Array, arrays_under, evaluated_runs, stored
from vgg.evaluation.errors import without_mirror_images
from vgg.evaluation.lines import append, provenance
from vgg.evaluation.records import Transfer
from vgg.runs.run import Run


def evaluate(cfg: EvaluateConfig) -> Transfer | None:
    """Classify the data by the nets' descriptors, print the result, append its line; a dry run says what it needs."""
    how = cfg.transfer
    require(cfg.ablation is None, "task=transfer is about nets by their names: runs=[…] instead of ablation=")
    require(cfg.submission is None, "submission=FILE is of task=classification")
    runs, known = evaluated_runs(cfg), samples(cfg)
    next(splits(known, how, np.ones(len(known.rows), bool)))  # refused before anything is computed
    require(
        how.features != "pixels" or len(runs) == 1,
        "transfer.features=pixels: name one run, whose crop and mean say what a net is given",
    )
    if cfg.plan.dry_run:
        print(needed(cfg, runs, known))
        return None
    whole, readable = descriptors(cfg, runs, known.images)
    found, usable = whole[known.rows], readable[known.rows]
    if known.people is not None:
        people, readable = descriptors(cfg, runs, known.people)
        found, usable = np.hstack([found, people]), usable & readable
    parts = list(splits(known, how, usable))
    origin = provenance(cfg, runs, known.images)
    origin["versions"]["scikit-learn"] = version("scikit-learn")
    line = Transfer(
        features=how.features,
        q=tuple(how.q),
        combine=how.combine,
        images=len(known.images),
        samples=int(usable.sum()),
        skipped=int((~usable).sum()),
        dimensions=found.shape[1],
        held_out=how.held_out,
        split_seed=how.seed,
        **(class_recall if known.to_train is None else voc_ap)(cfg, known, parts, found),
        **origin,
    )
    append(cfg, line)
    print(shown(line, known.images))
    return line


def arrays_for(cfg: EvaluateConfig, runs: list[Run], images: Listing) -> list[Array]:
    """The arrays (images, numbers) of every run and Q, run by run."""
    how = cfg.transfer
    return [array for run in runs for array in arrays_under(cfg, run, images, [how.features], how.q)]


def descriptors(cfg: EvaluateConfig, runs: list[Run], images: Listing) -> tuple[np.ndarray, np.ndarray]:
    """(descriptors (images, D) float32, which images they are of (images,)): images of `samples`, or its people."""
    asked = replace(cfg, transfer=replace(cfg.transfer, person_boxes=isinstance(images, Boxes)))
    loaded, readable = stored(asked, arrays_for(cfg, runs, images), images)
    count = len(cfg.transfer.q)
    nets = [loaded[start : start + count] for start in range(0, len(loaded), count)]
    return np.hstack([combined(arrays, cfg.transfer.combine) for arrays in nets]), readable


def combined(arrays: list[np.ndarray], how: str) -> np.ndarray:
    """One net's descriptors (images, D) at several Q as one of length 1; one that is zero stays zero."""
    rows = np.hstack(arrays) if how == "stack" else posteriors.mean(arrays).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=rows, where=lengths > 0)


def needed(cfg: EvaluateConfig, runs: list[Run], known: Samples) -> str:
    """A dry run's lines."""
    lines = []
    for what, images in (("images", known.images), ("people", known.people)):
        if images is not None:
            arrays = arrays_for(cfg, runs, images)
            missing = sum(not array.path.is_file() for array in arrays)
            lines.append(f"{missing} of {len(arrays)} arrays of descriptors to compute, of {len(images):,} {what} each")
    return "\n".join(lines)


def classified(
    cfg: EvaluateConfig, known: Samples, part: Split, found: np.ndarray, measure: svm.Measure
) -> tuple[float, np.ndarray]:
    """(the C that was chosen, scores (test samples, classes) of SVMs trained on all training samples with it)."""
    train, truth = found[part.train], known.truth[part.train]
    c = svm.best_c(train, truth, np.isin(part.train, part.held_out), cfg.transfer.c, measure)
    train, test = svm.in_their_span(train, found[part.test])
    return c, svm.scores(train, truth, test, c)


def class_recall(cfg: EvaluateConfig, known: Samples, parts: list[Split], found: np.ndarray) -> dict[str, Any]:
    """Caltech's protocol: the mean class recall of every drawn split, in %, their mean and spread."""
    made = [classified(cfg, known, part, found, svm.mean_recall) for part in parts]
    recall = [
        round(100 * svm.mean_recall(scores, known.truth[part.test]), 4)
        for (_, scores), part in zip(made, parts, strict=True)
    ]
    return {
        "labels": "classes",
        "train": cfg.transfer.train,
        "test": cfg.transfer.test,
        "training_samples": len(parts[0].train),
        "test_samples": len(parts[0].test),
        "measure": "mean class recall",
        "c": tuple(c for c, _ in made),
        "recall": tuple(recall),
        "mean": round(mean(recall), 4),
        "spread": round(stdev(recall), 4) if len(recall) > 1 else None,  # with n - 1; the paper does not say
    }


def voc_ap(cfg: EvaluateConfig, known: Samples, parts: list[Split], found: np.ndarray) -> dict[str, Any]:
    """VOC's protocol: every class's AP in %, [area, 11-point], and their mean by the measure of the data's year."""
    how, (part,) = cfg.transfer, parts
    c, scores = classified(cfg, known, part, found, svm.mean_ap)
    each = [svm.average_precision(*columns) for columns in zip(scores.T, known.truth[part.test].T, strict=True)]
    bare = [name for name, ap in zip(known.images.classes, each, strict=True) if np.isnan(ap).any()]
    require(not bare, f"no example in the training part or the test part of {', '.join(bare)}: it has no AP")
    area, eleven = (round(100 * mean(column), 4) for column in zip(*each, strict=True))
    year = re.fullmatch(r"VOC(20\d\d)", Path(cfg.data.root).resolve().name)
    old = year is not None and int(year[1]) < 2010
    return {
        "labels": how.labels,
        "person_boxes": how.person_boxes,
        "train": how.train_split,
        "test": how.test_split,
        "training_samples": len(part.train),
        "test_samples": len(part.test),
        "measure": "mAP, 11-point" if old else "mAP",
        "year": year and int(year[1]),
        "c": (c,),
        "recall": None,
        "ap": {
            name: tuple(round(100 * value, 4) for value in ap)
            for name, ap in zip(known.images.classes, each, strict=True)
        },
        "map_area": area,
        "map_11_point": eleven,
        "mean": eleven if old else area,
        "spread": None,
    }


def shown(line: Transfer, images: Listing) -> str:
    """The result as a person reads it."""
    left_out = f", {line.skipped} more could not be read" if line.skipped else ""
    lines = [
        "",
        f"{' + '.join(line.runs)}, {described(line)}{without_mirror_images(line)}: {line.dimensions:,} numbers",
        f"{line.samples:,} {'people' if line.labels == 'actions' else 'images'} of {images.root}{left_out}, "
        f"{line.classes} classes; {line.training_samples:,} to train on, {line.test_samples:,} to test on",
        "",
    ]
    if line.ap is not None:
        width = max(map(len, line.ap))
        lines.append(f"  {'AP, %':{width}}   area   11-point")
        lines += [f"  {name:{width}}  {area:5.1f}      {eleven:5.1f}" for name, (area, eleven) in line.ap.items()]
        lines += [f"  {'mean':{width}}  {line.map_area:5.1f}      {line.map_11_point:5.1f}    C = {line.c[0]:g}"]
    else:
        each = ", ".join(f"{recall:.1f}" for recall in line.recall)
        spread = "" if line.spread is None else f" ± {line.spread:.1f}"
        chosen = ", ".join(f"{c:g}" for c in line.c)
        lines.append(f"  mean class recall   {line.mean:5.1f}{spread} %   over splits: {each}; C = {chosen}")
    if paper := papers(line):
        lines.append(f"  the paper           {paper}")
    return "\n".join(lines)
