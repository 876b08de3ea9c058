"""The processes of one training or scoring on this machine: where one dies, all end, rank 0 last, and it says why."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator

import pytorch_lightning as pl
import torch

from vgg.core.errors import UserError
from vgg.launch.lightning_internals import take_ranks
from vgg.launch.processes import RANK_0

GRACE = 5  # seconds that the other ranks have to end by themselves


def end_with_rank_0() -> None:
    """A rank that Lightning started ends when rank 0 has ended: it would wait for it in vain, up to half an hour."""
    parent = int(os.environ.setdefault(RANK_0, str(os.getpid())))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # its decoding processes look after their parent themselves

    if parent != os.getpid():
        threading.Thread(target=watch, daemon=True).start()


def end(ranks: list[subprocess.Popen]) -> list[int]:
    """The exit statuses of those that ended by themselves; the others, which wait for this process, are killed."""
    deadline, statuses = time.monotonic() + GRACE, []
    for rank in ranks:
        with contextlib.suppress(subprocess.TimeoutExpired):
            statuses.append(rank.wait(max(0, deadline - time.monotonic())))
    for rank in ranks:
        rank.kill()
        rank.wait()
    return statuses


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine has no more memory to give."""
    words = ("out of memory", "can't allocate memory")  # of MPS, of a CPU
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


@contextlib.contextmanager
def together(trainer: pl.Trainer, remedy: str) -> Iterator[None]:
    """Around the work of every rank. No rank is left when the command ends, and a death is named, not its effects.

    `remedy` says which settings need less memory.
    """
    end_with_rank_0()
    try:
        yield
    except BaseException as error:
        statuses = end(take_ranks(trainer))
        # Raised by a signal handler, it may be the reason of another error; or by what was fetching a crop from it.
        if "DataLoader worker (pid" in str(error) or isinstance(error, (ConnectionError, EOFError)):
            raise UserError(
                "a decoding process died, often for want of memory: lower trainer.workers. The same command goes on"
            ) from error
        if out_of_memory(error):
            raise UserError(f"{trainer.strategy.root_device} is out of memory: {remedy}") from error
        if isinstance(error, RuntimeError) and trainer.world_size > 1:
            if not trainer.is_global_zero:
                time.sleep(2 * GRACE)  # if rank 0 has died or has the same error, this one ends here
            if any(statuses):
                raise UserError(
                    f"one of its ranks died (exit status {max(statuses, key=abs)}). The same command goes on"
                ) from error
        raise
    for rank in take_ranks(trainer):
        rank.wait()
