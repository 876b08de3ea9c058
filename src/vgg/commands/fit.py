"""Train or resume one run of any task in this process: `python -m vgg fit FOLDER`, for train.py."""

from vgg.appendix.localisation.data import BoxData
from vgg.appendix.localisation.module import BoxPredictor
from vgg.runs.run import Run
from vgg.training import fit as training_fit


def fit(run: Run) -> None:
    """Train or resume this run until it is finished."""
    if run.config().task == "localisation":
        training_fit.fit(run, BoxData, BoxPredictor)
    else:
        training_fit.fit(run)
