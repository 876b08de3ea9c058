"""Decoding processes: how many, and how they end."""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vgg.core.errors import UserError

END = object()


def leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and SIGTERM reach a whole process group: decoding goes on until the training process has had its say."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def decoding_workers(asked: int | None, ranks: int) -> int:
    """Decoding processes of one of a machine's ranks: as asked, or two fewer than its share of the cores, at most 16.

    On two cores none: a net that computes on both loses more to a third process than decoding in turn costs.
    """
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = int(os.environ.get("SLURM_CPUS_PER_TASK", cores // ranks))  # srun's, of this rank
    return max(0, min(16, share - 2))


def end_workers() -> None:
    """Before this process exits: the SIGTERM that multiprocessing would end its children with is lost on them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()


def one_ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; a thread makes the next one while the last is used."""
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=[1]) as pool:  # of that thread alone
        following = pool.submit(next, batches, END)
        while (batch := following.result()) is not END:
            following = pool.submit(next, batches, END)
            yield batch


class Loader(DataLoader):
    """Batches of decoding processes, which are killed where they give none for ten minutes, or 20 s when asked to stop.

    Whoever waits for such a process waits for ever: it may hang on a disk that does not answer. `finish` has the last
    word on each batch, in the process that uses it; it is told which is the last one of all.
    """

    LOOK, STOPPING, PATIENCE = 5, 20, 600  # seconds: between two looks, until it hangs when asked to stop, and else

    def __init__(
        self,
        dataset: Dataset,
        *,
        asked_to_stop: Callable[[], bool] = lambda: False,
        finish: Callable[[Any, bool], Any] = lambda batch, last: batch,
        **options: Any,
    ):
        super().__init__(dataset, worker_init_fn=leave_signals_to_parent, **options)
        self.asked_to_stop, self.finish = asked_to_stop, finish
        self.waiting_since: float | None = None
        self.given_up = False

    def watch(self, ended: threading.Event) -> None:
        """In a thread of its own: a wait inside a queue or a socket ends when the process at its other end does."""
        while not ended.wait(self.LOOK):
            waited = time.monotonic() - (self.waiting_since or math.inf)
            if waited >= self.PATIENCE or (waited >= self.STOPPING and self.asked_to_stop()):
                self.given_up = True
                for worker in multiprocessing.active_children():
                    worker.kill()

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self.decoded(), start=1):
            yield self.finish(batch, number == len(self))

    def decoded(self) -> Iterator[Any]:
        batches, ended = super().__iter__(), threading.Event()
        if self.num_workers:
            threading.Thread(target=self.watch, args=[ended], daemon=True).start()
        else:
            yield from one_ahead(batches)
            return
        try:
            while True:
                self.waiting_since = time.monotonic()
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                finally:
                    self.waiting_since = None
                yield batch
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not self.given_up:
                raise
            raise UserError(
                "no decoding process has given anything for too long: does the disk answer? trainer.workers=0 decodes "
                "without them"
            ) from error
        finally:
            ended.set()
