"""ILSVRC's test server takes a text file: a line for each test image, the five most probable classes, best first.

Classes are the devkit's ILSVRC2012_IDs (1 to 1000), which are in another order than the synset ids that nets are
trained with.
"""

from pathlib import Path

import numpy as np

from vgg.core.config import EvaluateConfig
from vgg.core.errors import require
from vgg.core.files import write_whole
from vgg.data.imagenet.labels import devkit_ids
from vgg.runs.run import Run


def ilsvrc_ids(cfg: EvaluateConfig) -> dict[str, int]:
    """Synset id -> ILSVRC2012_ID of the 1,000 classes, from meta.mat in the devkit's folder or archive."""
    require(bool(cfg.devkit or cfg.data.root), "submission needs the devkit: devkit=ILSVRC2012_devkit_t12.tar.gz")
    if cfg.devkit:
        paths = [Path(cfg.devkit)]
    else:
        paths = [Path(cfg.data.root) / name for name in ("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz")]
    path = next((path for path in paths if path.exists()), None)
    require(path is not None, f"no devkit at {' or '.join(map(str, paths))}: devkit=PATH names it")
    return {synset: number for number, synset in devkit_ids(path).items()}


def class_names(runs: list[Run], ids: dict[str, int]) -> tuple[str, ...]:
    """The classes of these nets; of a published one, which tells ImageNet's 1,000 by other names, the synset ids."""
    from vgg.runs.weights import same_outputs  # which imports torch

    synsets = tuple(sorted(ids))
    several = [tuple(run.record()["classes"]) for run in runs]
    if any(run.published and same_outputs(of_run, synsets) for run, of_run in zip(runs, several, strict=True)):
        return synsets
    return several[0]


def numbers(classes: tuple[str, ...], ids: dict[str, int]) -> np.ndarray:
    """The devkit's number of each of the net's classes. Raises UserError where a class is not one of the devkit's."""
    strange = sorted(set(classes) - set(ids))
    require(not strange, f"not classes of ILSVRC-2012: {', '.join(strange[:5])}; a submission needs a net for those")
    require(len(classes) >= 5, f"a submission has five labels an image, this net knows {len(classes)} classes")
    return np.array([ids[name] for name in classes])


def write(path: Path, posterior: np.ndarray, numbers: np.ndarray) -> None:
    """Five numbers a line, the most probable class first; ties go to the lower class index."""
    best = np.argsort(-posterior, axis=1, kind="stable")[:, :5]
    with write_whole(path) as file:
        file.write("".join(" ".join(map(str, row)) + "\n" for row in numbers[best]).encode())
