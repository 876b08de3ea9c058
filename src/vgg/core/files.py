"""Files that are written whole or not at all: written under a temporary name, flushed to disk, then renamed.

And locks, by which the processes of one machine or of several agree who writes.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vgg.core.errors import UserError


def temporary_name(path: Path) -> Path:
    """Beside `path`, and of this process alone: machines that share the disk may have the same process numbers."""
    return path.with_name(f".{path.name}.{os.getpid()}.{socket.gethostname()}")


def flock(file: int, mode: int) -> None:
    """fcntl's. Raises UserError where the disk knows no locks, and BlockingIOError as it does."""
    try:
        fcntl.flock(file, mode)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"a disk without locks ({error}): dirs.runs=FOLDER and dirs.cache=FOLDER name folders on one that has them"
        ) from error


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One at a time of the ranks and runs that want `path`: the first one writes it, the others find it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "ab") as file:
        flock(file.fileno(), fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` when the block ends, and not at all when it raises.

    Raises UserError naming the file where the disk is full or refuses; what was there before stays.
    """
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError where the disk is full
        raise UserError(
            f"could not write {path}: is the disk full? ({error}) What was there is intact: make room, and the same "
            "command goes on"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def write_whole_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under `path` when the block ends, and not at all when it raises.

    Where two processes write the same folder, the first one's stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        with contextlib.suppress(OSError):
            temporary.rename(path)
        if not path.is_dir():
            raise OSError(f"could not write the folder {path}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
