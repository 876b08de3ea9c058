"""Very Deep Convolutional Networks for Large-Scale Image Recognition (arXiv 1409.1556), reproduced.

vgg.load("digits/D-jitter").top("photo.jpg") classifies a photo by a finished run, "torchvision:vgg16" by published
weights; src/vgg/prediction.py says what else there is.
"""

from typing import TYPE_CHECKING, Any

try:
    import fcntl  # noqa: F401 - only whether it is there
except ImportError:
    raise SystemExit("error: Windows has no file locks as vgg needs them: install and run it in WSL") from None

if TYPE_CHECKING:
    from vgg.prediction.predictor import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`vgg.load`, imported at its first use: `import vgg` alone imports no torch."""
    if name == "load":
        from vgg.prediction.predictor import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
