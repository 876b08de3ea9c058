import copy
import itertools
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROUNDING, SMALL, TINY, composed, difference, run, start, training_difference
from PIL import Image
from torch import nn

from vgg.core.errors import UserError
from vgg.data.crops import CentreCrops
from vgg.data.listing import list_folder
from vgg.launch import trainer as launch_trainer
from vgg.nets import initialisation, state_dicts
from vgg.nets.vgg import VGG
from vgg.runs import plan, weights
from vgg.runs.run import Run
from vgg.training import fit as training_fit
from vgg.training.checkpoints import Checkpoints, FiniteLoss, Interrupted
from vgg.training.learning_rate import Plateau

A_256 = ("model=A", "train_scale=S256", "data.epochs=2", "logger=csv", *TINY)
NAME = f"scenes/A-256{SMALL}-epochs2"


def folder_of(cfg, tmp_path: Path) -> Run:
    made = Run.named(NAME, tmp_path / "runs")
    made.prepare(cfg, None)
    return made


def trained(tmp_path: Path, *options: str) -> Run:
    """What train.py does with the options, or what it goes on to do, in this process."""
    with Run.named(NAME, tmp_path / "runs").lock():
        made = folder_of(composed(*options, "trainer.workers=0"), tmp_path)
        training_fit.fit(made)
    return made


