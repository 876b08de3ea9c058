"""One fresh process per training or scoring, so that any strategy works under any launcher or sweep."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from vgg.config import UserError

# What a cluster, torchrun or Lightning's own launcher tells a process about its rank: not the new process's business.
RANK_VARIABLES = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
RANK_PREFIXES = ("MASTER_", "PL_", "TORCHELASTIC_", "SLURM_")


def clean_environment() -> dict[str, str]:
    """This environment without any rank; W&B and Lightning keep to what was asked of them."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in RANK_VARIABLES and not key.startswith(RANK_PREFIXES)
    }
    return {"PYTHONUNBUFFERED": "1", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"} | kept


def mistake(call: Callable[[], None]) -> str | None:
    """The message of the user's or the disk's mistake that ended `call`, or None; a bug keeps its traceback."""
    try:
        call()
    except UserError as error:
        return str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise
        return f"{error}. What is finished is intact: the same command goes on"
    return None


def run_fresh(command: str, path: Path, keep_open: tuple[int, ...] = ()) -> int:
    """`python -m vgg COMMAND PATH` in a process of its own; its exit status, negative for a signal.

    SIGTERM is passed on; Ctrl-C reaches it by itself, as it is in the same process group. Raises SystemExit with 143 or
    130 where one of them ended it.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "vgg", command, str(path)], env=clean_environment(), pass_fds=keep_open
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {signal.SIGTERM: pass_on, signal.SIGINT: lambda number, frame: None}
    for number, handler in before.items():
        before[number] = signal.signal(number, handler)
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in before:
        if status in (-number, 128 + number):
            raise SystemExit(128 + number)
    return status
