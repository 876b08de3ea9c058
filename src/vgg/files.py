"""Files that are written whole or not at all: written under a temporary name, flushed to disk, then renamed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vgg.config import UserError


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` when the block ends, and not at all when it raises.

    Raises UserError naming the file where the disk is full or refuses; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save says RuntimeError where the disk is full
        raise UserError(
            f"could not write {path}: is the disk full? ({error}) What was there is intact: make room and run the same "
            "command again"
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
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
