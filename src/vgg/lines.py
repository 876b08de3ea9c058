"""What is kept of an evaluation, a line of JSON: what was done, with which code and data, and who was right where."""

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from vgg import posteriors
from vgg.config import REPOSITORY, EvaluateConfig, require
from vgg.images import Listing
from vgg.nets import OF_TABLE_1
from vgg.plan import CELL
from vgg.runs import Run
from vgg.scales import score_map_side

PAPER = REPOSITORY / "results" / "paper.jsonl"
VIEW_NAMES = {"dense": "dense", "multicrop": "multi-crop", "center": "centre crop", "tencrop": "ten crops"}
VIEW_NAMES |= {"fc7": "fc7", "random": "fc7 of random weights", "pixels": "pixels"}
ERRORS = ("top-1", "95 %", "paper", "diff.", "top-5", "95 %", "paper", "diff.", "seeds")
TRAINING_SCALES = {"256": "256", "384": "384", "jitter": "[256;512]"}


def method_name(views: list[str]) -> str:
    """As the paper writes it: dense, multi-crop, multi-crop & dense."""
    return " & ".join(VIEW_NAMES[view] for view in sorted(views, reverse=True))


def commit() -> str | None:
    """The commit of this code, with a + where files are changed; None outside a git checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", REPOSITORY, "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def packed(name: str, right: np.ndarray) -> dict[str, Any]:
    """The error in % under this name, its 95 % interval, and for every image whether it was right, as packed bits."""
    wrong = int((~right).sum())
    return {
        name: round(100 * wrong / len(right), 4),
        f"{name}_interval": [round(end, 2) for end in posteriors.interval(wrong, len(right))],
        f"{name}_correct": base64.b64encode(np.packbits(right).tobytes()).decode(),
    }


def provenance(cfg: EvaluateConfig, runs: list[Run], images: Listing) -> dict[str, Any]:
    """The nets and images of an evaluation, and with which command, code and versions it was made."""
    configs, records = [run.config() for run in runs], [run.record() for run in runs]
    return {
        "runs": [run.name for run in runs],
        "data": cfg.data.name,
        "classes": len(images.classes),
        "scale": [own.data.scale for own in configs],
        "mirror": cfg.data.mirror,
        "schedule": [own.optimizer.schedule for own in configs],
        "width": [own.data.width for own in configs],
        "cells": [
            f"{own.model.name}-{cfg.train_scale.name}" if run.published else run.name.split("/")[1]
            for run, own in zip(runs, configs, strict=True)
        ],
        "source_sha256": [record.get("source_sha256") for record in records],  # of published weights' files
        "seed": [own.seed for own in configs],
        "draw": [own.init.draw for own in configs],
        "from_a": [own.init.from_a for own in configs],
        "default_draw": cfg.data.draw,
        "ceil_mode": [own.model.ceil_mode if cfg.ceil_mode is None else cfg.ceil_mode for own in configs],
        "precision": cfg.trainer.precision,
        "weights_sha256": [record["weights_sha256"] for record in records],
        "images_sha256": images.sha256,
        "command": " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in ("torch", "torchvision", "pytorch-lightning", "pillow")},
    }


def result_line(
    cfg: EvaluateConfig,
    runs: list[Run],
    q: list[list[int]],
    images: Listing,
    posterior: np.ndarray,
    covered: np.ndarray,
) -> dict[str, Any]:
    """A classification: `q` has each run's test scales, `posterior` (images, classes) is about the images `covered`."""
    labels, count = np.array(images.labels)[covered], int(covered.sum())
    require(count > 0, f"none of the images in {images.root} can be read")
    line = {
        "views": sorted(cfg.eval_method.views),
        "q": q,
        "softmax": cfg.eval_method.softmax,
        "images": count,
        "skipped": len(images) - count,
    }
    for k in (1, 5):
        line |= packed(f"top{k}", posteriors.correct(posterior[covered], labels, k))
    return line | provenance(cfg, runs, images)


