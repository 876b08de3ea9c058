"""Appendix B's classifier, a linear SVM a class against the others, and the two measures: mean recall and AP."""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import balanced_accuracy_score, precision_recall_curve
from sklearn.svm import LinearSVC

Measure = Callable[[np.ndarray, np.ndarray], float]  # of scores and truth, both (samples, classes)


def in_their_span(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in coordinates of the space that the training descriptors span, where they are fewer than their numbers.

    An SVM's weights lie in that space: its scores are the same, from a fraction of the numbers.
    """
    if len(train) >= train.shape[1]:
        return train, test
    basis, _ = np.linalg.qr(train.T)
    return train @ basis, test @ basis


def scores(train: np.ndarray, truth: np.ndarray, test: np.ndarray, c: float) -> np.ndarray:
    """(test images, classes): how far on its side of each class's SVM an image is.

    train: (images, D), truth: (images, classes), 1, -1, or 0 for images that the class's SVM does not see. A class
    without an example for or against has NaN.
    """
    found = np.full((len(test), truth.shape[1]), np.nan)
    for label, column in enumerate(truth.T):
        seen = column != 0
        if {-1, 1} <= set(column[seen]):
            svm = LinearSVC(C=c, dual=False).fit(train[seen], column[seen])
            found[:, label] = svm.decision_function(test)
    return found


def best_c(
    train: np.ndarray, truth: np.ndarray, held_out: np.ndarray, candidates: Sequence[float], of: Measure
) -> float:
    """The C with the best measure on the held-out (images,) of the training images after training on the others.

    Of equally good ones the smallest.
    """
    if len(candidates) == 1:
        return candidates[0]
    fitted, chosen = in_their_span(train[~held_out], train[held_out])
    measured = {c: of(scores(fitted, truth[~held_out], chosen, c), truth[held_out]) for c in sorted(candidates)}
    return max(measured, key=measured.__getitem__)


def mean_recall(scores: np.ndarray, truth: np.ndarray) -> float:
    """In 0..1: the mean over classes of the part of their images whose highest score is their class's."""
    return float(balanced_accuracy_score(truth.argmax(1), scores.argmax(1)))


def average_precision(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(area, 11-point) AP in 0..1 of one class, VOC's from 2010 on and VOC-2007's. Labels of 0 do not count.

    Both from the precision at a recall taken as the best one at this or a higher recall; images of equal scores enter
    together. NaN where no image shows the class or scores are NaN.
    """
    counted = truth != 0
    if not (truth == 1).any() or np.isnan(scores).any():
        return np.nan, np.nan
    precision, recall, _ = precision_recall_curve(truth[counted], scores[counted])
    precision, recall = np.maximum.accumulate(precision[:-1]), recall[:-1]  # from the highest recall to the lowest
    area = precision @ -np.diff(recall, append=0)
    points = [precision[recall >= level / 10 - 1e-9].max() for level in range(11)]
    return float(area), float(np.mean(points))


def mean_ap(scores: np.ndarray, truth: np.ndarray) -> float:
    """In 0..1: the mean over classes of the area AP, of those that it is defined for; 0 where there is none."""
    found = [average_precision(*columns)[0] for columns in zip(scores.T, truth.T, strict=True)]
    return float(np.nan_to_num(np.nanmean(found))) if not np.isnan(found).all() else 0.0
