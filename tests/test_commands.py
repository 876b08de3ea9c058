"""The whole path through the real command line on a small folder of images."""

import contextlib
import io
import re
import subprocess
import sys

import pytest
from conftest import SMALL, TINY, composed, last, run

from vgg.commands import evaluate as commands_evaluate
from vgg.core.errors import UserError
from vgg.runs.run import Run

SHORT = (*TINY, "data.epochs=1", "logger=csv")
REST = f"{SMALL}-epochs1"  # of a run's name


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """The lineage of D-jitter, one epoch a stage, by the README's command with -m."""
    folder = tmp_path_factory.mktemp("commands")
    output = run(folder, "train.py", "model=D", "train_scale=jitter", f"data.root={scenes}", *SHORT, "-m")
    assert "plan: " + " → ".join(f"scenes/{cell}{REST}" for cell in ("A-256", "D-256", "D-384", "D-jitter")) in output
    return folder, output


def test_the_lineage_is_trained_parents_first_and_recorded(trained):
    folder, output = trained
    runs = [Run.named(f"scenes/{name}{REST}", folder / "runs") for name in ("A-256", "D-256", "D-384", "D-jitter")]
    assert all(made.finished for made in runs)
    for parent, child in zip(runs, runs[1:], strict=False):
        assert child.record()["parent"] == parent.name
        assert child.record()["parent_sha256"] == parent.record()["weights_sha256"]
    assert f"\nrun 1 of 4: scenes/A-256{REST}\n" in output, "no speed is measured yet"
    assert re.search(rf"\nrun 4 of 4, about \d+ (s|min) left: scenes/D-jitter{REST}\n", output)
    assert re.search(rf"\nscenes/D-jitter{REST} is finished in \d+ (s|min): top-1 error", output)
    assert [made.record()["plan"]["number"] for made in runs] == [1, 2, 3, 4]
    assert f"from scenes/A-256{REST} conv1_1, conv2_1, conv3_1, conv3_2, fc6, fc7, fc8; random: conv1_2" in output


