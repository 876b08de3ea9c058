"""Section 4's evaluations, and the file for ILSVRC's test server."""

from pathlib import Path

from vgg.core.config import EvaluateConfig
from vgg.core.errors import require
from vgg.evaluation import submission
from vgg.evaluation.arrays import evaluated_runs, posterior_of, test_scales
from vgg.evaluation.display import shown
from vgg.evaluation.images import evaluated_images
from vgg.evaluation.lines import append, classification
from vgg.evaluation.records import Classification


def submit(cfg: EvaluateConfig) -> None:
    """Write the file for ILSVRC's test server instead of scoring labelled images."""
    require(not cfg.data.skip_corrupt, "every test image needs its labels: data.skip_corrupt=true is not for these")
    runs, ids = evaluated_runs(cfg), submission.ilsvrc_ids(cfg)
    classes = submission.class_names(runs, ids)
    numbers = submission.numbers(classes, ids)
    images = evaluated_images(cfg, classes)
    posterior, _ = posterior_of(cfg, runs, images)
    submission.write(Path(cfg.submission), posterior, numbers)
    print(f"{cfg.submission}: five labels for each of {len(images):,} images of {images.root}")


def evaluate(cfg: EvaluateConfig) -> Classification:
    """Evaluate what the configuration names, print it, append its line; the line is returned."""
    runs = evaluated_runs(cfg)
    images = evaluated_images(cfg, tuple(runs[0].record()["classes"]))
    q = [test_scales(cfg, run) for run in runs]
    line = classification(cfg, runs, q, images, *posterior_of(cfg, runs, images))
    append(cfg, line)
    print(shown(line, images))
    return line
