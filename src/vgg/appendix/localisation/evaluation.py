"""Appendix A: boxes of all cells, scales and nets merged into one for each of five classes; the localisation error."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vgg.appendix.localisation import candidates
from vgg.appendix.localisation.annotations import configured_boxes, refuse_boxless
from vgg.appendix.localisation.geometry import OVERLAP, overlaps
from vgg.appendix.localisation.tables import PROTOCOLS, paper_row
from vgg.core.config import EvaluateConfig
from vgg.core.errors import require
from vgg.data.listing import Listing, refuse_unreadable
from vgg.evaluation import posteriors
from vgg.evaluation.arrays import Array, arrays_of, compute, evaluated_runs, named_runs, posterior_of, scales_for
from vgg.evaluation.display import shown_scales
from vgg.evaluation.images import evaluated_images
from vgg.evaluation.lines import append, class_error, error, photos, provenance
from vgg.evaluation.records import Localisation
from vgg.runs.run import Run

GUESSES = 5

CONSTANTS = 1000  # boxes of the images at most that are tried as the same for all


def match_scores(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(4,), (n, 4) -> (n,): distance between the centres minus the area of the intersection, in parts of the image."""
    middle, middles = (box[:2] + box[2:]) / 2, (others[:, :2] + others[:, 2:]) / 2
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.hypot(*(middles - middle).T) - sides.clip(0).prod(1)


