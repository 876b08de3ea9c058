"""Which images train and which test, by Caltech's protocol."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import composed
from hypothesis import given
from hypothesis import strategies as st

from vgg.appendix.transfer import samples
from vgg.core.errors import UserError
from vgg.data.listing import Listing


def drawn(counts: list[int], cfg, usable: np.ndarray | None = None) -> tuple[np.ndarray, list[samples.Split]]:
    """(labels, splits) of so many images a class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    names = tuple(f"class{label}" for label in range(len(counts)))
    images = Listing(Path("none"), names, ("",) * len(labels), (0,) * len(labels), tuple(labels.tolist()))
    truth = np.where(labels[:, None] == np.arange(len(counts)), 1, -1)
    known = samples.Samples(images, np.arange(len(labels)), None, truth, None)
    usable = np.ones(len(labels), dtype=bool) if usable is None else usable
    return labels, list(samples.splits(known, cfg.transfer, usable))


def how(train: int, test: int, seed: int = 1):
    cfg = composed("data.root=x", "data=folder", evaluate=True)
    return replace(cfg, transfer=replace(cfg.transfer, train=train, test=test, seed=seed))


CFG = how(30, 50)


@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 99), st.data())
def test_a_split_has_so_many_images_a_class_and_no_image_twice(train, test, seed, data):
    counts = data.draw(st.lists(st.integers(train + 1, train + 15), min_size=2, max_size=5))
    cfg = replace(CFG, transfer=replace(CFG.transfer, train=train, test=test, seed=seed))
    labels, parts = drawn(counts, cfg)
    assert len(parts) == 3
    for part in parts:
        assert Counter(labels[part.train]) == {label: train for label in range(len(counts))}
        assert Counter(labels[part.test]) == {label: min(test, n - train) for label, n in enumerate(counts)}
        assert len({*part.train, *part.test}) == len(part.train) + len(part.test)
        assert set(part.held_out) <= set(part.train)
        assert set(Counter(labels[part.held_out]).values()) == {min(train - 1, max(1, round(0.2 * train)))}


def test_splits_are_drawn_anew_the_same_for_a_seed_and_without_unreadable_images():
    _, parts = drawn([40, 60], CFG)
    _, again = drawn([40, 60], CFG)
    _, others = drawn([40, 60], how(30, 50, seed=2))
    same = [np.array_equal(one.train, other.train) for one, other in zip(parts, again, strict=True)]
    assert same == [True] * 3
    assert not any(np.array_equal(one.train, other.train) for one, other in zip(parts, others, strict=True))
    assert len({part.train.tobytes() for part in parts}) == 3
    usable = np.arange(100) % 10 > 0
    _, parts = drawn([40, 60], CFG, usable)
    assert all(usable[[*part.train, *part.test]].all() for part in parts)


def test_a_class_with_too_few_images_is_named():
    with pytest.raises(UserError, match="class1 has 30 images: transfer.train=30"):
        drawn([31, 30], CFG)


PAPER = {  # of an eval option: scales, how they are combined, training images a class, labels, person boxes
    "caltech101": ([256, 384, 512], "stack", 30, "objects", False),
    "caltech256": ([256, 384, 512], "stack", 60, "objects", False),
    "voc": ([256, 384, 512, 640, 768], "average", 30, "objects", False),
    "actions": ([256, 384, 512, 640, 768], "average", 30, "actions", True),
}


@pytest.mark.parametrize("option", PAPER)
def test_named_protocols_are_the_papers(option):
    cfg = composed(f"eval={option}", evaluate=True)
    found = cfg.transfer
    assert cfg.task == "transfer"
    assert (found.q, found.combine, found.train, found.labels, found.person_boxes) == PAPER[option]
    assert (found.features, found.test, found.splits, found.held_out) == ("fc7", 50, 3, 0.2)
