"""Published weights as a finished run."""

import hashlib
from dataclasses import replace
from pathlib import Path

from vgg.core.compose import train_part
from vgg.core.config import TrainConfig, Weights
from vgg.core.errors import require
from vgg.nets.pretrained import class_names, from_state, outputs, read
from vgg.runs.run import Run
from vgg.runs.weights import build, save


def imported(cfg: TrainConfig) -> Run:
    """The finished run of the published weights that the configuration names, written at their first use.

    Raises UserError where a file on disk is not the one that the run was written from.
    """
    run = Run.named(f"{cfg.weights.source}/{cfg.model.name}", cfg.dirs.runs)
    with run.lock():
        write_if_missing(run, cfg)
    return run


def write_if_missing(run: Run, cfg: TrainConfig) -> None:
    """The work of `imported`, of one process at a time."""
    if run.finished:
        if cfg.weights.path is not None:
            known, now = run.record()["source_sha256"], sha256_of_file(Path(cfg.weights.path))
            require(known == now, f"{run.folder} was made from another file than {cfg.weights.path}: remove the folder")
        return
    state, path = read(cfg.weights.source, cfg.model.name, cfg.weights.path)
    classes = outputs(state, cfg.model.name)
    own = replace(
        train_part(cfg),
        task="classification",
        model=replace(cfg.model, ceil_mode=False),  # an evaluation's own option turns it on
        data=replace(cfg.data, scale=1.0, width=1.0, mirror=True, classes=classes, name=cfg.weights.source),
        weights=Weights(source=None, path=None),
    )
    net = from_state(build(own, classes), state, path)
    run.prepare(own, None)
    run.update_record(source=path.name, source_sha256=sha256_of_file(path))
    save(run, net, class_names(classes))
    print(f"{run.name}: {classes} classes, from {path}, sha256 {run.record()['source_sha256'][:16]}…", flush=True)


def sha256_of_file(path: Path) -> str:
    require(path.is_file(), f"weights.path={path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