def sha(folder: Path, name: str = NAME) -> str:
    return Run.named(name, folder / "runs").record()["weights_sha256"]


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory) -> Path:
    """Two epochs of a tiny net A; the folder with runs/."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    trained(folder, *A_256, f"data.root={scenes}")
    return folder


def test_two_steps_are_two_steps_of_plain_sgd(scenes, tmp_path):
    overrides = [option for option in A_256 if option not in ("data.epochs=2", "data.dropout=0.5")]
    cfg = composed(
        *overrides, f"data.root={scenes}", "data.epochs=1", "data.batch=42", "data.dropout=0", "trainer.workers=0"
    )
    made = folder_of(cfg, tmp_path)
    training_fit.fit(made)
    trained, _ = weights.load(made)

    data = training_fit.parts(cfg)[1]
    net = weights.build(cfg, 10)
    initialisation.draw(net, cfg.init.draw, cfg.seed)
    drawn = copy.deepcopy(net.state_dict())
    colours = data.colours
    net.mean.copy_(colours.mean)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9, weight_decay=5e-4)
    order = np.random.default_rng([cfg.seed, 0]).permutation(84)
    crops = data.training_crops()
    for indices in order.reshape(2, 42):
        items = [crops[0, int(index)] for index in indices]
        images = torch.stack([item[0] for item in items]).permute(0, 3, 1, 2).float()
        shift = torch.stack([colours.components @ (item[2] * colours.deviations) for item in items])
        loss = F.cross_entropy(net(images + shift[:, :, None, None]), torch.tensor([item[1] for item in items]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert difference(trained.state_dict(), net.state_dict(), drawn) < ROUNDING


def test_caffes_biases_have_twice_the_rate_and_no_decay(scenes):
    module, _ = training_fit.parts(composed(*A_256, f"data.root={scenes}", "optimizer.caffe_bias=true"))
    filters, biases = module.configure_optimizers().param_groups
    assert (filters["lr"], filters["weight_decay"], biases["lr"], biases["weight_decay"]) == (0.005, 5e-4, 0.01, 0)
    assert all(parameter.ndim == 1 for parameter in biases["params"])


def plateau_after(errors: list[float], patience: int) -> tuple[list[float], bool]:
    """Learning rates after each epoch with these validation errors, and whether training was ended."""
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        should_stop=False,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 1.0}])],
    )
    plateau, rates = Plateau(patience), []
    for error in errors:
        trainer.callback_metrics = {"val/top1_error": torch.tensor(error), "val/top5_error": torch.tensor(0.0)}
        plateau.on_validation_end(trainer, SimpleNamespace(accuracies={"top1": None, "top5": None}))
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    return rates, trainer.should_stop


def test_learning_rate_falls_tenfold_after_patience_epochs_without_a_better_error():
    rates, ended = plateau_after([50, 40, 40, 41, 39, 39, 39], patience=2)
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert not ended


def test_three_decreases_and_the_fourth_plateau_ends_the_training():
    rates, ended = plateau_after([50, *[50] * 3], patience=1)
    assert rates[-1] == pytest.approx(1e-3)
    assert not ended
    assert plateau_after([50, *[50] * 4], patience=1)[1]


def test_finished_run_is_a_no_op_and_what_its_name_does_not_show_is_refused(uninterrupted, scenes):
    before = sha(uninterrupted)
    assert "finished" in run(uninterrupted, "train.py", *A_256, f"data.root={scenes}")
    assert sha(uninterrupted) == before
    refused = run(uninterrupted, "train.py", *A_256, f"data.root={scenes}", "trainer.precision=bf16-mixed", status=1)
    assert "trainer.precision: 32-true, now bf16-mixed" in refused
    assert "tag=" in refused


def test_a_finished_run_keeps_its_weights_record_and_curves_and_no_checkpoint(uninterrupted):
    folder = uninterrupted / f"runs/{NAME}"
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"config.yaml", "record.json", "weights.pt", "colours.pt", "csv", ".lock"}
    record = json.loads((folder / "record.json").read_text())
    assert record["parent"] is None
    assert record["error"] is None
    assert record["images_per_second"] > 0
    assert len(record["classes"]) == 10
    assert (folder / "csv/version_0/metrics.csv").read_text().count("\n") >= 3
    content = torch.load(folder / "weights.pt", weights_only=True)
    assert content["run"] == NAME


def test_the_last_validation_is_of_the_net_that_is_kept(uninterrupted, scenes):
    made = Run.named(NAME, uninterrupted / "runs")
    images, labels, _ = zip(*CentreCrops(list_folder(scenes / "val"), 32, 28), strict=True)
    with torch.inference_mode():
        scores = weights.load(made)[0](torch.stack(images).permute(0, 3, 1, 2).float())
    validation, labels = made.record()["validation"], torch.tensor(labels)
    assert validation["loss"] == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-4)
    answers = scores.argmax(1)
    assert validation["most_frequent_answer"] == pytest.approx(100 * answers.bincount().max().item() / 37, rel=1e-5)
    assert validation["top1_error"] == pytest.approx(100 * (answers != labels).float().mean().item(), rel=1e-5)
    *_, last = (made.folder / "csv/version_0/metrics.csv").read_text().splitlines()
    header = (made.folder / "csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    logged = dict(zip(header, last.split(","), strict=True))
    for name in validation:
        assert float(logged[f"val/{name}"]) == pytest.approx(validation[name])


@pytest.mark.parametrize(
    ("number", "epoch_end"), [(signal.SIGKILL, True), (signal.SIGTERM, False), (signal.SIGINT, False)]
)
def test_resumed_is_uninterrupted_bit_for_bit(number, epoch_end, uninterrupted, scenes, tmp_path):
    often = () if epoch_end else ("trainer.checkpoint_minutes=0",)
    process = start(tmp_path, "train.py", *A_256, f"data.root={scenes}", *often)
    checkpoint = tmp_path / f"runs/{NAME}/last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number], output
    assert not (checkpoint.parent / "weights.pt").exists(), "finished before it was interrupted"
    trained(tmp_path, *A_256, f"data.root={scenes}")
    assert sha(tmp_path) == sha(uninterrupted)


def test_ctrl_c_while_it_waits_for_another_process_ends_it_without_a_traceback(scenes, tmp_path):
    with Run.named(NAME, tmp_path / "runs").lock():
        process = start(tmp_path, "train.py", *A_256, f"data.root={scenes}")
        assert "another process trains it" in next(line for line in process.stdout if line.startswith(f"{NAME}:"))
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert not output


def test_wandb_is_offline_and_its_id_is_the_runs_name(scenes, tmp_path):
    options = [option for option in A_256 if option != "logger=csv"]
    output = run(tmp_path, "train.py", *options, f"data.root={scenes}")
    assert "wandb" not in output
    (folder,) = (tmp_path / f"runs/{NAME}/wandb").glob("offline-run-*")
    assert [path.name for path in folder.glob("*.wandb")] == [f"run-{NAME.replace('/', '-')}.wandb"]
    assert not list(tmp_path.glob("wandb*"))


def test_a_parent_with_other_layers_is_refused_naming_them(uninterrupted, scenes):
    options = [option.replace("model=A", "model=B") for option in A_256]
    where = (f"data.root={scenes}", f"dirs.runs={uninterrupted / 'runs'}")
    cfg = composed(*options, *where, "init.parent=A-256", "tag=child")
    child = Run.named("scenes/B-256-child", uninterrupted / "runs")
    child.prepare(cfg, Run.named(NAME, uninterrupted / "runs"))
    with pytest.raises(UserError, match="conv1_2, conv2_2"):
        training_fit.fit(child)


def test_a_run_stopped_after_its_last_epoch_is_finished_by_the_same_call(scenes, tmp_path, monkeypatch):
    cfg = composed(*A_256, f"data.root={scenes}", "trainer.workers=0")
    made = folder_of(cfg, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(weights, "save", lambda *unused: (_ for _ in ()).throw(UserError("the disk is full")))
        with pytest.raises(UserError, match="disk is full"):
            training_fit.fit(made)
    assert not made.finished
    training_fit.fit(made)
    assert made.finished
    assert list(made.record()["validation"]) == ["top1_error", "top5_error", "loss", "most_frequent_answer"]


@pytest.mark.parametrize("micro_batch", [8, 4, 2])
def test_a_run_stopped_inside_an_epoch_goes_on_with_any_micro_batches(micro_batch, scenes, tmp_path, monkeypatch):
    options = (*A_256, f"data.root={scenes}", "data.lr=2e-5")  # and a dropout of 0.5
    whole = trained(tmp_path / "whole", *options)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "asked_to_stop", lambda self, trainer: trainer.global_step == 3 and signal.SIGTERM)
        with pytest.raises(Interrupted):
            trained(tmp_path / "parts", *options, "trainer.micro_batch=4")
    last = tmp_path / f"parts/runs/{NAME}/last.ckpt"
    loops = state_dicts.read_tensors(last, {"loops"})["loops"]["fit_loop"]
    assert loops["epoch_loop.batch_progress"]["current"]["processed"] == 6, "not after 3 of an epoch's 10 steps"
    parts = trained(tmp_path / "parts", *options, f"trainer.micro_batch={micro_batch}")
    assert training_difference(parts, whole) < ROUNDING
    assert parts.record()["epochs"] == 2
    first, *then = parts.record()["trained_with"]
    assert [part["micro_batch"] for part in then] == [micro_batch] * (micro_batch != 4)
    assert (first["micro_batch"], first["devices"]) == (4, 1)
    assert [first | {"micro_batch": 8}] == whole.record()["trained_with"]
    assert torch.__version__.startswith(first["versions"]["torch"])
    assert first["device"].startswith("cpu (")


def test_workers_do_not_change_the_weights(uninterrupted, scenes, tmp_path):
    made = folder_of(composed(*A_256, f"data.root={scenes}", "trainer.workers=1"), tmp_path)
    training_fit.fit(made)
    assert sha(tmp_path) == sha(uninterrupted)


def test_a_damaged_or_foreign_checkpoint_is_named_and_the_one_before_it_used(uninterrupted, tmp_path):
    made = Run.named(NAME, tmp_path)
    made.folder.mkdir(parents=True)
    state = {"state_dict": {}, "loops": {}, "run": NAME}
    torch.save(state, made.folder / "previous.ckpt")
    torch.save(state, made.folder / "last.ckpt")
    assert training_fit.readable_checkpoint(made).name == "last.ckpt"
    whole = (made.folder / "last.ckpt").read_bytes()
    (made.folder / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert training_fit.readable_checkpoint(made).name == "previous.ckpt"
    torch.save(state | {"run": "scenes/B-256"}, made.folder / "previous.ckpt")
    assert training_fit.readable_checkpoint(made) is None


def test_a_loss_that_is_not_finite_ends_with_step_rate_and_advice(scenes, tmp_path):
    cfg = composed(*A_256, f"data.root={scenes}", "data.lr=1e6", "trainer.workers=0")
    with pytest.raises(UserError, match=r"at step \d+, learning rate 1e\+06, .*init=glorot"):
        training_fit.fit(folder_of(cfg, tmp_path))


def test_other_images_under_a_started_run_are_refused(scenes):
    _, data = training_fit.parts(composed(*A_256, f"data.root={scenes}"))
    for what in data.sums():
        with pytest.raises(UserError, match=f"the {what} of {scenes} are not the ones"):
            data.load_state_dict({"sha256": data.sums() | {what: "of others"}})


def folder_of_photos(root: Path, classes: tuple[str, ...], shade: int) -> Path:
    """data.root=root with 4 photos a class and split, of equal sizes whatever the shade."""
    for number, (split, name) in enumerate(itertools.product(("train", "val"), classes)):
        (root / split / name).mkdir(parents=True)
        for photo in range(4):
            levels = np.random.default_rng([number, photo]).integers(0, 256, (60, 60, 3), dtype=np.uint8)
            Image.fromarray(levels ^ np.uint8(shade)).save(root / split / name / f"{photo}.png", compress_level=0)
    return root


def test_a_finished_run_is_of_its_images_and_another_folder_of_the_same_name_is_refused(tmp_path):
    classes = ("ant", "bee", "cat")
    first = folder_of_photos(tmp_path / "a/photos", classes, 0)
    options = ("model=A", "train_scale=S256", "data.epochs=1", *TINY, "logger=csv", "trainer.workers=0")
    options = (*options, f"dirs.runs={tmp_path / 'runs'}", f"dirs.cache={tmp_path / 'cache'}")
    cfg = composed(*options, f"data.root={first}")
    (step,) = plan.lineage(cfg)
    with step.run.lock():
        step.run.prepare(cfg, None)
        step.run.keep_images(plan.images_of(cfg))
        training_fit.fit(step.run)
    record = step.run.record()
    assert record["classes"] == list(classes)
    assert record["images"]["train"] == list_folder(first / "train").described()
    assert record["images"]["val"]["images"] == 12
    assert plan.lineage(cfg)[0].run.finished
    moved = tmp_path / "moved/photos"
    shutil.copytree(first, moved)
    plan.lineage(composed(*options, f"data.root={moved}"))

    others = folder_of_photos(tmp_path / "b/photos", classes, 255)  # of the same names and sizes
    assert list_folder(others / "train").sha256 == record["images"]["train"]["sha256"]
    with pytest.raises(UserError, match=rf"{first}.*{others}.*are others, of the same names and sizes.*data.name=NAME"):
        plan.lineage(composed(*options, f"data.root={others}"))
    child = ("model=B", "data.lr=0.005")  # which would start from A's layers
    with pytest.raises(UserError, match=rf"photos/A-256.*{first}.*{others}"):
        plan.lineage(composed(*options, *child, f"data.root={others}"))
    two = folder_of_photos(tmp_path / "c/photos", classes[:2], 0)
    with pytest.raises(UserError, match=rf"{first}/train \(12\).*{two}/train \(8\) are others\. Give"):
        plan.lineage(composed(*options, f"data.root={two}"))
    shutil.rmtree(moved)
    plan.lineage(composed(*options, f"data.root={moved}"))  # a finished run needs no images


def test_net_as_layers_leave_fc8_random_where_the_classes_are_others(uninterrupted, scenes, tmp_path, capsys):
    options = [option.replace("model=A", "model=B") for option in A_256]
    cfg = composed(*options, f"data.root={scenes}", f"dirs.runs={uninterrupted / 'runs'}")
    child = Run.named("scenes/B-256-other", uninterrupted / "runs")
    child.prepare(cfg, Run.named(NAME, uninterrupted / "runs"))
    classes = tuple("0123456789")
    same, other = weights.build(cfg, 10), weights.build(cfg, 10)
    for net, names in ((same, classes), (other, (*classes[:9], "ten"))):
        training_fit.start_from_parent(net, cfg, child, names)
    source, _ = weights.load(Run.named(NAME, uninterrupted / "runs"))
    assert torch.equal(same.fc8.weight, source.fc8.weight)
    assert not torch.equal(other.fc8.weight, source.fc8.weight)
    assert torch.equal(other.fc7.weight, source.fc7.weight)
    shown = capsys.readouterr().out
    assert shown.count("are others, its outputs are not taken") == 1
    assert "conv5_2, fc8\n" in shown


def test_bf16_trains_and_16_is_refused_on_a_cpu_instead_of_becoming_bf16(scenes, tmp_path):
    options = (*A_256, "data.epochs=1", f"data.root={scenes}", "trainer.workers=0")
    with pytest.raises(UserError, match="trainer.precision=16-mixed.*bf16-mixed"):
        launch_trainer.lightning_trainer(composed(*options, "trainer.precision=16-mixed").trainer)
    made = folder_of(composed(*options, "trainer.precision=bf16-mixed"), tmp_path)
    training_fit.fit(made)
    assert not torch.backends.cudnn.allow_tf32
    net, _ = weights.load(made)
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


def test_batch_divides_over_devices_and_micro_batches_or_is_refused():
    assert training_fit.accumulation(composed("data.batch=32"), 2) == 1
    assert training_fit.accumulation(composed("data.batch=32", "trainer.micro_batch=4"), 2) == 4
    with pytest.raises(UserError, match="data.batch=32"):
        training_fit.accumulation(composed("data.batch=32"), 3)
    with pytest.raises(UserError, match="trainer.micro_batch=5"):
        training_fit.accumulation(composed("data.batch=32", "trainer.micro_batch=5"), 1)


def test_micro_batches_give_the_weights_of_whole_ones(scenes, tmp_path):
    """Two ranks too: tests/test_crashes.py."""
    options = (*A_256, f"data.root={scenes}", "data.batch=18", "data.lr=2e-5")
    whole, parts = trained(tmp_path / "whole", *options), trained(tmp_path / "parts", *options, "trainer.micro_batch=2")
    assert training_difference(parts, whole) < ROUNDING
    assert parts.record()["validation"]["top1_error"] == pytest.approx(whole.record()["validation"]["top1_error"])


def test_a_compiled_net_is_trained_and_its_weights_keep_their_names(scenes, tmp_path, monkeypatch):
    """The graph is captured as torch.compile does it, and run without the minute that compiling C++ takes."""
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(VGG, "compile", lambda net: nn.Module.compile(net, backend=backend))
    cfg = composed(*A_256, f"data.root={scenes}", "trainer.workers=0", "trainer.compile=true", "data.epochs=1")
    made = folder_of(cfg, tmp_path)
    training_fit.fit(made)
    assert traced
    assert weights.load(made)[0].state_dict().keys() == weights.build(cfg, 10).state_dict().keys()


def test_finite_losses_pass():
    trainer = SimpleNamespace(
        strategy=SimpleNamespace(reduce=lambda values, reduce_op: values),
        global_step=3,
        accumulate_grad_batches=1,
        is_last_batch=False,
    )
    finite = FiniteLoss()
    for loss in (2.3, 2.2, 2.1):
        finite.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, None, 0)
    assert math.isnan(finite.last_finite), "no step waits for the device"
    finite.look(trainer)
    assert finite.last_finite == pytest.approx(2.1)
    for step in range(FiniteLoss.EVERY):
        finite.on_train_batch_end(trainer, None, {"loss": torch.tensor(float(step))}, None, 0)
    assert finite.last_finite == FiniteLoss.EVERY - 1
