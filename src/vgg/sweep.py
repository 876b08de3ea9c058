"""One job of train.py or evaluate.py, alone or in a sweep; a sweep's jobs are listed at its end, the failed ones named.

The jobs of a sweep may run in this process, in others, or on other machines: each leaves a file beside the runs.
"""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vgg.files import write_whole
from vgg.process import mistake

JOBS = "VGG_SWEEP_JOBS"  # the folder of the jobs' files, known to the sweep's processes by their environment
failed: list[str] = []


def job(call: Callable[[], None]) -> None:
    """Run one job. A user's or a disk's mistake is printed, and named again at the end; a bug keeps its traceback."""
    message = mistake(call)
    if message is not None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        failed.append(message)
    if JOBS in os.environ:
        hydra = HydraConfig.get()
        with write_whole(Path(os.environ[JOBS]) / f"{hydra.job.num:05}.json") as file:
            file.write(json.dumps({"overrides": list(hydra.overrides.task), "error": message}).encode())


class Jobs(Callback):
    """What Hydra calls in the process that runs the sweep."""

    def on_multirun_start(self, config: DictConfig, **unused: Any) -> None:
        folder = Path(config.hydra.sweep.dir).absolute() / uuid.uuid4().hex
        folder.mkdir(parents=True)
        os.environ[JOBS] = str(folder)

    def on_multirun_end(self, config: DictConfig, **unused: Any) -> None:
        folder = Path(os.environ.pop(JOBS))
        jobs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        shutil.rmtree(folder)
        failed[:] = [job["error"] for job in jobs if job["error"]]
        if len(jobs) > 1:
            print(f"\nsweep: {len(jobs)} jobs, {len(failed)} failed")
            common = set.intersection(*(set(job["overrides"]) for job in jobs))
            for job in jobs:
                own = " ".join(override for override in job["overrides"] if override not in common)
                print(f"  {own}: {'failed: ' + job['error'] if job['error'] else 'done'}")
