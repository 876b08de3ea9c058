"""What several test files need: a small folder of scenes, a composed configuration, and the real command line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch.utils.data import DataLoader

from vgg.commands import score as commands_score
from vgg.core.compose import typed
from vgg.core.config import EvaluateConfig, TrainConfig, Trainer
from vgg.core.paths import REPOSITORY
from vgg.data import digits
from vgg.data.crops import TrainingCrops, TrainingOrder
from vgg.data.encoded_image import Picture
from vgg.data.listing import Listing, list_folder
from vgg.evaluation import arrays, selection
from vgg.evaluation.records import Classification, Evaluation, Transfer, packed_bits, read, written
from vgg.nets import initialisation
from vgg.runs import weights
from vgg.runs.run import Run

Weights = dict[str, torch.Tensor]

torch.set_num_threads(1)  # two processes that spin for the same core are slower than one
SMALL = "-dropout0.5-scale0.125-width0.03125-batch8"  # TINY's part of a run's name, between its cell and the epochs
TINY = ("data=folder", "data.width=0.03125", "data.scale=0.125", "data.batch=8", "data.dropout=0.5", "trainer=cpu")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """84 training and 37 validation scenes in ten classes: neither divides evenly by two ranks and a batch of 8."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "SCENES", {"train": 84, "val": 37})
        digits.write(root)
    return root


def composed(*overrides: str, evaluate: bool = False) -> TrainConfig:
    """The typed configuration that the command line would give."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("evaluate" if evaluate else "train", overrides=list(overrides))
        return typed(cfg, EvaluateConfig if evaluate else TrainConfig)


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def start(folder: Path, script: str, *overrides: str) -> subprocess.Popen:
    """train.py or evaluate.py in `folder`, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, REPOSITORY / script, *overrides],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def signalled(group: int, number: int) -> bool:
    """Whether the process group still exists; it is sent this signal (0: none)."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def run(folder: Path, script: str, *overrides: str, status: int = 0, timeout: float = 240) -> str:
    """Its whole output; the exit status is checked, and no process is left behind a few seconds later."""
    process = start(folder, script, *overrides)
    left_behind = True
    try:
        output, _ = process.communicate(timeout=timeout)
        deadline = time.monotonic() + 5
        while left_behind and time.monotonic() < deadline:
            left_behind = signalled(process.pid, 0)
            time.sleep(0.05)
    finally:
        signalled(process.pid, signal.SIGKILL)
    assert process.returncode == status, output
    assert not left_behind, f"a process outlived the command:\n{output}"
    assert "Traceback" not in output, output
    return output


@pytest.fixture(scope="module")
def scoring_here() -> Iterator[None]:
    """Evaluations compute in this process, not in one that imports everything first."""

    def run_here(command: str, path: Path, how: Trainer) -> int:
        commands_score.score(path)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "run_fresh", run_here)
        yield


ROUNDING = 0.01  # of what a training changed. A step too many or too few of twenty is five times as much.


def difference(one: Weights, other: Weights, drawn: Weights) -> float:
    """Of two nets trained from the weights `drawn`, as a part of what training changed in all of them.

    The sums of other micro-batches, devices or memory formats differ in their last bits. Where that breaks a tie of a
    pool or of a ReLU, a gradient differs by much more, at one unit of one image: weights cannot be compared number by
    number, and only at a learning rate so low that such differences do not grow.
    """
    apart, update = (
        torch.cat([(tensors[key] - other[key]).flatten() for key in drawn]).norm() for tensors in (one, drawn)
    )
    return float(apart / update)


def training_difference(one: Run, other: Run) -> float:
    """The same of two finished runs of one seed."""
    cfg = one.config()
    start = weights.build(cfg, len(one.record()["classes"]))
    initialisation.draw(start, cfg.init.draw, cfg.seed)
    return difference(*(net.state_dict() for net in (weights.load(one)[0], weights.load(other)[0], start)))


def decode(path: Path) -> Image.Image:
    return Image.fromarray(Picture(path.read_bytes()).pixels())


def noise(seed: int, width: int = 30, height: int = 20) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((3 * width, 3 * height), Image.Resampling.NEAREST)


def crops_of(images: Listing, smin: int = 256, smax: int = 512, seed: int = 7) -> TrainingCrops:
    return TrainingCrops(images, 0.25, smin, smax, True, seed)


def batches_of(crops: TrainingCrops, micro_batch: int, workers: int = 0, seed: int = 3, epoch: int = 0) -> DataLoader:
    """Steps of two micro-batches, epoch after epoch."""
    order = TrainingOrder(len(crops), 2 * micro_batch, 0, 1, seed)
    order.epoch = epoch
    return DataLoader(crops, micro_batch, sampler=order, num_workers=workers, persistent_workers=workers > 0)


@pytest.fixture
def root(tmp_path):
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / name).mkdir()
        for number in range(4):
            noise(10 * label + number).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.fixture(scope="session")
def ilsvrc() -> dict[str, dict[str, bytes]]:
    """ImageNet in small: split -> "synset/name" -> content."""
    from imagenet_forms import made  # which imports this module

    return made()


@pytest.fixture(scope="session")
def ilsvrc_folders(ilsvrc, tmp_path_factory) -> dict[str, Listing]:
    """The same in class folders."""
    from imagenet_forms import write_folders

    root = tmp_path_factory.mktemp("ilsvrc")
    for split, contents in ilsvrc.items():
        write_folders(root, split, contents)
    return {split: list_folder(root / split) for split in ilsvrc}


def bits(images: int, top1: float) -> np.ndarray:
    """(images,) bool: the last ones are wrong, as many as the error in % says."""
    return np.arange(images) < images - round(top1 * images / 100)


def tupled(value):
    """Lists as records have them: tuples."""
    return tuple(map(tupled, value)) if isinstance(value, list | tuple) else value


def last(path: Path, kind: type[Evaluation] = Classification) -> Evaluation:
    """The last evaluation in a file."""
    return read(path, kind)[-1]


def evaluation(**more) -> Classification:
    """A line of results.jsonl as an evaluation of D-jitter would append it; the cells are the runs' names."""
    values = {
        "runs": ("digits/D-jitter",),
        "views": ("dense", "multicrop"),
        "q": ((256, 384, 512),),
        "softmax": "last",
        "precision": "32-true",
        "images_sha256": "of 597 images",
        "data": "digits",
        "images": 597,
        "skipped": 0,
        "classes": 10,
        "default_draw": "glorot",
        "groups": None,
        "command": "python evaluate.py",
        "commit": None,
        "date": "2026-01-01",
        "versions": {},
        "top1": 20.0,
        "top1_interval": (18.0, 22.0),
        "top5": 1.0,
        "top5_interval": (0.5, 1.5),
        "majority_error": 89.0,
        "class_error": 20.0,
    } | more
    nets = len(values["runs"])
    for key, value in {
        "ceil_mode": False,
        "scale": 0.25,
        "mirror": False,
        "schedule": None,
        "width": 0.125,
        "parameters": 2_000_000,
        "multiply_adds": 30_000_000,
        "seed": 1,
        "source_sha256": None,
        "draw": "glorot",
        "from_a": True,
    }.items():
        values.setdefault(key, (value,) * nets)
    values.setdefault("cells", tuple(run.partition("/")[2] for run in values["runs"]))
    values.setdefault("weights_sha256", tuple(f"weights of {run}" for run in values["runs"]))
    for key in ("top1", "top5"):
        error = values[key]
        right = None if error is None else packed_bits(bits(values["images"], error))
        values.setdefault(f"{key}_correct", right)
    return Classification(**{key: tupled(value) for key, value in values.items()})


