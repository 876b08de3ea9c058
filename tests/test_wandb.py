"""What W&B is told, read back from the files that `wandb sync` would upload; nothing here needs a network."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY, composed, environment, evaluation, last, run, transfer
from PIL import Image

from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.data.datasets import listing
from vgg.evaluation import arrays, lines, posteriors
from vgg.evaluation.images import evaluated_images
from vgg.evaluation.records import Evaluation, Localisation, packed_bits
from vgg.launch.processes import QUIET_WANDB
from vgg.report import wandb_dashboard, wandb_evaluations
from vgg.runs.run import Run
from vgg.training import fit as training_fit
from vgg.training import wandb_logger
from vgg.training.checkpoints import Checkpoints, Interrupted

A_JITTER = ("model=A", "train_scale=jitter", "chain=false", "trainer.workers=0", "data.epochs=3", *TINY)
OF_ALL = [field.name for field in fields(Evaluation)]
LOGGED = ("train/loss", "train/top1_error", "train/top5_error", "val/top1_error", "val/top5_error", "val/loss", "lr")


def records(folder: Path) -> list[list[dict]]:
    """The records of every run's files in this wandb folder, in the order of time."""
    read = []
    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", path]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        read.append([json.loads(line) for line in output.splitlines()])
    return read


def only(found: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in found if record["type"] == kind]


def rows(found: list[dict], key: str) -> list[dict]:
    """The rows of a run's history that have this key."""
    return [each["item"] for each in only(found, "history") if key in each["item"]]


def configuration(found: list[dict]) -> dict:
    return only(found, "run")[0]["config"]["update"]


