"""Train or resume one run of any task in this process: `python -m vgg fit FOLDER`, for train.py."""

from functools import partial

from vgg.appendix.localisation.data import BoxData
from vgg.appendix.localisation.module import BoxPredictor
from vgg.runs.run import Run
from vgg.training import fit as training_fit


def fit(run: Run) -> None:
    """Train or resume this run until it is finished."""
    cfg = run.config()
    if cfg.task == "localisation":
        of_boxes = partial(BoxData, annotations=cfg.localisation.annotations)
        training_fit.fit(run, of_boxes, partial(BoxPredictor, boxes=cfg.localisation.boxes))
    else:
        training_fit.fit(run)