def transfer(**more) -> Transfer:
    """A line of transfer.jsonl in the paper's setting of Caltech-101."""
    runs = more.get("runs", ["imagenette/D-jitter"])
    common = asdict(evaluation(runs=runs, data="caltech20", images_sha256="of 1,600 images"))
    values = {field.name: common[field.name] for field in fields(Evaluation)} | {
        "features": "fc7",
        "q": (256, 384, 512),
        "combine": "stack",
        "samples": 1600,
        "dimensions": 12288,
        "labels": "classes",
        "train": 30,
        "test": 50,
        "training_samples": 600,
        "test_samples": 1000,
        "measure": "mean class recall",
        "held_out": 0.2,
        "split_seed": 1,
        "c": (1.0, 1.0, 10.0),
        "mean": 54.321,
        "spread": 1.23,
        "recall": None,
    }
    return Transfer(**{key: tupled(value) for key, value in (values | more).items()})


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of runs, and an empty one in the place of results/."""
    monkeypatch.setattr(selection, "curated", lambda data, kind="results": tmp_path / f"{data}-{kind}.jsonl")
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    return tmp_path / "runs"


def append(runs, *lines):
    """Add evaluations of any kind to those made on the digits."""
    for line in lines:
        with (runs / "digits" / f"{line.kind}.jsonl").open("a") as file:
            file.write(written(line))


VOC_LABELS = {  # of split -> class -> a label an image
    "trainval": {"bird": (1, -1, 0, 1), "person": (1, 1, -1, -1)},
    "test": {"bird": (-1, 1, 1), "person": (1, 0, -1)},
}
VOC_PEOPLE = {"trainval": {"running": (1, -1, -1, 1)}, "test": {"running": (1, -1, 1)}}  # two in an image, then one


def annotation(*boxes: tuple[str, int, int, int, int]) -> str:
    items = [
        f"<object><name>{name}</name><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>"
        f"<ymax>2</ymax></bndbox></part><bndbox><xmax>{x1}</xmax><xmin>{x0}</xmin><ymin>{y0}</ymin><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in boxes
    ]
    return f"<annotation><filename>x</filename>{''.join(items)}</annotation>"


@pytest.fixture
def voc_tree(tmp_path) -> Path:
    """VOC2007 with four images to train on and three to test on; image 0 of each split shows two people."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Action"):
        (root / folder).mkdir(parents=True)
    for split, classes in VOC_LABELS.items():
        names = [f"{split}{number}" for number in range(len(classes["bird"]))]
        for number, name in enumerate(names):
            noise(len(name) + 7 * number).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            people = [("person", 11, 1, 30, 60), ("person", 31, 11, 90, 60)][: 2 - (number > 0)]
            (root / "Annotations" / f"{name}.xml").write_text(annotation(*people))
        for label, values in classes.items():
            lines = [f"{name} {value:2}\n" for name, value in zip(names, values, strict=True)]
            (root / "ImageSets/Main" / f"{label}_{split}.txt").write_text("".join(lines))
        persons = [(names[0], 1), (names[0], 2), (names[1], 1), (names[2], 1)][: len(VOC_PEOPLE[split]["running"])]
        for label, values in VOC_PEOPLE[split].items():
            lines = [f"{name}  {who} {value:2}\n" for (name, who), value in zip(persons, values, strict=True)]
            (root / "ImageSets/Action" / f"{label}_{split}.txt").write_text("".join(lines))
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names))
    return root
