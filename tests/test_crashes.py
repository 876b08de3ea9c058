"""What a run survives: a full disk, and the death of any of its processes. `python tests/kill.py` does it at random."""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from conftest import ROUNDING, SMALL, TINY, composed, run, signalled, start, training_difference

from vgg.runs.run import Run
from vgg.training import fit as training_fit

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc"),
]
A_256 = ("model=A", "train_scale=S256", "data.epochs=6", "logger=csv", *TINY)
NAME = f"scenes/A-256{SMALL}-epochs6"
OFTEN = "trainer.checkpoint_minutes=0"
LIMIT = 700_000  # bytes of a file: more than weights.pt has, less than a checkpoint
FIT, RANK_1 = b"\0fit\0", b"LOCAL_RANK=1\0"
Found = TypeVar("Found")


def made(folder: Path) -> Run:
    return Run.named(NAME, folder / "runs")


def sha(folder: Path) -> str:
    return made(folder).record()["weights_sha256"]


@pytest.fixture(scope="module")
def command(scenes) -> tuple[str, ...]:
    return (*A_256, f"data.root={scenes}")


def train(folder: Path, command: tuple[str, ...]) -> None:
    """What train.py does with it, or what it goes on to do, in this process."""
    made(folder).prepare(composed(*command, "trainer.workers=0"), None)
    training_fit.fit(made(folder))


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory) -> str:
    """The sum of the weights that one process trains."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, command)
    return sha(folder)


def children(parent: int, mark: bytes) -> list[int]:
    """The living child processes with this mark in their command line or environment, the oldest first."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, its_parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(its_parent) != parent or state == "Z":
                continue
            if mark in (path / "cmdline").read_bytes() + (path / "environ").read_bytes():
                found.append(int(path.name))
    return sorted(found)


def fit_process(command: subprocess.Popen) -> int:
    return wait_for(lambda: children(command.pid, FIT))[0]


def wait_for(look: Callable[[], Found]) -> Found:
    deadline = time.monotonic() + 120
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found


def written(path: Path) -> int:
    """When, or 0 where it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0


def wait_for_checkpoint(folder: Path) -> None:
    path = made(folder).folder / "last.ckpt"
    before = written(path)
    wait_for(lambda: written(path) not in (0, before))


def crash(folder: Path, *overrides: str, harm: Callable[[subprocess.Popen], None]) -> str:
    """The command with harm done to it: its output once every one of its processes has ended, of which it says why."""
    process = start(folder, "train.py", *overrides)
    try:
        harm(process)
        output, _ = process.communicate(timeout=100)  # ends when the last process has
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1, output
    assert "Traceback" not in output, output
    assert f"{NAME} was not finished" in output
    assert "he same command goes on" in output
    assert not made(folder).finished
    return output


def test_a_disk_that_fills_costs_the_steps_since_the_last_checkpoint(command, uninterrupted, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        output = run(tmp_path, "train.py", *command, status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = made(tmp_path).folder
    assert f"could not write {folder / 'last.ckpt'}: is the disk full?" in output
    assert "make room, and the same command goes on" in output
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "record.json", "colours.pt", "csv", ".lock"}

    def fill(process: subprocess.Popen) -> None:
        wait_for_checkpoint(tmp_path)
        resource.prlimit(fit_process(process), resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    output = crash(tmp_path, *command, OFTEN, "trainer.workers=0", harm=fill)
    assert f"could not write {folder / 'last.ckpt'}: is the disk full?" in output
    assert not (folder / "last.ckpt").exists()
    assert (folder / "previous.ckpt").stat().st_size > LIMIT
    output = run(tmp_path, "train.py", *command)
    assert "to resume" in output
    assert "refused" not in output
    assert sha(tmp_path) == uninterrupted


def test_a_decoding_process_that_dies_ends_the_command_and_the_next_one_goes_on(command, uninterrupted, tmp_path):
    def kill_worker(process: subprocess.Popen) -> None:
        """While a checkpoint is written: what it says then is about the process, not about the file."""
        wait_for_checkpoint(tmp_path)
        worker = children(fit_process(process), FIT)[0]
        wait_for(lambda: list(made(tmp_path).folder.glob(".last.ckpt.*")))
        os.kill(worker, signal.SIGKILL)

    output = crash(tmp_path, *command, OFTEN, "trainer.workers=1", harm=kill_worker)
    assert output.count("a decoding process died") == 1
    assert "lower trainer.workers" in output
    train(tmp_path, command)
    assert sha(tmp_path) == uninterrupted


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_sigterm_ends_a_command_whose_decoding_process_hangs(script, command, tmp_path):
    if script == "evaluate.py":
        train(tmp_path, command)
        more, mark = ("eval_method=multicrop", "test_scale=single", "eval_batch=1", "trainer=cpu"), b"\0score\0"
    else:
        more, mark = (OFTEN,), FIT
    process = start(tmp_path, script, *command, *more, "trainer.workers=1")
    try:
        parent = wait_for(lambda: children(process.pid, mark))[0]
        worker = wait_for(lambda: children(parent, mark))[0]
        if script == "train.py":
            wait_for_checkpoint(tmp_path)
        os.kill(worker, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM, output
        wait_for(lambda: not signalled(process.pid, 0))
    finally:
        signalled(process.pid, signal.SIGKILL)


def test_the_command_says_that_the_process_that_trained_died_and_the_next_one_goes_on(command, uninterrupted, tmp_path):
    def kill_fit(process: subprocess.Popen) -> None:
        wait_for_checkpoint(tmp_path)
        os.kill(fit_process(process), signal.SIGKILL)

    assert "exit status -9" in crash(tmp_path, *command, OFTEN, harm=kill_fit)
    train(tmp_path, command)
    assert sha(tmp_path) == uninterrupted


def test_where_one_of_two_ranks_dies_both_end_and_the_next_command_trains_what_one_process_would(
    command, tmp_path, monkeypatch
):
    """Section 3.3: "the result is exactly the same as when training on a single GPU"."""
    # The second rank has one batch of validation images, the first two.
    options = (*command, "data.batch=18", "data.lr=2e-5")
    name = f"{NAME.replace('batch8', 'batch18')}-lr2e-05"
    monkeypatch.setitem(globals(), "NAME", name)
    two_ranks = (*options, "trainer.strategy=ddp", "trainer.devices=2")
    for rank, begun in ((0, False), (1, True)):

        def kill(process: subprocess.Popen, rank: int = rank, begun: bool = begun) -> None:
            fit = fit_process(process)
            ranks = fit, wait_for(lambda: children(fit, RANK_1))[0]
            if begun:
                wait_for_checkpoint(tmp_path)
            os.kill(ranks[rank], signal.SIGKILL)

        output = crash(tmp_path, *two_ranks, harm=kill)
        if begun:
            assert "one of its ranks died (exit status -9)" in output
    assert "to resume" in run(tmp_path, "train.py", *two_ranks)
    train(tmp_path / "one", options)
    one, two = made(tmp_path / "one"), made(tmp_path)
    assert training_difference(two, one) < ROUNDING
    for name, value in one.record()["validation"].items():
        assert two.record()["validation"][name] == pytest.approx(value, rel=1e-3)