def merged(boxes: np.ndarray, scores: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
    """OverFeat's greedy merging of boxes (n, 4): the pair with the lowest match score becomes its average, until that
    score is t or more. Scores (n,) add up.
    """
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    pairs = np.stack([match_scores(box, boxes) for box in boxes])
    np.fill_diagonal(pairs, np.inf)
    alive = np.ones(len(boxes), dtype=bool)
    while alive.sum() > 1:
        first, second = np.unravel_index(pairs.argmin(), pairs.shape)
        if pairs[first, second] >= t:
            break
        boxes[first], scores[first] = (boxes[first] + boxes[second]) / 2, scores[first] + scores[second]
        alive[second] = False
        pairs[second], pairs[:, second] = np.inf, np.inf
        row = np.where(alive, match_scores(boxes[first], boxes), np.inf)
        row[first] = np.inf
        pairs[first], pairs[:, first] = row, row
    return boxes[alive], scores[alive]


def best_boxes(candidates: list[np.ndarray], k: int, t: float) -> np.ndarray:
    """One box for each class (L, 4), from one image's candidates (cells, L, 6) of every net and scale.

    A class takes its boxes from the scales where it is among the best k; from all, where it is among them nowhere.
    """
    found = []
    for place in range(candidates[0].shape[1]):
        ranked = [own[:, place] for own in candidates]
        rows = np.concatenate([own for own in ranked if own[0, 5] < k] or ranked)
        together, scores = merged(rows[:, :4], rows[:, 4], t)
        found.append(together[scores.argmax()])
    return np.array(found)


def classifiers(cfg: EvaluateConfig, runs: list[Run]) -> list[Run]:
    """The classification run of each predictor, whose scores rate its boxes: the first of those named, or its parent.

    Raises UserError where a parent knows other classes.
    """
    named = cfg.box_evaluation.labels
    parents = [named[0] if named else run.record()["parent"] for run in runs]
    found = [Run.named(parent, cfg.dirs.runs, cfg.data) for parent in parents]
    for run, parent in zip(runs, found, strict=True):
        require(parent.finished, f"{run.name}: the classification run {parent.name} is not there: {parent.folder}")
        require(
            parent.record()["classes"] == run.record()["classes"],
            f"{run.name} comes from {parent.name}, which knows other classes: name a classification run of these, "
            "box_evaluation.labels=[D-384]",
        )
    return found


def label_posteriors(cfg: EvaluateConfig, parents: list[Run], images: Listing) -> tuple[np.ndarray, list[Array]]:
    """The posteriors (images, classes) that give the five classes, as eval_method and test_scale have it."""
    names = cfg.box_evaluation.labels or list(dict.fromkeys(run.name for run in parents))
    how = replace(cfg, task="classification", runs=names)
    runs = named_runs(how)  # of which the command line, about the predictors, says nothing
    return posterior_of(how, runs, images)[0], [array for run in runs for array in arrays_of(how, run, images)]


def stored_candidates(
    cfg: EvaluateConfig, runs: list[Run], parents: list[Run | None], images: Listing, classes: np.ndarray
) -> list[list[np.ndarray]]:
    """Every image's candidates at each (run, Q), computed where they are not in the cache: [(run, Q)][image]."""
    paths = []
    for run, parent, scales in zip(runs, parents, scales_of(cfg, runs), strict=True):
        paths_of_run = {}
        for q in scales:
            key = {
                "boxes_of": run.record()["weights_sha256"],
                "scores_of": parent and parent.record()["weights_sha256"],
                "classes": hashlib.sha256(np.ascontiguousarray(classes).tobytes()).hexdigest(),
                "images": images.sha256,
                "content": images.content,
                "q": q,
                "precision": cfg.trainer.precision,
                "resampling": posteriors.Key.resampling,
            }
            paths_of_run[q] = posteriors.cached(Path(cfg.dirs.cache), key)
        tasks = [{"view": "boxes", "q": q, "path": str(path)} for q, path in paths_of_run.items() if not path.is_file()]
        if tasks:
            print(f"{run.name}: boxes at Q={', '.join(str(task['q']) for task in tasks)}", flush=True)
            compute(cfg, run, tasks, classes=classes, classifier=parent and parent.name)
        paths += paths_of_run.values()
    found = [candidates.load(path) for path in paths]
    unreadable = [index for index, own in enumerate(found[0]) if not len(own)]
    refuse_unreadable(images, unreadable, cfg.data.skip_corrupt)
    return found


def scales_of(cfg: EvaluateConfig, runs: list[Run]) -> list[list[int]]:
    """The test scales of each run's boxes: those given, or Q as for its training scale."""
    given = cfg.box_evaluation.q
    require(
        given is None or len(given) == len(runs),
        f"box_evaluation.q={given}: a list of scales for each of {len(runs)} runs",
    )
    single = replace(cfg, test_scale=replace(cfg.test_scale, rule="single", q=None))
    return given or [scales_for(single, run.config().train_scale) for run in runs]


def constant_box(truth: list[torch.Tensor]) -> np.ndarray:
    """Which images (images,) the best constant box is right on: the images' own boxes are tried, for all of them."""
    every = torch.cat(truth)
    tried = every[:: max(1, len(every) // CONSTANTS)]
    right = torch.stack([(overlaps(tried[:, None], own) > OVERLAP).any(1) for own in truth], 1)
    return right[right.sum(1).argmax()].numpy()


def evaluate(cfg: EvaluateConfig) -> Localisation:
    """Evaluate the box predictors that the configuration names, print it, append its line; the line is returned."""
    how = cfg.box_evaluation
    require(cfg.ceil_mode is None, "ceil_mode is an option of classification: box predictors keep their own rounding")
    runs = evaluated_runs(cfg)
    for run in runs:
        task = run.config().task
        require(task == "localisation", f"{run.name} was trained with task={task}: box predictors end in -loc-pcr")
    images = evaluated_images(cfg, tuple(runs[0].record()["classes"]))
    truth, labels = configured_boxes(cfg, images), np.array(images.labels)
    refuse_boxless(images, truth)
    parents: list[Run | None] = [None] * len(runs)
    classes, named = labels[:, None], []
    if how.protocol == "full":
        parents = list(classifiers(cfg, runs))
        posterior, arrays = label_posteriors(cfg, parents, images)
        classes = np.argsort(-posterior, axis=1, kind="stable")[:, :GUESSES]
        named = [f"{array.run.name} {array.key.view} {array.key.q}" for array in arrays]
    stored = stored_candidates(cfg, runs, parents, images, classes)
    covered = [index for index in range(len(images)) if len(stored[0][index])]
    require(bool(covered), f"none of the images in {images.root} can be read")
    right, ious = [], []
    for index in covered:
        found = best_boxes([own[index] for own in stored], how.k, how.t)
        overlap = overlaps(torch.from_numpy(found).float()[:, None], truth[index]).amax(1).numpy()
        ious.append(float(overlap[classes[index] == labels[index]].max(initial=0)))
        right.append(ious[-1] > OVERLAP)
    constant = constant_box([truth[index] for index in covered])
    readable = np.isin(np.arange(len(images)), covered)
    groups = photos(cfg, images, readable)
    line = Localisation(
        protocol=how.protocol,
        q=tuple(map(tuple, scales_of(cfg, runs))),
        classes_by=tuple(named),
        k=how.k,
        t=how.t,
        images=len(covered),
        skipped=len(images) - len(covered),
        **error("error", np.array(right), groups),
        class_error=class_error(np.array(right), labels[readable]),
        mean_iou=round(float(np.mean(ious)), 4),
        constant_box_error=round(100 * (1 - float(constant.mean())), 4),
        **provenance(cfg, runs, images, groups),
    )
    append(cfg, line)
    print(shown(line, images))
    return line


def shown(line: Localisation, images: Listing) -> str:
    """The result as a person reads it."""
    full = line.protocol == "full"
    low, high = line.error_interval
    row = paper_row(line)
    beside = f"      {row.error:5.1f} %  ({row.place})" if row else ""
    return "\n".join(
        [
            "",
            f"{' + '.join(line.runs)}, {PROTOCOLS[line.protocol]}, {line.images:,} images of {images.root}",
            *shown_scales(line),
            "",
            "                       ours   95 % interval" + ("      the paper, ImageNet" if row else ""),
            f"  {'top-5 ' if full else ''}localisation error".ljust(20)
            + f"{line.error:7.2f} %   {low:5.2f} – {high:5.2f}{beside}",
            f"  the best constant box on the true class: {line.constant_box_error:.2f} %",
            f"  mean overlap with the object (0 where its class is not found): {line.mean_iou:.3f}",
        ]
    )
