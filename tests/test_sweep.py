"""Sweeps under every launcher, with failing cells and several ranks, and several machines played by this one."""

import json
import os
import signal
import socket
from dataclasses import replace

import pytest
from conftest import SMALL, TINY, composed, run, start

from vgg.core.config import Trainer
from vgg.core.errors import UserError
from vgg.launch.processes import clean_environment, launcher
from vgg.runs.run import Run

SHORT = (*TINY, "train_scale=S256", "data.epochs=1", "logger=csv")
REST = f"{SMALL}-epochs1"  # of a run's name
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SUBMITIT = ("hydra/launcher=submitit_local",)


def finished(folder, *names) -> list[bool]:
    return [Run.named(f"scenes/{name}{REST}", folder / "runs").finished for name in names]


@pytest.mark.long
def test_parallel_cells_train_their_ancestor_once_and_failures_are_named_at_the_end(scenes, tmp_path):
    """C and D start from A. The width of the second and fourth job is none."""
    sweep = ("model=C,D", "data.width=0.03125,9", f"data.root={scenes}", *JOBLIB)
    options = [option for option in SHORT if not option.startswith("data.width")]
    output = run(tmp_path, "train.py", "-m", *sweep, *options, status=1)
    assert finished(tmp_path, "A-256", "C-256", "D-256") == [True] * 3
    assert "sweep: 4 jobs, 2 failed" in output
    assert "model=C data.width=0.03125: done" in output
    assert "model=D data.width=9: failed: data.width=9: should be less than or equal to 4" in output
    epochs = (tmp_path / f"runs/scenes/A-256{REST}/csv").glob("version_*")
    assert len(list(epochs)) == 1, "the ancestor was trained twice"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".sweep", "scenes"]


@pytest.mark.long
def test_jobs_of_submitit_are_as_those_of_joblib(scenes, tmp_path):
    options = [option for option in SHORT if not option.startswith("data.width")]
    sweep = ("model=A", "data.width=0.03125,9", f"data.root={scenes}", *SUBMITIT)
    output = run(tmp_path, "train.py", "-m", *sweep, *options, status=1)
    assert finished(tmp_path, "A-256") == [True]
    assert "sweep: 2 jobs, 1 failed" in output
    assert "data.width=0.03125: done" in output
    assert "data.width=9: failed: data.width=9: should be less than or equal to 4" in output
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".sweep", "scenes"]


@pytest.mark.long
def test_a_failing_cell_does_not_stop_the_others_and_the_same_sweep_again_does_what_is_missing(scenes, tmp_path):
    """Under the basic launcher; the weights of A cannot be written in a folder's place."""
    (tmp_path / f"runs/scenes/A-256{REST}/weights.pt").mkdir(parents=True)
    sweep = ("model=A,A-LRN", f"data.root={scenes}", *SHORT, "-m")
    output = run(tmp_path, "train.py", *sweep, status=1)
    assert finished(tmp_path, "A-256", "A-LRN-256") == [False, True]
    assert "sweep: 2 jobs, 1 failed" in output
    assert f"model=A: failed: scenes/A-256{REST} was not finished: could not write" in output
    (tmp_path / f"runs/scenes/A-256{REST}/weights.pt").rmdir()
    output = run(tmp_path, "train.py", *sweep)
    assert "epoch 1/1" not in output  # of A only the weights were to be written
    assert "sweep: 2 jobs, 0 failed" in output


@pytest.mark.long
def test_cells_of_a_sweep_with_two_ranks_are_trained_once_each(scenes, tmp_path):
    ranks = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    options = [option for option in SHORT if not option.startswith("trainer")]
    output = run(tmp_path, "train.py", "model=A,B", f"data.root={scenes}", *options, *ranks, "-m")
    assert output.count("epoch 1/1") == 2
    assert finished(tmp_path, "A-256", "B-256") == [True, True]
    assert {path.name for path in (tmp_path / "runs/scenes").iterdir()} == {f"A-256{REST}", f"B-256{REST}"}
    assert "world" not in output


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.long
def test_torchrun_on_two_machines_trains_a_lineage(scenes, tmp_path):
    """The same command on each, with its own node_rank; both are this machine."""
    leader = f"trainer.leader=127.0.0.1:{free_port()}"
    options = [option for option in SHORT if not option.startswith("trainer=")]
    machines = [
        start(
            *(tmp_path, "train.py", "model=B", f"data.root={scenes}", *options, "trainer=torchrun", leader),
            *("trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2", f"trainer.node_rank={rank}"),
        )
        for rank in (1, 0)
    ]
    try:
        outputs = [machine.communicate(timeout=240)[0] for machine in machines]
    finally:
        for machine in machines:
            if machine.poll() is None:
                os.killpg(machine.pid, signal.SIGKILL)
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(outputs)
    assert finished(tmp_path, "A-256", "B-256") == [True, True]
    assert [output.count("epoch 1/1") for output in outputs] == [0, 2]
    checked = json.loads((tmp_path / f"runs/scenes/B-256{REST}/record.json").read_text())
    assert checked["parent"] == f"scenes/A-256{REST}"


def machine(**more) -> Trainer:
    return replace(composed("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=4").trainer, **more)


def test_srun_gets_the_ranks_of_all_machines_and_keeps_the_allocation(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    slurm = machine(launch="srun", num_nodes=3)
    with pytest.raises(UserError, match="sbatch"):
        launcher(slurm)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "96")
    command = launcher(slurm)
    assert command[0] == "srun"
    assert {"--nodes=3", "--ntasks=12", "--ntasks-per-node=4", "--cpus-per-task=24", "--job-name=vgg"} <= set(command)
    assert clean_environment("srun")["SLURM_JOB_ID"] == "7"
    assert "RANK" not in clean_environment("srun")
    assert not any(key.startswith("SLURM_") for key in clean_environment("lightning"))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"num_nodes": 2}, "trainer.num_nodes=2"),
        ({"launch": "srun", "devices": -1}, "trainer.devices"),
        ({"launch": "torchrun", "leader": "host"}, "trainer.leader"),
        ({"launch": "torchrun", "leader": "host:1", "num_nodes": 2, "node_rank": 2}, "trainer.node_rank=2"),
        ({"launch": "mpirun"}, "launch=mpirun"),
    ],
)
def test_machines_that_do_not_fit_together_are_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        machine(**wrong)


def test_a_command_started_once_a_rank_is_refused(scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    output = run(tmp_path, "train.py", "model=A", f"data.root={scenes}", *SHORT, status=1)
    assert "start this command once" in output
