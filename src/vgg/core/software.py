"""What computes here: the versions of the code's packages, and the device."""

import subprocess
from importlib.metadata import version

from vgg.core.paths import REPOSITORY


def commit() -> str | None:
    """The commit of this code, with a + where files are changed; None outside a git checkout."""
    try:
        process = subprocess.run(
            ["git", "-C", REPOSITORY, "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return process.stdout.strip()


PACKAGES = ("torch", "torchvision", "pytorch-lightning", "pillow", "simplejpeg")


def versions() -> dict[str, str]:
    """Package -> its version, of those that numbers depend on."""
    return {name: version(name) for name in PACKAGES}
