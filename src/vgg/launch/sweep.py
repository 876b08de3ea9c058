"""train.py and evaluate.py: one job, or a sweep, whose jobs are listed at its end, the failed ones named.

The jobs of a sweep may run in this process, in others, or on other machines: each leaves a file beside the runs.
"""

import json
import os
import re
import shutil
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vgg.core import paths
from vgg.core.config import EvaluateConfig, TrainConfig, keys
from vgg.core.errors import did_you_mean, no_option
from vgg.core.files import write_whole
from vgg.core.paths import REPOSITORY
from vgg.launch.processes import mistake, print_any_name, until_closed

JOBS = "VGG_SWEEP_JOBS"  # the folder of the jobs' files, known to the sweep's processes by their environment

failed: list[str] = []


def refuse(message: str) -> None:
    """Say what was wrong; the command's exit status tells it too."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    failed.append(message)


def start(main: Callable[[], None]) -> NoReturn:
    """Run a script, Hydra's `main`, and exit: with status 1 where a job failed or Hydra could not compose one."""
    sys.argv[1:] = paths.quoted(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # end at once where nothing is to be saved
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them
    with until_closed():
        try:
            main()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            refuse(composition_mistake(error))
    sys.exit(1 if failed else 0)


def composition_mistake(error: Exception) -> str:
    """Hydra's error about a command line in a line, with the nearest name. Any other error is raised again."""
    groups = {path.name: [file.stem for file in path.glob("*.yaml")] for path in (REPOSITORY / "conf").iterdir()}
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return no_option(group, name, error.options)
    if match := re.match(r"Could not override '([^']+)'", str(error)):
        key, group = match[1], match[1].partition(".")[0]
        if key in keys(TrainConfig):
            return f"{key}: there is no such key without {group}="
        if key in keys(EvaluateConfig) or key in groups:
            return f"{key}: only evaluate.py has it"
        return f"{key}: there is no such key, {did_you_mean(key, [*keys(EvaluateConfig), *groups])}"
    if "Config group override must be" in str(error):  # an option that is a number
        words = (word.partition("=") for word in sys.argv[1:])
        values = ((group, name) for group, _, names in words if group in groups for name in names.split(","))
        group, name = next((group, name) for group, name in values if name not in groups[group])
        return no_option(group, name, groups[group])
    if isinstance(error, OverrideParseException):
        return f"{error.override}: an option is KEY=VALUE, its text with special signs in quotes, as in 'tag=\"a(b\"'"
    if match := re.match(r"Ambiguous value for argument '(.*)'$", str(error).partition("\n")[0]):
        return f"{match[1]}: several values need -m, a list is KEY=[A,B], text with a comma in it 'KEY=\"A,B\"'"
    if isinstance(error, HydraException):
        return " ".join(str(error).partition("Config search path:")[0].split())
    raise error


def job(call: Callable[[], None]) -> None:
    """Run one job. A user's or a disk's mistake is printed, and named again at the end; a bug keeps its traceback."""
    print_any_name()
    message = mistake(call)
    if message is not None:
        refuse(message)
    if JOBS in os.environ:
        hydra = HydraConfig.get()
        with write_whole(Path(os.environ[JOBS]) / f"{hydra.job.num:05}.json") as file:
            file.write(json.dumps({"overrides": list(hydra.overrides.task), "error": message}).encode())


class Jobs(Callback):
    """What Hydra calls in the process that runs the sweep."""

    def on_multirun_start(self, config: DictConfig, **unused: Any) -> None:
        print_any_name()
        folder = Path(config.hydra.sweep.dir).absolute() / uuid.uuid4().hex
        folder.mkdir(parents=True)
        os.environ[JOBS] = str(folder)

    def on_multirun_end(self, config: DictConfig, **unused: Any) -> None:
        folder = Path(os.environ.pop(JOBS))
        jobs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        shutil.rmtree(folder)
        failed[:] = [job["error"] for job in jobs if job["error"]]
        if not jobs:
            refuse(f"the sweep is empty: {' '.join(config.hydra.overrides.task) or 'no option'} has no value to try")
        if len(jobs) > 1:
            print(f"\nsweep: {len(jobs)} jobs, {len(failed)} failed")
            common = set.intersection(*(set(job["overrides"]) for job in jobs))
            for job in jobs:
                of_job = " ".join(override for override in job["overrides"] if override not in common)
                print(f"  {of_job}: {'failed: ' + job['error'] if job['error'] else 'done'}")