@pytest.fixture(scope="module")
def quiet():
    """W&B as the processes of train.py have it, in this one."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**QUIET_WANDB, "WANDB_MODE": "offline", "WANDB_CONSOLE": "off"}.items():
            patch.setenv(key, value)
        import wandb

        yield wandb
        wandb.teardown()


def fitted(folder: Path, scenes: Path, logger: str, interrupted: bool = False) -> Run:
    """A tiny run of two epochs in this process; interrupted, it is resumed after the first."""
    import wandb

    cfg = composed(*A_JITTER, f"logger={logger}", f"data.root={scenes}", f"dirs.runs={folder}")
    made = Run.named("scenes/A-jitter", folder)
    made.prepare(cfg, None)
    if interrupted:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpoints, "asked_to_stop", lambda self, trainer: trainer.current_epoch and signal.SIGTERM)
            with pytest.raises(Interrupted):
                training_fit.fit(made)
        wandb.finish()
    training_fit.fit(made)
    wandb.finish()
    return made


@pytest.fixture(scope="module")
def resumed(quiet, scenes, tmp_path_factory) -> Run:
    return fitted(tmp_path_factory.mktemp("resumed") / "runs", scenes, "offline", interrupted=True)


@pytest.fixture(scope="module")
def parts(resumed) -> list[list[dict]]:
    return records(resumed.folder / "wandb")


def test_a_training_run_has_its_curves_configuration_and_lineage(parts, resumed):
    first, last = parts
    for found in parts:
        started, config = only(found, "run")[0], configuration(found)
        assert (started["display_name"], started["run_group"], started["job_type"]) == (
            "scenes/A-jitter",
            "scenes",
            "train",
        )
        assert (config["model"]["name"], config["train_scale"]["name"], config["seed"]) == ("A", "jitter", 1)
        assert (config["cell"], config["dataset"], config["depth"], config["parent"]) == (
            "A-jitter",
            "scenes",
            11,
            None,
        )
        for key in (*LOGGED, "images_per_second"):
            (row,) = rows(found, key)
            assert 0 <= row[key] < 2000, key
        assert 0 < rows(found, "train/top5_error")[0]["train/top5_error"] <= 100
    assert only(last, "exit")[0]["exit_code"] == 0
    assert {"weights_sha256": resumed.record()["weights_sha256"]} in [each["update"] for each in only(last, "summary")]
    assert "weights_sha256" not in str(only(first, "summary"))


def test_a_resumed_run_continues_its_curve_under_the_same_id(parts):
    assert [only(found, "run")[0]["run_id"] for found in parts] == ["scenes-A-jitter"] * 2
    assert all(only(found, "run")[0]["resume"] for found in parts), "wandb sync would replace the first part"
    starts = [only(found, "run")[0]["start_time"] for found in parts]
    steps = [row["trainer/global_step"] for found in parts for row in rows(found, "trainer/global_step")]
    assert starts == sorted(starts)
    assert all(before <= after for before, after in pairwise(steps))
    assert [row["epoch"] for found in parts for row in rows(found, "train/loss")] == [0, 1]
    for found in parts:
        (metric,) = [each for each in only(found, "metric") if each.get("glob_name") == "*"]
        assert metric["step_metric"] == "trainer/global_step"


def test_the_first_training_crops_are_shown_once_with_their_scales(parts, resumed, scenes):
    shown = [row for found in parts for row in rows(found, "training_crops.captions")]
    assert len(shown) == 1
    _, data = training_fit.parts(resumed.config())
    crops = data.training_crops()
    (files,) = (resumed.folder / "wandb").glob("offline-run-*/files/media")
    order = np.random.default_rng([1, 0]).permutation(len(data.train))
    assert shown[0]["training_crops.count"] == wandb_logger.EXAMPLES
    for place, index in enumerate(order[: wandb_logger.EXAMPLES]):
        crop, label, *_, scale = crops.drawn(0, int(index))
        assert 256 <= scale <= 512
        assert shown[0]["training_crops.captions"][place] == f"{data.train.classes[label]}, S = {scale}"
        with Image.open(files.parent / shown[0]["training_crops.filenames"][place]) as image:
            assert image.tobytes() == crop.numpy().tobytes()


def test_disabled_means_no_files_and_the_same_weights(resumed, scenes, tmp_path):
    made = fitted(tmp_path, scenes, "csv")
    assert not list(tmp_path.rglob("*.wandb"))
    assert made.record()["weights_sha256"] == resumed.record()["weights_sha256"]
    assert "train/top5_error" in next(made.folder.glob("csv/*/metrics.csv")).read_text()


@pytest.fixture(scope="module")
def evaluate(resumed, scenes) -> tuple[Path, list[str]]:
    """The folder of the runs, and the options of an evaluation whose posteriors are there."""
    folder = resumed.folder.parents[2]
    options = ["runs=[scenes/A-jitter]", "eval=table3", "data.name=scenes", f"data.root={scenes}", *TINY]
    where = (f"dirs.runs={folder}/runs", f"dirs.cache={folder}/cache/vgg")
    cfg = composed(*options, *where, evaluate=True)
    images = evaluated_images(cfg, tuple(resumed.record()["classes"]))
    for array in arrays.arrays_of(cfg, resumed, images):
        rows = np.random.default_rng(0).random((len(images), 10), dtype=np.float32)
        posteriors.save(array.path, rows, np.ones(len(images), dtype=bool))
    return folder, options


def test_an_evaluation_is_a_run_of_its_own_and_its_printed_output_is_clean(evaluate, resumed, monkeypatch):
    for key in ("WANDB_SERVICE", "WANDB_CONSOLE", *QUIET_WANDB):  # this process' own
        monkeypatch.delenv(key, raising=False)
    folder, options = evaluate
    output = run(folder, "evaluate.py", *options)
    assert "top-1 error" in output
    assert "wandb" not in output
    assert not list(folder.glob("wandb*"))
    (found,) = records(folder / "runs/scenes/wandb")
    line = last(folder / "runs/scenes/results.jsonl")
    started, config = only(found, "run")[0], configuration(found)
    assert (started["job_type"], started["run_group"]) == ("evaluate", "scenes")
    assert started["run_id"] == wandb_evaluations.evaluation_id(line)
    assert (config["model"]["name"], config["train_scale"]["name"], config["seed"]) == ("A", "jitter", 1)
    assert (config["cell"], config["method"], config["q"]) == ("A-jitter", "dense", [[384]])
    assert config["weights_sha256"] == [resumed.record()["weights_sha256"]]
    (row,) = rows(found, "dense_single/top1")
    assert (row["dense_single/top1"], row["depth"], row["q"]) == (line.top1, 11, 384)
    kept = {key: value for each in only(found, "summary") for key, value in each["update"].items()}
    assert [kept["top1_low"], kept["top1_high"]] == list(line.top1_interval)
    assert kept["images"] == 37


def test_a_command_with_bytes_that_are_no_utf8_is_kept_as_text(quiet, resumed, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "data.root=caf\udce9"])
    cfg = composed(*A_JITTER, f"dirs.runs={tmp_path}", f"data.root={scenes}", evaluate=True)
    origin = lines.provenance(cfg, [resumed], listing(cfg.data, tmp_path, "val"))
    line = evaluation(command=origin["command"], data="scenes")
    lines.append(cfg, line)
    assert last(tmp_path / "scenes/results.jsonl").command == r"python evaluate.py data.root=caf\xe9"
    wandb_evaluations.log_evaluation(cfg, line)
    assert len(records(tmp_path / "scenes/wandb")) == 1
    assert sys.argv[1] == "data.root=caf\udce9"


def test_disabled_logs_no_evaluation(tmp_path):
    wandb_evaluations.log_evaluation(composed("logger=csv", f"dirs.runs={tmp_path}", evaluate=True), evaluation())
    assert not list(tmp_path.iterdir())


def test_the_same_evaluation_has_the_same_id_and_the_papers_row_beside_it():
    ours = evaluation(skipped=0)
    assert wandb_evaluations.evaluation_id(ours) == wandb_evaluations.evaluation_id(replace(ours, top1=21.0))
    assert wandb_evaluations.evaluation_id(ours) != wandb_evaluations.evaluation_id(replace(ours, q=((384,),)))
    kept = wandb_evaluations.summary(ours)
    assert (kept["top1"], kept["paper_top1"], kept["paper_place"]) == (20.0, 24.4, "Table 5")
    assert "paper_top1" not in wandb_evaluations.summary(replace(ours, q=((384,),)))


def test_boxes_and_transfers_are_runs_with_their_own_measures():
    common = {key: value for key, value in asdict(evaluation(runs=["digits/D-256-loc-pcr"])).items() if key in OF_ALL}
    boxes = Localisation(
        **common,
        **{"protocol": "ground_truth", "q": ((256,),), "classes_by": (), "k": 2, "t": 0.0, "error": 33.0},
        **{"error_interval": (29.0, 37.0), "error_correct": packed_bits(np.arange(597) < 400)},
        **{"class_error": 34.0, "mean_iou": 0.6, "constant_box_error": 70.0},
    )
    assert wandb_evaluations.protocol(boxes) == "localisation_ground_truth"
    assert wandb_evaluations.errors(boxes) == {"localisation_ground_truth/error": boxes.error}
    assert wandb_evaluations.title(boxes) == f"{boxes.runs[0]}, the true class, central crop, Q = 256"
    kept = wandb_evaluations.summary(boxes)
    assert [kept["error_low"], kept["error_high"]] == list(boxes.error_interval)
    assert kept["constant_box_error"] == boxes.constant_box_error
    carried = transfer(recall=(50.0, 60.0))
    assert wandb_evaluations.errors(carried) == {"transfer_classes/mean": carried.mean}
    assert wandb_evaluations.summary(carried)["recall"] == carried.recall
    assert "SVM on fc7, Q = 256, 384, 512 stacked: imagenette → caltech20, 30 a class" in wandb_evaluations.title(
        carried
    )
    config = wandb_evaluations.settings(carried)
    assert (config["model"]["name"], config["features"], config["train"]) == ("D", "fc7", 30)
    assert wandb_evaluations.evaluation_id(carried) != wandb_evaluations.evaluation_id(
        replace(carried, combine="average")
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "fused_multi"),
        ({"views": ["dense"], "q": [[384]]}, "dense_single"),
        ({"views": ["dense"], "q": [[512, 256, 384]]}, "dense_multi"),
        ({"views": ["dense"], "q": [[256]]}, "dense_other"),
        ({"cells": ["D-256-seed2"], "views": ["center"], "q": [[256]]}, "center_single"),
        ({"softmax": "first"}, "fused_multi_softmax_first"),
        ({"ceil_mode": [True]}, "fused_multi_ceil"),
        ({"cells": ["D-jitter", "E-256"], "q": [[256, 384, 512], [224, 256, 288]]}, "fused_multi"),
    ],
)
def test_errors_are_named_by_the_protocol(change, name):
    assert wandb_evaluations.protocol(evaluation(**change)) == name


def test_groups_are_the_nets_scales_and_cells_without_their_seeds():
    two = evaluation(
        runs=["digits/D-jitter-seed2", "digits/E-jitter-seed2"],
        cells=["D-jitter-seed2", "E-jitter-seed2"],
        seed=[2, 2],
        q=[[256, 384, 512]] * 2,
    )
    config = wandb_evaluations.settings(two)
    assert (config["model"]["name"], config["train_scale"]["name"], config["seed"]) == ("D + E", "jitter", 2)
    assert config["cell"] == "D-jitter + E-jitter"
    assert "depth" not in wandb_evaluations.errors(replace(two, q=((256,), (384,))))
    assert wandb_evaluations.errors(evaluation(views=["dense"], q=[[256]]))["dense_over_q/top1"] == 20.0


@pytest.mark.parametrize(
    ("cell", "layers"), [("D-jitter-seed2", 16), ("E-jitter", 19), ("A-LRN-jitter", None), ("D-jitter-noA", None)]
)
def test_only_nets_a_to_e_are_points_of_the_curve_over_depth(cell, layers):
    assert wandb_evaluations.errors(evaluation(cells=[cell])).get("depth") == layers


def test_where_wandb_fails_the_result_is_kept_and_one_line_says_so(resumed, scenes, tmp_path, monkeypatch, quiet):
    def fail(**unused):
        raise quiet.errors.CommError("no server")

    monkeypatch.setattr(quiet, "init", fail)
    with pytest.raises(UserError, match=r"results\.jsonl, but W&B failed \(no server\)"):
        wandb_evaluations.log_evaluation(composed(evaluate=True), evaluation(skipped=0))
    made = wandb_logger.Curves.of(composed(*A_JITTER, f"data.root={scenes}"), resumed)
    with pytest.raises(UserError, match="logger=offline"):
        _ = made.experiment


def without_login(folder: Path) -> dict[str, str]:
    hidden = {"NETRC": str(folder / "netrc"), "WANDB_CONFIG_DIR": str(folder), "HOME": str(folder)}
    known = environment(folder) | hidden
    return {key: value for key, value in known.items() if key not in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SERVICE")}


@pytest.mark.parametrize("command", [["-m", "vgg", "dashboard"], [str(REPOSITORY / "evaluate.py"), "logger=wandb"]])
def test_without_login_one_message_says_how_and_nothing_is_asked(command, evaluate, tmp_path):
    folder, options = evaluate
    evaluates = "dashboard" not in command
    before = len((folder / "runs/scenes/results.jsonl").read_text().splitlines())
    done = subprocess.run(
        [sys.executable, *command, *(options if evaluates else [])],
        cwd=folder,
        env=without_login(tmp_path) | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("wandb login") == 1
    assert "Traceback" not in done.stderr
    assert len((folder / "runs/scenes/results.jsonl").read_text().splitlines()) == before + evaluates


def test_online_the_weights_are_an_artifact_made_from_the_parents(resumed, quiet, capsys):
    calls = []
    known = SimpleNamespace(
        summary={},
        use_artifact=lambda name, type: calls.append(name),
        log_artifact=lambda artifact, aliases: calls.append((artifact, aliases)),
    )
    record = resumed.record()
    sha = record["weights_sha256"]
    child = SimpleNamespace(
        name="scenes/B-256-seed2",
        cell="B-256",
        weights=resumed.weights,
        record=lambda: record | {"parent": "scenes/A-256-seed2", "parent_sha256": "0123456789abcdef"},
    )
    logger = wandb_logger.Curves(project="vgg", experiment=known)
    logger.keep_weights(child)
    used, (artifact, aliases) = calls
    assert used == "scenes-A-256-seed2:0123456789ab"
    assert (artifact.name, artifact.type) == ("scenes-B-256-seed2", "model")
    assert artifact.metadata == {"run": "scenes/B-256-seed2", "cell": "B-256", "sha256": sha}
    assert list(artifact.manifest.entries) == ["weights.pt"]
    assert aliases == ["latest", sha[:12]]
    assert known.summary == {"weights_sha256": sha}

    def missing(*unused, **more):
        raise ValueError("not found")

    known.use_artifact = known.log_artifact = missing
    logger.keep_weights(child)
    assert capsys.readouterr().out.splitlines() == [
        "scenes/B-256-seed2: the weights of its parent scenes/A-256-seed2 are not in W&B (not found)",
        "scenes/B-256-seed2: W&B has not taken its weights (not found)",
    ]


def test_every_panel_is_about_something_that_is_logged(parts):
    asked = [
        (views, q) for views in (["dense"], ["multicrop"], ["dense", "multicrop"]) for q in ([384], [256, 384, 512])
    ]
    logged = {key for views, q in asked for key in wandb_evaluations.errors(evaluation(views=views, q=[q]))}
    logged |= {
        key.removesuffix(".captions") for found in parts for row in only(found, "history") for key in row["item"]
    }
    for each in wandb_dashboard.comparisons():
        for panel in each.panels:
            shown = {*vars(panel).get("y", []), *vars(panel).get("metrics", []), *vars(panel).get("media_keys", [])}
            assert shown <= logged
            assert vars(panel).get("x", "epoch") in logged
