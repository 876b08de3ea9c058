"""What can be removed, and how large it is: `python -m vgg clean`."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from vgg.runs.run import Run
from vgg.runs.status import in_training


@dataclass(frozen=True)
class Kind:
    """Files or folders that are of one use, and what their removal costs."""

    name: str
    about: str
    paths: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """On the disk, of all files below."""
        files = (file for path in self.paths for file in (path.rglob("*") if path.is_dir() else (path,)))
        return sum(file.stat().st_size for file in files if file.is_file())


def unfinished(runs: Path) -> tuple[Path, ...]:
    """The folders of runs that were begun, have no weights, and that no process trains."""
    begun = (Run.of(path.parent) for path in sorted(runs.glob("*/*/config.yaml")))
    return tuple(run.folder for run in begun if not run.finished and not in_training(run))


def kinds(runs: Path, cache: Path) -> list[Kind]:
    """What may go, never a finished net and never an evaluation's line."""
    return [
        Kind("posteriors", "evaluations compute them anew", tuple(sorted((cache / "posteriors").glob("*.npz")))),
        Kind("indexes", "of archives, read anew", tuple(sorted((cache / "index").glob("*.json")))),
        Kind("parquet", "images copied from parquet files, copied anew", tuple(sorted((cache / "parquet").glob("*")))),
        Kind("unfinished", "runs without weights that nothing trains now, with their checkpoints", unfinished(runs)),
    ]


def remove(kind: Kind) -> None:
    """Remove all of a kind; a run whose training began meanwhile stays."""
    for path in kind.paths:
        if path.is_dir():
            if kind.name != "unfinished" or not in_training(Run.of(path)):
                shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