def evaluate(folder, *options: str) -> str:
    """What evaluate.py does and prints, in this process."""
    cfg = composed(*options, f"dirs.runs={folder}/runs", f"dirs.cache={folder}/cache/vgg", evaluate=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        commands_evaluate.evaluate_all(cfg)
    return printed.getvalue()


def test_the_same_command_again_does_nothing(trained, scenes):
    folder, _ = trained
    output = run(folder, "train.py", "model=D", "train_scale=jitter", f"data.root={scenes}", *SHORT, "-m")
    assert "is finished: " in output
    assert "epoch 1/1" not in output
    assert "run 1 of" not in output


def test_a_sweep_trains_what_its_cells_do_not_share_once(trained, scenes):
    folder, _ = trained
    sweep = ("-m", "model=A,D", "train_scale=S256,S384", f"data.root={scenes}", *SHORT)
    output = run(folder, "train.py", *sweep)
    assert output.count("epoch 1/1") == 1  # A-384; A-256, D-256 and D-384 are there
    assert sorted(path.name for path in (folder / "runs").iterdir()) == [".sweep", "scenes"]


def test_evaluation_prints_and_appends_its_result(trained, scenes):
    folder, _ = trained
    arguments = ("eval=fused", f"data.root={scenes}", *SHORT)
    output = run(folder, "evaluate.py", *arguments)
    assert "multi-crop & dense, 37 images" in output
    assert "Table 5" not in output, "a net of another width and scale is no cell of the paper's"
    results = folder / "runs/scenes/results.jsonl"
    line = last(results)
    assert line.runs == (f"scenes/D-jitter{REST}",)
    assert line.q == ((256, 384, 512),)
    assert line.views == ("dense", "multicrop")
    assert line.images == 37
    assert line.top1 == pytest.approx(100 * round(line.top1 * 37 / 100) / 37, abs=1e-3)
    again = run(folder, "evaluate.py", *arguments)
    assert "dense at" not in again, "stored posteriors are not computed again"
    assert last(results).top1_correct == line.top1_correct


def test_short_commands_do_without_torch(trained, scenes, scoring_here, tmp_path, monkeypatch):
    folder, _ = trained
    arguments = ("eval=table3", f"data.root={scenes}", *TINY, "data.epochs=1")
    evaluate(folder, *arguments, "logger=csv")  # W&B in this process would keep its settings for later tests
    (tmp_path / "torch.py").write_text("raise ImportError('a short command imports torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "top-1 error" in run(folder, "evaluate.py", *arguments)  # again, with the run in W&B
    for command in ("runs", "tables --data scenes", "claims", "studies --data scenes", "--help"):
        made = subprocess.run([sys.executable, "-m", "vgg", *command.split()], cwd=folder, capture_output=True)
        assert made.returncode == 0, made.stderr.decode()


@pytest.mark.long
def test_a_plan_can_be_looked_at_and_a_table_evaluated_as_far_as_it_is_trained(trained, scenes):
    folder, _ = trained
    arguments = (f"data.root={scenes}", *SHORT)
    output = run(folder, "train.py", "ablation=table5", "plan.dry_run=true", *arguments)
    assert f"scenes/D-jitter{REST}" in output
    assert f"to train, from scenes/E-384{REST}" in output
    assert "epoch 1/1" not in output
    output = run(folder, "evaluate.py", "ablation=table5", *arguments, status=1)
    assert all(f"{REST}, {method}, 37 images" in output for method in ("dense", "multi-crop", "multi-crop & dense"))
    assert f"scenes/E-jitter{REST}" in output


@pytest.mark.long
def test_two_ranks_score_like_one(trained, scenes, tmp_path):
    folder, _ = trained
    arguments = ("eval=table4", f"data.root={scenes}", *SHORT)
    results = folder / "runs/scenes/results.jsonl"
    run(folder, "evaluate.py", *arguments)
    one = last(results)
    run(folder, "evaluate.py", *arguments, f"dirs.cache={tmp_path}", "trainer.strategy=ddp", "trainer.devices=2")
    two = last(results)
    assert one.command != two.command
    assert one.top1_correct == two.top1_correct
    assert one.top1_interval == two.top1_interval


def test_several_nets_and_explicit_scales(trained, scenes, scoring_here):
    folder, _ = trained
    nets = (f"runs=[D-384{REST},scenes/D-jitter{REST}]", f"data.root={scenes}", *SHORT)
    output = evaluate(folder, *nets, "eval_method=dense", "test_scale.q=[256,384]")
    assert f"scenes/D-384{REST} + scenes/D-jitter{REST}, dense" in output
    assert "Q = 256, 384" in output


def test_an_untrained_run_is_an_error_with_its_command(trained, scenes):
    folder, _ = trained
    output = run(folder, "evaluate.py", "model=E", f"data.root={scenes}", *SHORT, status=1)
    assert f"python train.py model=E train_scale=jitter data.root={scenes} data=folder" in output


def test_other_classes_are_refused(trained, scenes, tmp_path):
    folder, _ = trained
    other = tmp_path / "val" / "cat"
    other.mkdir(parents=True)
    (other / "1.jpg").write_bytes(next((scenes / "val").glob("*/*.jpg")).read_bytes())
    with pytest.raises(UserError, match="classes differ"):
        evaluate(folder, f"runs=[scenes/D-jitter{REST}]", f"data.root={tmp_path}", *SHORT)


@pytest.fixture
def damaged(scenes, tmp_path):
    """Options for the scenes with two validation images cut short, and those two files."""
    (tmp_path / "set").symlink_to(scenes)
    val = tmp_path / "val"
    for path in (scenes / "val").glob("*/*.jpg"):
        target = val / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    broken = sorted(val.glob("*/*.jpg"))[:2]
    broken[0].write_bytes(broken[0].read_bytes()[:300])  # in its header
    broken[1].write_bytes(broken[1].read_bytes()[:-300])  # in its pixels
    return (f"data.root={tmp_path / 'set'}", f"data.val={val}", *SHORT), broken


def test_unreadable_validation_images_are_all_listed_or_left_out_and_counted(trained, damaged, scoring_here):
    folder, _ = trained
    options, broken = damaged
    arguments = (f"runs=[scenes/D-jitter{REST}]", "eval=table3", "data.name=scenes", *options)
    with pytest.raises(UserError, match=r"data\.skip_corrupt=true") as error:
        evaluate(folder, *arguments)
    assert all(str(path) in str(error.value) for path in broken)
    output = evaluate(folder, *arguments, "data.skip_corrupt=true")
    assert "dense at" not in output, "what was computed is lost"
    assert all(str(path) in output for path in broken)
    assert "35 images" in output
    assert "2 more could not be read" in output
    line = last(folder / "runs/scenes/results.jsonl")
    assert (line.images, line.skipped) == (35, 2)


@pytest.mark.long
def test_training_names_every_unreadable_validation_image_or_leaves_them_out(damaged, tmp_path):
    options, broken = damaged
    cell = ("model=A", "train_scale=S256", "data.name=damaged", *options)
    output = run(tmp_path, "train.py", *cell, status=1)
    assert all(str(path) in output for path in broken)
    output = run(tmp_path, "train.py", *cell, "data.skip_corrupt=true")
    assert output.count(str(broken[0])) == 1
    error = Run.named(f"damaged/A-256{REST}", tmp_path / "runs").record()["validation"]["top1_error"]
    assert error * 35 / 100 == pytest.approx(round(error * 35 / 100), abs=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data.epoch=3",), "data.epoch"),
        (("model=F",), "model=F"),
        (("data.batch=lots",), "data.batch"),
        (("data=folder",), "data.root"),
        (("data=folder", "data.root=/nowhere", "train_scale=S256", "model=A"), "/nowhere"),
        (("data=imagenette",), "data.download=true"),
    ],
)
def test_mistakes_get_one_message_before_anything_is_trained(overrides, message, tmp_path):
    output = run(tmp_path, "train.py", *overrides, status=1)
    assert message in output
    assert "epoch 1" not in output
