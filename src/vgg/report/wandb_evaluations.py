"""Weights & Biases: every evaluation as a run of its own beside the training runs."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgg.appendix.localisation import tables as localisation_tables
from vgg.appendix.transfer.tables import described
from vgg.appendix.transfer.tables import protocol as transfer_protocol
from vgg.core.config import STARTS_FROM_A, EvaluateConfig
from vgg.core.errors import UserError
from vgg.core.scales import multi_scale, single_scale
from vgg.data.listing import printable
from vgg.evaluation.errors import method_name
from vgg.evaluation.records import Classification, Evaluation, Localisation, Transfer
from vgg.evaluation.selection import paper_row
from vgg.runs.cells import CELL, scale_of, without_seed
from vgg.training.wandb_session import depth, failure, failures, quiet, require_login

RULES = {"single": single_scale, "multi": multi_scale}

NAMED = 3  # nets at most that a name lists

SETTINGS = (  # of classification, localisation, transfer, and their origin
    *("runs", "cells", "views", "q", "softmax", "ceil_mode", "scale", "mirror", "width", "precision", "classes"),
    *("classes_by", "k", "t"),
    *("features", "combine", "labels", "person_boxes", "measure"),
    *("train", "test", "held_out", "split_seed"),
    *("weights_sha256", "images_sha256", "command", "commit", "date", "versions"),
)


def joined(values: list[str]) -> str:
    """Distinct values as one that runs can be grouped by: D + E."""
    return " + ".join(dict.fromkeys(values))


def method(line: Evaluation) -> str:
    """How an evaluation is done, as its run's name says it."""
    if isinstance(line, Transfer):
        return f"SVM on {described(line)}: {transfer_protocol(line)}"
    return method_name(line.views) if isinstance(line, Classification) else localisation_tables.PROTOCOLS[line.protocol]


def protocol(line: Evaluation) -> str:
    """What an evaluation's errors are called: dense_single, fused_multi; `other` where its Q's follow no rule.

    Settings that are not the paper's stand at the end, so that its errors never mix with those of others. The
    appendices' are localisation_full and localisation_ground_truth; transfer_classes, _objects and _actions.
    """
    if not isinstance(line, Classification):
        return f"{line.kind}_{line.protocol if isinstance(line, Localisation) else line.labels}"
    scales = [scale_of(cell) for cell in line.cells]
    follows = [
        name
        for name, rule in RULES.items()
        if all(tuple(sorted(q)) == rule(s.smin, s.smax) for q, s in zip(line.q, scales, strict=True))
    ]
    name = "fused" if line.views == ("dense", "multicrop") else "_".join(line.views)
    name += f"_{follows[0] if follows else 'other'}"
    name += "_softmax_first" if line.softmax == "first" else ""
    return name + ("_ceil" if any(line.ceil_mode) else "")


def settings(line: Evaluation) -> dict[str, Any]:
    """An evaluation's configuration: what it is grouped and filtered by, under the names that training runs have."""
    cells = [CELL.match(cell) for cell in line.cells]
    return {
        "model": {"name": joined([cell["model"] for cell in cells])},
        "train_scale": {"name": joined([cell["scale"] for cell in cells])},
        "dataset": line.data,
        "seed": line.seed[0] if len(set(line.seed)) == 1 else line.seed,
        "cell": joined([without_seed(cell) for cell in line.cells]),
        "method": method(line),
        "protocol": protocol(line),
        **{key: getattr(line, key) for key in SETTINGS if hasattr(line, key)},
    }


