"""One fresh process per training or scoring, so that any strategy works under any launcher or sweep."""

import contextlib
import errno
import io
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from vgg.core.config import Trainer
from vgg.core.errors import UserError, require

# What a cluster, torchrun or Lightning's own launcher tells a process about its rank: not the new process's business.
RANK_0 = "VGG_RANK_0"  # the process that starts the other ranks of a machine, known to them by their environment

RANK_VARIABLES = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", RANK_0)

RANK_PREFIXES = ("MASTER_", "PL_", "PET_", "TORCHELASTIC_", "SLURM_")

# Slurm says by SIGUSR1 or SIGUSR2, as it is asked to, that a job's time will be over or that it is to make room.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

# How each launcher is told to let its ranks stop by themselves: SIGTERM makes srun kill them, SIGUSR1 kills torchrun.
TO_RANKS = {"srun": signal.SIGUSR1, "torchrun": signal.SIGTERM}

SOCKET_PATH = 103  # bytes of a Unix socket's path, on a Mac; Linux has 107

SOCKET_NAME = len("/pymp-12345678/listener-12345678")  # multiprocessing's below the temporary folder

# W&B keeps to what was asked of it: it prints nothing, and reports no errors of its own to its makers.
QUIET_WANDB = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


# glibc gives the memory of a step's activations back after each step, and the next step waits for 1,500 page faults:
# 10 to 18 % of the speed of the digits' nets on a CPU. It is kept instead. Both are needed: one alone turns off how
# glibc adapts the other.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


def clean_environment(launch: str) -> dict[str, str]:
    """This environment without any rank, but with the allocation for srun; W&B is quiet, and memory is kept."""
    prefixes = tuple(prefix for prefix in RANK_PREFIXES if launch != "srun" or prefix != "SLURM_")
    kept = {
        key: value for key, value in os.environ.items() if key not in RANK_VARIABLES and not key.startswith(prefixes)
    }
    return {"PYTHONUNBUFFERED": "1"} | QUIET_WANDB | KEPT_MEMORY | kept


def launcher(cfg: Trainer) -> list[str]:
    """What stands before `-m vgg …`: this Python, whose Lightning starts the other ranks, or srun or torchrun."""
    if cfg.launch == "srun":
        require("SLURM_JOB_ID" in os.environ, "trainer.launch=srun: there is no Slurm allocation; use sbatch or salloc")
        ranks = cfg.num_nodes * cfg.devices
        cores = int(os.environ.get("SLURM_CPUS_ON_NODE", cfg.devices)) // cfg.devices  # srun does not hand on sbatch's
        return [
            # In a job named interactive, as salloc's is, Lightning's ranks would not know that srun started them.
            *("srun", "--job-name=vgg", "--overlap", "--kill-on-bad-exit=1", f"--nodes={cfg.num_nodes}"),
            *(f"--ntasks={ranks}", f"--ntasks-per-node={cfg.devices}", f"--cpus-per-task={max(1, cores)}"),
            sys.executable,
        ]
    if cfg.launch == "torchrun":
        host, _, port = cfg.leader.partition(":")
        return [
            *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={cfg.num_nodes}"),
            *(f"--nproc-per-node={cfg.devices}", f"--node-rank={cfg.node_rank}"),
            *(f"--master-addr={host}", f"--master-port={port}"),
        ]
    return [sys.executable]


def print_any_name() -> None:
    """Names of files may be no text: what is no UTF-8, or not in the terminal's characters, is printed with escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def short_temporary_folder() -> None:
    """Put temporary files in /tmp where TMPDIR is too long: processes that hand over crops do it by sockets there.

    Raises UserError where /tmp is not to be had.
    """
    if len(os.fsencode(tempfile.gettempdir())) + SOCKET_NAME <= SOCKET_PATH:
        return
    os.environ["TMPDIR"], tempfile.tempdir = "/tmp", None
    length = len(os.fsencode(tempfile.gettempdir())) + SOCKET_NAME
    require(
        length <= SOCKET_PATH, f"{tempfile.gettempdir()} is too long a name for sockets: TMPDIR=FOLDER, a shorter one"
    )


def end_at_sigterm() -> None:
    """SIGTERM ends what has nothing to save at once, with whatever `finally` has to do."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def mistake(call: Callable[[], None]) -> str | None:
    """The message of the user's or the disk's mistake that ended `call`, or None; a bug keeps its traceback."""
    try:
        call()
    except UserError as error:
        return str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise
        return f"{error}. What is finished is intact: once this is mended, the same command goes on"
    return None


@contextlib.contextmanager
def until_closed() -> Iterator[None]:
    """Around a command. Where what reads its output ends first, as `| head` does, it ends without a traceback."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        output = select.poll()
        output.register(sys.stdout, 0)
        if not output.poll(0):  # it was another pipe or connection
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end of Python
        sys.exit(128 + signal.SIGPIPE)


def run_fresh(command: str, path: Path, cfg: Trainer, keep_open: tuple[int, ...] = ()) -> int:
    """`python -m vgg COMMAND PATH` in processes of its own; the exit status, negative for a signal.

    SIGTERM, SIGUSR1 and SIGUSR2 are passed on; Ctrl-C reaches it by itself, as it is in the same process group. Where
    one of them ended it, raises SystemExit with 128 and the signal's number, once it has left its checkpoint: before,
    submitit would requeue the job and end it.
    """
    # A container platform sets WORLD_SIZE alone, for each machine; torchrun sets LOCAL_RANK for each rank.
    once_a_rank = "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    require(
        not once_a_rank and os.environ.get("SLURM_STEP_NUM_TASKS", "1") == "1",
        "start this command once, not once a rank: it starts its ranks itself (trainer=ddp, trainer=slurm; "
        "trainer=torchrun once on each machine)",
    )
    process = subprocess.Popen(
        [*launcher(cfg), "-m", "vgg", command, str(path)], env=clean_environment(cfg.launch), pass_fds=keep_open
    )
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number != signal.SIGINT:
            process.send_signal(TO_RANKS.get(cfg.launch, number))

    before = {number: signal.signal(number, pass_on) for number in STOPPING}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received and received[-1] in (signal.SIGUSR1, signal.SIGUSR2) and callable(handler := before[received[-1]]):
        handler(received[-1], None)  # submitit's, which requeues the job and ends this process; not after scancel
    if status and received:
        raise SystemExit(128 + received[0])
    return status


def quiet() -> None:
    """Leave out what Lightning says to everybody: adverts, devices it did not find, advice on workers.

    Called after Lightning is imported, which sets its logger's level.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.utils._pytree")
