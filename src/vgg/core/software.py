"""What computes here: the versions of the code's packages, and the device."""

import subprocess
from importlib.metadata import version
from typing import TYPE_CHECKING

from vgg.core.paths import REPOSITORY

if TYPE_CHECKING:
    import torch


def commit() -> str | None:
    """The commit of this code, with a + where files are changed; None outside a git checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", REPOSITORY, "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


PACKAGES = ("torch", "torchvision", "pytorch-lightning", "pillow", "simplejpeg")


def versions() -> dict[str, str]:
    """Package -> its version, of those that numbers depend on."""
    return {name: version(name) for name in PACKAGES}


def device_name(device: "torch.device") -> str:
    """`NVIDIA H100 80GB HBM3`; `cpu (AVX2)`, with the instructions that PyTorch uses; another one's kind."""
    import torch  # which takes seconds

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else device.type
