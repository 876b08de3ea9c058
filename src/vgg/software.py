"""What computes here: the versions of the code's packages, and the device."""

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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
