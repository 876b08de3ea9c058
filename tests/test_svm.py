"""Appendix B's classifier and measures against hand-computed values and straightforward ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from vgg.appendix.transfer.svm import average_precision, best_c, in_their_span, mean_ap, mean_recall, scores


def blobs(images: int, numbers: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of length 1 and their one-hot truth, 1 and -1; the classes overlap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    rows = rng.normal(size=(classes, numbers))[labels] + 2 * rng.normal(size=(images, numbers))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, np.where(labels[:, None] == np.arange(classes), 1, -1)


def straightforward(scores: list[float], truth: list[int]) -> tuple[float, float]:
    """VOC's two APs by counting at every threshold."""
    pairs = [(score, label) for score, label in zip(scores, truth, strict=True) if label != 0]
    positives = sum(label == 1 for _, label in pairs)
    points = []
    for threshold in sorted({score for score, _ in pairs}, reverse=True):
        inside = [label for score, label in pairs if score >= threshold]
        points.append((sum(label == 1 for label in inside), len(inside)))
    area = eleven = 0.0
    for wanted in range(1, positives + 1):
        area += max(right / count for right, count in points if right >= wanted) / positives
    for level in range(11):
        eleven += max(right / count for right, count in points if 10 * right >= level * positives) / 11
    return area, eleven


def test_ap_by_hand():
    # right, wrong, right, wrong: precisions 1, 1/2, 2/3, 1/2 at recalls 1/2, 1/2, 1, 1
    found = average_precision(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, -1, 1, -1]))
    assert found == pytest.approx(((1 + 2 / 3) / 2, (6 * 1 + 5 * 2 / 3) / 11))
    assert average_precision(np.array([4.0, 3, 2, 1]), np.array([-1, -1, -1, 1])) == pytest.approx((1 / 4, 1 / 4))
    assert average_precision(np.array([2.0, 1]), np.array([1, 1])) == pytest.approx((1, 1))


def test_a_precision_that_rises_later_counts_for_the_recalls_before():
    # wrong, right, right: 0, 1/2, 2/3: the best at recall 1/2 or more is 2/3; the plain average precision is 7/12
    assert average_precision(np.array([3.0, 2, 1]), np.array([-1, 1, 1])) == pytest.approx((2 / 3, 2 / 3))


def test_equal_scores_enter_together_whatever_their_order():
    for truth in ([1, -1, -1, 1], [-1, 1, 1, -1], [-1, -1, 1, 1]):
        assert average_precision(np.zeros(4), np.array(truth)) == pytest.approx((1 / 2, 1 / 2))


def test_difficult_images_do_not_count():
    values, truth = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, -1, 1, 0])
    assert average_precision(values, truth) == average_precision(values[[0, 2, 3]], truth[[0, 2, 3]])
    assert average_precision(np.array([2.0, 1]), np.array([0, 1])) == pytest.approx((1, 1))


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from([1, -1, 0])), min_size=1, max_size=40))
def test_ap_is_what_counting_gives_and_in_0_to_1(pairs):
    values, truth = [score / 8 for score, _ in pairs], [label for _, label in pairs]
    found = average_precision(np.array(values), np.array(truth))
    if 1 not in truth:
        assert np.isnan(found).all()
        return
    assert found == pytest.approx(straightforward(values, truth))
    assert all(0 < value <= 1 + 1e-12 for value in found)


def test_mean_recall_gives_each_class_equal_weight():
    truth = np.array([[1, -1]] * 8 + [[-1, 1]] * 2)
    always_first = np.tile([1.0, 0.0], (10, 1))
    assert mean_recall(always_first, truth) == 0.5
    assert mean_recall(truth.astype(float), truth) == 1


def test_an_svm_a_class_is_scikit_learns_one_against_the_rest():
    train, truth = blobs(60, 8)
    test, _ = blobs(30, 8, seed=1)
    expected = LinearSVC(C=2, dual=False).fit(train, truth.argmax(1)).decision_function(test)
    np.testing.assert_allclose(scores(train, truth, test, 2), expected, atol=1e-6)


def test_fewer_images_than_numbers_give_the_same_scores_from_as_many_numbers_as_images():
    train, truth = blobs(24, 200)
    test, _ = blobs(30, 200, seed=1)
    fitted, tested = in_their_span(train, test)
    assert fitted.shape == (24, 24)
    expected = LinearSVC(C=1, dual=True, tol=1e-8, max_iter=100_000, random_state=0).fit(train, truth.argmax(1))
    np.testing.assert_allclose(scores(fitted, truth, tested, 1), expected.decision_function(test), atol=2e-3)
    assert in_their_span(test[:, :8], train[:, :8])[0].shape == (30, 8)


def test_an_svm_does_not_see_its_classes_difficult_images():
    train, truth = blobs(60, 8)
    marked = truth.copy()
    marked[:10, 1] = 0
    found = scores(train, marked, train, 1)
    np.testing.assert_allclose(found[:, 1:2], scores(train[10:], truth[10:, 1:2], train, 1))
    np.testing.assert_allclose(found[:, 0], scores(train, truth, train, 1)[:, 0])
    assert np.abs(found - scores(train, truth, train, 1))[:, 1].max() > 1e-6


def test_a_class_without_examples_has_no_scores_and_is_left_out_of_the_mean():
    train, truth = blobs(60, 8)
    truth[:, 2] = -1
    found = scores(train, truth, train, 1)
    assert np.isnan(found[:, 2]).all()
    assert not np.isnan(found[:, :2]).any()
    assert mean_ap(found, truth) == pytest.approx(mean_ap(found[:, :2], truth[:, :2]))
    assert mean_ap(found[:, 2:], truth[:, 2:]) == 0


def test_c_is_the_best_on_the_held_out_images_alone():
    train, truth = blobs(90, 6, seed=3)
    held_out = np.arange(90) % 5 == 0
    candidates = [100, 1e-4, 1]
    measured = {}
    for c in candidates:
        svm = LinearSVC(C=c, dual=False).fit(train[~held_out], truth[~held_out].argmax(1))
        measured[c] = (svm.predict(train[held_out]) == truth[held_out].argmax(1)).mean()
    assert len(set(measured.values())) > 1
    assert best_c(train, truth, held_out, candidates, mean_recall) == max(sorted(candidates), key=measured.get)


def test_of_equally_good_cs_the_smallest_is_taken():
    train, truth = blobs(60, 8)
    assert best_c(train, truth, np.arange(60) < 12, [10, 0.1, 1], lambda *_: 0.5) == 0.1
