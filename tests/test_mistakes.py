"""Mistakes on the command line are one line each, and the commands that messages give can be run."""

import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import composed, environment, run
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vgg.commands import evaluate as commands_evaluate
from vgg.commands.cli import main
from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.evaluation import arrays
from vgg.launch import sweep
from vgg.runs import plan
from vgg.runs.identity import run_name
from vgg.runs.run import Run


@pytest.fixture
def command_line(monkeypatch):
    """command_line(*words): what Hydra then says that it was given."""

    def give(*words: str) -> None:
        hydra = SimpleNamespace(overrides=SimpleNamespace(task=list(words)))
        monkeypatch.setattr(plan, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda: hydra))

    return give


@pytest.mark.parametrize(
    ("evaluate", "override", "line"),
    [
        (True, "eval=fussed", "eval=fussed: there is no such option, did you mean eval=fused?"),
        (False, "logger=tensorboard", "logger=tensorboard: there is no such option, choose one of csv, offline, wandb"),
        (False, "train_scale=256", "train_scale=256: there is no such option, did you mean train_scale=S256?"),
        (False, "trainer.max_epochs=1", "trainer.max_epochs: there is no such key, did you mean data.epochs?"),
        (
            *(False, "trainer.accumulate_grad_batches=2"),
            "trainer.accumulate_grad_batches: there is no such key, did you mean trainer.micro_batch?",
        ),
        (False, "learning_rate=1", "learning_rate: there is no such key, did you mean data.lr?"),
        (False, "modle=A", "modle: there is no such key, did you mean model?"),
        (False, "data.epoch=3", "data.epoch: there is no such key, did you mean data.epochs?"),
        (
            False,
            "data.lr.x=3",
            "data.lr.x: there is no such key, python train.py --help and evaluate.py",
        ),
        (False, "eval=fused", "eval: only evaluate.py has it"),
        (False, "runs=[A-256]", "runs: only evaluate.py has it"),
        (False, "ablation.cells=[A-256]", "ablation.cells: there is no such key without ablation="),
        (
            False,
            "model=A,B",
            "model=A,B: several values need -m, a list is KEY=[A,B], ",
        ),
        (
            False,
            "tag=a(b",
            "tag=a(b: an option is KEY=VALUE, its text with ",
        ),
        (False, "resume", "resume: an option is KEY=VALUE, its text with "),
    ],
)
def test_what_hydra_cannot_compose_is_one_line_with_the_nearest_name(evaluate, override, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=2", override])
    with pytest.raises((HydraException, ValueError)) as error:
        composed(override, evaluate=evaluate)
    message = sweep.composition_mistake(error.value)
    assert message.startswith(line)
    assert len(message.splitlines()) == 1


def test_an_error_that_is_no_mistake_keeps_its_traceback():
    with pytest.raises(ValueError, match="a bug"):
        sweep.composition_mistake(ValueError("a bug"))


@pytest.mark.parametrize(
    ("script", "options", "line"),
    [
        (
            "train.py",
            ["train_scale=256"],
            "error: train_scale=256: there is no such option, did you mean train_scale=S256?",
        ),
        ("train.py", ["-m", "experiment=glob(*)"], "error: the sweep is empty: experiment=glob(*) has no value to try"),
        ("train.py", ["-m", "model=A,F2"], "error: model=F2: there is no such option, choose one of A, A-LRN, B, "),
        ("train.py", ["dirs.cache=file"], "error: dirs.cache=file: file is a file, this needs a folder"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_else(script, options, line, tmp_path):
    (tmp_path / "file").touch()
    output = run(tmp_path, script, *options, status=1)
    assert output.startswith(line)
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize("other", ["ablation=depth", "weights=torchvision"])
def test_nets_are_named_in_one_way(other, command_line):
    scale = ("data.scale=1", "data.width=1")
    with pytest.raises(UserError, match=rf"^runs= and {other.split('=')[0]}= name nets in two ways: give one of them$"):
        commands_evaluate.evaluate_all(composed("runs=[A-256]", other, *scale, evaluate=True))


def test_no_run_is_begun_where_there_is_none_to_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vgg", "fit", str(tmp_path / "a/b")])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit, match=rf"^error: there is no run a/b: {tmp_path}/a/b/config.yaml is missing$"):
        main()
    assert list(tmp_path.iterdir()) == []


def test_what_ends_a_training_is_in_its_record_for_the_command_that_began_it(tmp_path, monkeypatch, capsys):
    def fit(run: Run) -> None:
        raise UserError("the loss is nan")

    run = Run.named("digits/A-256", tmp_path)
    run.prepare(composed(), None)
    monkeypatch.setattr("vgg.commands.fit.fit", fit)
    monkeypatch.setattr(sys, "argv", ["vgg", "fit", str(run.folder)])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, run.record()["error"]) == (1, "the loss is nan")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("command", [[REPOSITORY / "train.py", "--help"], ["-m", "vgg", "claims"]])
def test_a_reader_that_ends_first_leaves_no_traceback(command, tmp_path):
    """Its end of the pipe is closed before the command writes."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        ("the loss is nan at step 7", 1, "the loss is nan at step 7"),
        (None, -9, "The same command goes on with it"),
        (None, 1, "its process ended with exit status 1"),
    ],
)
def test_only_what_may_end_otherwise_is_said_to_go_on(error, status, last, tmp_path, monkeypatch):
    cfg = composed("model=A", "train_scale=S256", f"dirs.runs={tmp_path}")
    (step,) = plan.lineage(cfg)

    def ended(command, folder, how, keep_open):
        if error:
            step.run.update_record(error=error)
        return status

    monkeypatch.setattr(plan, "run_fresh", ended)
    with pytest.raises(UserError) as raised:
        plan.train_step(step)
    assert str(raised.value).endswith(last)
    assert ("same command" in str(raised.value)) == (status < 0)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("model=B", "train_scale=S384", "layers=fc", "data.lr=0.1", "seed=2"),
        ("train_scale=S256", "train_scale.smin=320", "train_scale.smax=320"),
        ("train_scale=jitter", "train_scale.smin=224", "chain=false"),
        ("tag=my net", "data=folder", "data.root=/some photos/of $HOME"),
        ("train_scale=S256", "model.dropout=0.3", "model.ceil_mode=true"),
        ("task=localisation", "train_scale=S384", "localisation.boxes=scr"),
        ("+data={lr: 0.1}", "++optimizer.schedule=[[0.5,0.1]]"),
        ("trainer=torchrun", "trainer.num_nodes=2", "trainer.node_rank=1", "trainer.leader=host:29500"),
    ],
)
def test_printed_commands_are_of_the_same_runs(words, command_line, tmp_path):
    """Of every stage of a lineage, to train it, and to evaluate the last."""
    command_line(*words)
    steps = plan.lineage(composed(*words, "chain=true", f"dirs.runs={tmp_path}"))
    for step in steps:
        python, script, *options = shlex.split(plan.command(step.cfg))
        assert (python, script) == ("python", "train.py")
        again = composed(*options, f"dirs.runs={tmp_path}")
        assert run_name(again) == step.run.name
        assert plan.differences(again, step.cfg) == []
    python, script, *options = shlex.split(plan.command(steps[-1].cfg, "evaluate.py"))
    assert (python, script) == ("python", "evaluate.py")
    cfg = composed(*options, evaluate=True)
    assert run_name(cfg) == steps[-1].run.name
    assert cfg.trainer.num_nodes == 1


def test_an_evaluations_command_to_train_what_is_missing_has_none_of_its_own_options(command_line, tmp_path):
    words = ("eval=fused", "submission=my file", "test=/t", "ceil_mode=true", "test_scale.q=[256]", "seed=3")
    words += ("eval_method.softmax=first", "task=transfer", "transfer.train=2", "transfer.q=[256]", "eval_batch=1")
    command_line(*words)
    with pytest.raises(UserError) as error:
        arrays.evaluated_runs(composed(*words, f"dirs.runs={tmp_path}", evaluate=True))
    line = str(error.value).splitlines()[-1].strip()
    assert line == "python train.py model=D train_scale=jitter seed=3"


def test_the_command_of_a_named_plan_has_its_name(command_line):
    words = ("ablation=depth", "model=A", "chain=false", "data.lr=0.1")
    command_line(*words)
    assert plan.command(composed(*words), "evaluate.py") == "python evaluate.py ablation=depth data.lr=0.1"


def test_a_printed_command_runs_as_it_is_printed(tmp_path):
    """From a shell, with a blank in an option."""
    options = ("train_scale=S256", "tag=my net", "chain=false")
    command = run(tmp_path, "train.py", *options, status=1).splitlines()[-1].strip()
    assert command.startswith("python train.py model=A train_scale=S256")
    script = command.replace("python train.py", f"{sys.executable} {REPOSITORY / 'train.py'} plan.dry_run=true")
    done = subprocess.run(script, shell=True, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "plan: digits/A-256-my_net"


def test_every_command_that_a_message_gives_can_be_composed():
    found, option = set(), r" '[\w.]+=[^']+'| [\w.]+=[\w,.]+"
    for path in (REPOSITORY / "src" / "vgg").rglob("*.py"):
        found |= set(re.findall(rf"python (train|evaluate)\.py((?: -m|{option})+)", path.read_text()))
    assert len(found) > 5
    for script, words in found:
        options = OverridesParser.create().parse_overrides([word for word in shlex.split(words) if word != "-m"])
        first = [
            f"{one.key_or_group}={next(one.sweep_string_iterator())}" if one.is_sweep_override() else one.input_line
            for one in options
        ]
        composed(*first, evaluate=script == "evaluate")


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """runs/ with digits/D-jitter and digits/E-jitter, as good as finished."""
    for model in "DE":
        made = Run.named(f"digits/{model}-jitter", tmp_path / "runs")
        made.prepare(composed(f"model={model}"), None)
        made.weights.touch()
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("runs=[D-jitter]", "model.ceil_mode=true"),
            "model.ceil_mode=true, but digits/D-jitter has model.ceil_mode=false",
        ),
        (("runs=[D-jitter]", "data.width=0.25"), "data.width=0.25, but digits/D-jitter has data.width=0.0625"),
        (("runs=[D-jitter]", "init.parent=x/D-256"), "init.parent=x/D-256, but digits/D-jitter has init.parent=null"),
        (("runs=[D-jitter]", "init=std001"), "init.draw=std001, but digits/D-jitter has init.draw=glorot"),
        (("runs=[D-jitter]", "init.from_a=false"), "init.from_a=false, but digits/D-jitter has init.from_a=true"),
        (("runs=[D-jitter,E-jitter]", "model=D"), "model.name=D, but digits/E-jitter has model.name=E"),
        (("runs=[E-jitter]", "model=E", "seed=2"), "seed=2, but digits/E-jitter has seed=1"),
        (
            ("runs=[D-jitter]", "data.lr=1", "optimizer.momentum=0.8"),
            f"data.lr=1.0, but digits/D-jitter has data.lr={composed().data.lr:g}\n"
            "optimizer.momentum=0.8, but digits/D-jitter has optimizer.momentum=0.9",
        ),
    ],
)
def test_options_that_contradict_the_evaluated_run_are_refused_naming_both(words, line, stored, command_line):
    command_line(*words)
    with pytest.raises(UserError) as error:
        arrays.evaluated_runs(composed(*words, f"dirs.runs={stored}", evaluate=True))
    assert str(error.value) == line


@pytest.mark.parametrize(
    "words",
    [
        ("model=D", "trainer.precision=bf16-mixed", "eval=fused", "ceil_mode=true"),
        ("runs=[digits/D-jitter]", "data=folder", "data.root=/photos", "data.classes=3", "data.name=photos"),
        ("runs=[digits/D-jitter]", "task=transfer", "data=voc", "data.root=/VOC2007"),
    ],
)
def test_options_of_the_images_and_of_the_evaluation_contradict_nothing(words, stored, command_line):
    command_line(*words)
    runs = arrays.evaluated_runs(composed(*words, f"dirs.runs={stored}", evaluate=True))
    assert [one.name for one in runs] == ["digits/D-jitter"]