def append(cfg: EvaluateConfig, name: str, line: dict[str, Any]) -> None:
    """Add an evaluation to runs/<data>/<name>.jsonl."""
    path = Path(cfg.dirs.runs) / cfg.data.name / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def paper_lines() -> list[dict[str, Any]]:
    """Every row of the paper's Tables 1 to 12, and what section 4.1 says of small filters; "place" says where from."""
    return [json.loads(text) for text in PAPER.read_text().splitlines()]


def paper_rows() -> list[dict[str, Any]]:
    """The rows that name runs of this grid with views and test scales: Tables 3 to 6, and section 4.1."""
    return [row for row in paper_lines() if "views" in row and row["place"] != "Table 7"]


def paper_row(line: dict[str, Any]) -> dict[str, Any] | None:
    """The paper's row for the same nets, views and scales, whatever the data; the last where several tables have it."""
    asked = {cell: sorted(q) for cell, q in zip(line["cells"], line["q"], strict=True)}
    found = None
    for row in paper_rows():
        same = dict(zip(row["runs"], row["q"], strict=True)) == asked and sorted(row["views"]) == line["views"]
        found = row if same and row["top1"] is not None else found
    return found


def shown_scales(line: dict[str, Any]) -> list[str]:
    """The test scales, with what they are of the net: a line for each set of them."""
    scale, mode, lines = line["scale"][0], line["ceil_mode"][0], []
    for q in sorted({tuple(q) for q in line["q"]}):
        sides = ", ".join(str(score_map_side(value, scale, mode)) for value in q)
        known = all(CELL.match(cell)["model"] in OF_TABLE_1 for cell in line["cells"])  # other nets have others
        about = f"scale {scale:g}, width {line['width'][0]:g}" + (f"; map sides {sides}" if known else "")
        lines.append(f"Q = {', '.join(map(str, q))} ({about})")
    return lines


def shown(line: dict[str, Any], images: Listing) -> str:
    """The result as a person reads it."""
    left_out = f", {line['skipped']} more could not be read" if line["skipped"] else ""
    nets = " + ".join(line["runs"])
    lines = ["", f"{nets}, {method_name(line['views'])}, {line['images']:,} images of {images.root}{left_out}"]
    lines += shown_scales(line)
    lines.append("")
    row = paper_row(line)
    lines.append("                       ours   95 % interval" + ("      the paper, ImageNet" if row else ""))
    for k in (1, 5):
        low, high = line[f"top{k}_interval"]
        text = f"  top-{k} error     {line[f'top{k}']:7.2f} %   {low:5.2f} – {high:5.2f}"
        lines.append(text + (f"      {row[f'top{k}']:5.1f} %  ({row['place']})" if row else ""))
    return "\n".join(lines)


def mean_error(lines: list[dict[str, Any]], key: str) -> tuple[float, tuple[float, float]]:
    """The mean over seeds of an error ("top1" or "top5"), and of the ends of its 95 % intervals."""
    low, high = (mean(line[f"{key}_interval"][end] for line in lines) for end in (0, 1))
    return mean(line[key] for line in lines), (low, high)


def errors(row: dict[str, Any], ours: list[dict[str, Any]], key: str) -> list[str]:
    """Our error and its interval, the paper's, and the difference in points; a dash where there is none."""
    paper = f"{row[key]:.1f}" if row[key] is not None else "–"
    if above := row.get(f"{key}_above"):
        paper = f"{above['runs'][0].split('-')[0]} + {above['points']:.1f}"
    if not ours:
        return ["–", "–", paper, "–"]
    error, (low, high) = mean_error(ours, key)
    spread = f" ± {stdev(line[key] for line in ours):.1f}" if len(ours) > 1 else ""
    difference = f"{error - row[key]:+.1f}" if row[key] is not None else "–"
    return [f"{error:.1f}{spread}", f"{low:.1f}–{high:.1f}", paper, difference]
