"""Appendix A, testing: which boxes of an image are merged, and where its candidates are kept."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import composed

from vgg.appendix.localisation import candidates
from vgg.appendix.localisation import evaluation as localisation_evaluation
from vgg.appendix.localisation.evaluation import best_boxes, stored_candidates
from vgg.data.listing import list_folder
from vgg.evaluation import posteriors
from vgg.runs.run import Run

NEAR, FAR = [0.1, 0.1, 0.2, 0.2], [0.7, 0.7, 0.9, 0.9]


def candidate(box: list[float], score: float, rank: int) -> np.ndarray:
    """One cell's candidate for one class, (1, 1, 6)."""
    return np.array([[[*box, score, rank]]])


def test_a_class_takes_its_boxes_from_the_scales_where_it_is_among_the_best_k():
    for rank, expected in ((1, FAR), (2, NEAR), (3, NEAR)):
        scales = [candidate(NEAR, 0.2, 0), candidate(FAR, 0.9, rank)]
        assert best_boxes(scales, 2, 0.0).tolist() == [expected], rank


def test_a_class_that_is_among_the_best_k_nowhere_takes_its_boxes_from_all_scales():
    scales = [candidate(NEAR, 0.2, 2), candidate(FAR, 0.9, 5)]
    assert best_boxes(scales, 2, 0.0).tolist() == [FAR]


@pytest.mark.parametrize("protocol", ["full", "ground_truth"])
def test_an_image_is_right_where_a_box_of_its_class_overlaps_one_of_the_objects_by_more_than_half(
    protocol, root, monkeypatch, tmp_path
):
    """Twelve images of three classes whose one guess is always the first: the four ants'."""
    images = list_folder(root)
    cfg = composed(
        "eval=table3", f"dirs.runs={tmp_path / 'runs'}", f"box_evaluation.protocol={protocol}", evaluate=True
    )
    run = Run.named("digits/A-256-loc-pcr", tmp_path / "runs")
    run.prepare(composed("task=localisation"), None)
    run.update_record(classes=["ant", "bee", "cat"], weights_sha256="w", parameters=1, multiply_adds=1)
    whole, half, more = [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.6, 1.0]
    boxes = [whole, half, more, FAR] * 3
    candidates_of = [candidate(box, 0.5, 0) for box in boxes]
    for name, given in {
        "evaluated_runs": [run],
        "evaluated_images": images,
        "configured_boxes": [torch.tensor([NEAR, whole])] * 12,
        "classifiers": [run],
        "label_posteriors": (np.tile(np.array([1.0, 0, 0], np.float32), (12, 1)), []),
        "stored_candidates": [candidates_of],
    }.items():
        monkeypatch.setattr(localisation_evaluation, name, lambda *unused, given=given: given)
    monkeypatch.setattr(localisation_evaluation, "GUESSES", 1)
    line = localisation_evaluation.evaluate(cfg)
    right, overlap = [True, False, True, False], (1 + 0.5 + 0.6 + 0.04) / 4
    of_bees_and_cats = protocol == "ground_truth"  # whose class is given
    assert line.correct().tolist() == [*right, *(2 * right if of_bees_and_cats else 8 * [False])]
    assert line.error == pytest.approx(50 if of_bees_and_cats else 100 * 10 / 12, abs=1e-3)
    assert line.mean_iou == pytest.approx(overlap if of_bees_and_cats else overlap / 3, abs=1e-3)
    assert line.constant_box_error == 0


def test_candidates_are_computed_again_for_another_value_of_anything_that_they_depend_on(
    root, monkeypatch, tmp_path_factory
):
    """And not otherwise."""
    cfg = composed("eval=table3", f"dirs.cache={root / 'cache'}", evaluate=True)
    images, asked = list_folder(root), []

    def compute(cfg, run, tasks, **how):
        for task in tasks:
            asked.append((task["view"], task["q"]))
            one = {index: np.full((1, 1, 6), task["q"], np.float32) for index in range(len(images))}
            candidates.save(Path(task["path"]), one, len(images))

    def computed(
        q=256, weights="w", scores="s", classes=0, listing=images, precision="32-true", resampling="torch"
    ) -> list:
        """What is computed for these, having checked what is returned."""
        asked.clear()
        monkeypatch.setattr(posteriors.Key, "resampling", resampling)
        run, parent = (
            SimpleNamespace(name="x/A-256", record=lambda sha=sha: {"weights_sha256": sha}) for sha in (weights, scores)
        )
        how = replace(
            cfg,
            box_evaluation=replace(cfg.box_evaluation, q=[[q]]),
            trainer=replace(cfg.trainer, precision=precision),
        )
        labels = np.full((len(images), 1), classes)
        (of_scale,) = stored_candidates(how, [run], [parent], listing, labels)
        assert [rows.tolist() for rows in of_scale] == [[[[q] * 6]]] * len(images)
        return list(asked)

    monkeypatch.setattr(localisation_evaluation, "compute", compute)
    assert computed() == [("boxes", 256)]
    others = [{"q": 384}, {"weights": "v"}, {"scores": "t"}, {"classes": 1}, {"precision": "bf16-mixed"}]
    others += [{"resampling": "another"}, {"listing": replace(images, sizes=(1,) * len(images))}]
    changed = (
        shutil.copytree(root, tmp_path_factory.mktemp("changed") / "photos", ignore=shutil.ignore_patterns("cache"))
        / images.files[0]
    )
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")  # another image of the same name and size
    others.append({"listing": list_folder(changed.parents[1])})
    assert others[-1]["listing"].sha256 == images.sha256
    for other in others:
        assert computed() == []
        assert computed(**other) == [("boxes", other.get("q", 256))], other