def errors(line: Evaluation) -> dict[str, Any]:
    """An evaluation's row: the errors under the protocol's name, and what they are drawn over, Q and depth.

    Depth is that of A to E as the paper trains them: nets that differ in something else are no points of that curve.
    """
    name, cells = protocol(line), {without_seed(cell) for cell in line.cells}
    if not isinstance(line, Classification):
        measure = "error" if isinstance(line, Localisation) else "mean"
        return {f"{name}/{measure}": getattr(line, measure)}
    measured = {key: getattr(line, key) for key in ("top1", "top5") if getattr(line, key) is not None}
    row: dict[str, Any] = {f"{name}/{key}": error for key, error in measured.items()}
    model, scale = CELL.match(line.cells[0]).group("model", "scale")
    if cells == {f"{model}-{scale}"} and model in ("A", *STARTS_FROM_A):
        row["depth"] = depth(model)
    scales = {q for of_net in line.q for q in of_net}
    if len(scales) == 1:
        row["q"] = scales.pop()
        if name in ("dense_single", "dense_other"):
            row |= {f"dense_over_q/{key}": error for key, error in measured.items()}
    return row


def summary(line: Evaluation) -> dict[str, Any]:
    """An evaluation's numbers: errors with their 95 % intervals, images, and the paper's row where there is one."""
    also = {
        Transfer: ("mean", "spread", "recall", "ap"),
        Localisation: ("class_error", "mean_iou", "constant_box_error"),
        Classification: ("majority_error", "class_error"),
    }[type(line)]
    numbers = {key: getattr(line, key) for key in ("images", "skipped", *also) if getattr(line, key) is not None}
    if isinstance(line, Transfer):
        return numbers
    of_boxes = isinstance(line, Localisation)
    row = localisation_tables.paper_row(line) if of_boxes else paper_row(line)
    for key in ("error",) if of_boxes else ("top1", "top5"):
        if getattr(line, key) is not None:
            low, high = getattr(line, f"{key}_interval")
            numbers |= {key: getattr(line, key), f"{key}_low": low, f"{key}_high": high}
            if row is not None:
                numbers |= {f"paper_{key}": getattr(row, key), "paper_place": row.place}
    return numbers


def title(line: Evaluation) -> str:
    """The name of an evaluation's run: nets, method and test scales."""
    few = len(line.runs) <= NAMED
    name = ", ".join([joined(line.runs) if few else f"{len(line.runs)} nets", method(line)])
    if isinstance(line, Transfer):  # whose method says the scales
        return name
    return f"{name}, Q = " + (joined([", ".join(map(str, q)) for q in line.q]) if few else "each its own")


def evaluation_id(line: Evaluation) -> str:
    """The same for the same evaluation, which takes an earlier one's place."""
    return f"evaluate-{hashlib.sha256(line.key.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def printable_words() -> Iterator[None]:
    """W&B keeps the command's words, and takes none with bytes that are no UTF-8."""
    words = sys.argv
    sys.argv = list(map(printable, words))
    try:
        yield
    finally:
        sys.argv = words


def log_evaluation(cfg: EvaluateConfig, line: Evaluation) -> None:
    """One evaluation as a run in W&B, its files in runs/<data>/wandb.

    UserError where W&B fails: the line is in its file by then.
    """
    if cfg.logger.wandb == "disabled":
        return
    if cfg.logger.wandb == "online":
        require_login()
    quiet()
    import wandb

    folder = Path(cfg.dirs.runs) / line.data
    try:
        with (
            printable_words(),
            wandb.init(
                mode=cfg.logger.wandb,
                project=cfg.logger.project,
                group=cfg.logger.group or line.data,
                job_type="evaluate",
                id=evaluation_id(line),
                name=title(line),
                dir=folder.absolute(),
                config=settings(line),
                settings=wandb.Settings(
                    console="off",
                    init_timeout=30,
                    disable_git=True,  # the commit is in the configuration
                    disable_code=True,
                    x_disable_stats=True,  # of a machine that has finished its work
                    x_disable_meta=True,
                    x_save_requirements=False,
                ),
            ) as run,
        ):
            run.log(errors(line))
            run.summary.update(summary(line))
    except (*failures(), OSError) as error:
        raise UserError(f"the result is in {folder / line.kind}.jsonl, but {failure(error)}") from error
