"""The images that an evaluation is about."""

import os
from pathlib import Path

from vgg.core.config import EvaluateConfig
from vgg.core.errors import require
from vgg.data.datasets import listing
from vgg.data.encoded_image import FORMAT_NAMES
from vgg.data.listing import Listing, contents


def evaluated_images(cfg: EvaluateConfig, classes: tuple[str, ...]) -> Listing:
    """The validation images; for a submission the unlabelled test images, in the order of their names, labels -1."""
    if cfg.submission is None:
        return listing(cfg.data, Path(cfg.dirs.cache), "val")
    require(bool(cfg.test or cfg.data.root), "submission needs the test images: test=FOLDER, or data.root with test/")
    root = Path(cfg.test) if cfg.test else Path(cfg.data.root) / "test"
    require(root.is_dir(), f"no folder {root}: it should hold the unlabelled test images (test=FOLDER names another)")
    images, _ = contents(root)
    require(bool(images), f"{root} has no {FORMAT_NAMES} image")
    names, sizes = tuple(os.path.basename(path) for path, _ in images), tuple(size for _, size in images)
    return Listing(root, classes, names, sizes, (-1,) * len(names))
