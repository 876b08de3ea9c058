"""Appendix A: the geometry of boxes, the crops a box predictor is trained on, and the whole path on the digits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, TINY, composed, run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import box_iou

from vgg.appendix.localisation import evaluation as localisation_evaluation
from vgg.appendix.localisation import tables as localisation_tables
from vgg.appendix.localisation.candidates import BoxScoring, candidates, central, load
from vgg.appendix.localisation.data import BoxCrops, BoxData, window_on_object
from vgg.appendix.localisation.geometry import boxes_of_classes, from_window, overlaps, to_window
from vgg.core.errors import UserError
from vgg.data.encoded_image import Picture
from vgg.data.transforms import rescaled_size
from vgg.evaluation import selection
from vgg.evaluation.images import evaluated_images
from vgg.evaluation.records import Localisation, read, written
from vgg.evaluation.selection import Origins
from vgg.nets.vgg import VGG
from vgg.report import box_photos, tables
from vgg.report.parts import Lacking
from vgg.runs import plan, weights
from vgg.runs.run import Run
from vgg.training import fit as training_fit

CORNERS = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted)
BOXES = st.tuples(CORNERS, CORNERS).map(lambda xy: torch.tensor([xy[0][0], xy[1][0], xy[0][1], xy[1][1]]))


@given(BOXES, st.tuples(st.integers(56, 700), st.integers(56, 700)), st.integers(0, 500), st.integers(0, 500))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_through_rescaling_crop_mirror_and_back_is_itself(mirrored, box, size, left, top):
    seen = to_window(box, size, left, top, 56, mirrored)
    torch.testing.assert_close(from_window(seen, size, left, top, 56, mirrored), box, atol=1e-4, rtol=0)


def test_a_box_is_where_the_pixels_of_its_object_are():
    """A white rectangle in a black image, through rescaling, crop and mirror."""
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[30:90, 60:140] = 255
    size = rescaled_size((200, 120), 84)
    small = np.asarray(Image.fromarray(picture).resize(size))
    left, top, crop = 31, 9, 56
    crop_pixels = small[top : top + crop, left : left + crop][:, ::-1]
    x, y, w, h = (56 * to_window(torch.tensor([0.3, 0.25, 0.7, 0.75]), size, left, top, crop, True)).tolist()
    rows, columns = np.nonzero(crop_pixels[..., 0] > 127)
    assert (rows.min(), rows.max() + 1) == (max(0, round(y - h / 2)), min(56, round(y + h / 2)))
    assert (columns.min(), columns.max() + 1) == (max(0, round(x - w / 2)), min(56, round(x + w / 2)))


@given(st.lists(BOXES, min_size=1, max_size=4), st.lists(BOXES, min_size=1, max_size=4))
def test_overlaps_are_torchvisions(one, others):
    one, others = torch.stack(one), torch.stack(others)
    torch.testing.assert_close(overlaps(one[:, None], others), box_iou(one, others).nan_to_num(0), atol=1e-5, rtol=0)


@given(st.lists(BOXES, min_size=1, max_size=3), st.integers(0, 10**6))
def test_a_training_crop_shows_half_of_a_box_or_the_middle_of_one_and_is_about_what_it_shows_most_of(boxes, seed):
    boxes, size, crop = torch.stack(boxes), (90, 120), 56
    left, top, chosen = window_on_object(boxes, size, crop, np.random.default_rng(seed))
    assert 0 <= left <= size[0] - crop
    assert 0 <= top <= size[1] - crop
    pixels = boxes * torch.tensor([90.0, 120, 90, 120])
    window = torch.tensor([left, top, left + crop, top + crop])
    sides = torch.minimum(pixels[:, 2:], window[2:]) - torch.maximum(pixels[:, :2], window[:2])
    visible = sides.clamp(min=0).prod(1)
    areas = (pixels[:, 2:] - pixels[:, :2]).prod(1)
    assert visible[(boxes == chosen).all(1)].max() >= visible.max() - 1e-2
    middles = (pixels[:, :2] + pixels[:, 2:]) / 2
    in_the_middle = ((middles - window[:2] - crop / 2).abs() <= 1).all(1)
    at_the_border = left in (0, size[0] - crop) or top in (0, size[1] - crop)
    assert (visible >= areas / 2 - 1e-2).any() or in_the_middle.any() or at_the_border


def test_pcr_has_a_box_for_each_class_and_scr_one_for_all():
    outputs = torch.arange(2 * 12.0).view(2, 12)
    assert boxes_of_classes(outputs, torch.tensor([[2, 0], [1, 1]])).tolist() == [
        [[8, 9, 10, 11], [0, 1, 2, 3]],
        [[16, 17, 18, 19], [16, 17, 18, 19]],
    ]
    assert boxes_of_classes(outputs[:, :4], torch.tensor([[2, 0], [1, 1]]))[1].tolist() == [[12, 13, 14, 15]] * 2


def test_a_cell_of_the_map_gives_the_box_of_the_window_at_stride_times_its_place():
    torch.manual_seed(0)
    net, classifier = (VGG("A", outputs, 0.25, 0.0625).eval() for outputs in (4 * 3, 3))
    images, classes = 255 * torch.rand(2, 3, 64, 72), torch.tensor([[2, 0], [1, 1]])
    with torch.no_grad():
        for layer in net.children():
            torch.nn.init.kaiming_normal_(layer.weight)
        found = candidates(net, classifier, images, classes)
        assert found.shape == (2, 2 * 3, 2, 6)
        cells, scores = net.score_map(images), classifier.score_map(images).softmax(1)
    row, column = 1, 2
    x, y, w, h = cells[0, 8:12, row, column].tolist()  # class 2's
    corners = [(8 * column + 56 * (x - w / 2)) / 72, (8 * row + 56 * (y - h / 2)) / 64]
    corners += [(8 * column + 56 * (x + w / 2)) / 72, (8 * row + 56 * (y + h / 2)) / 64]
    torch.testing.assert_close(found[0, 5, 0, :4], torch.tensor(corners).clamp(0, 1), atol=1e-4, rtol=0)
    assert found[0, 5, 0, 4] == pytest.approx(scores[0, 2, row, column].item(), abs=1e-6)
    order = scores[1].amax(dim=(1, 2)).argsort(descending=True).tolist()
    assert found[1, 0, 0, 5] == order.index(1)
    with torch.no_grad():
        middle = central(net, images, classes)[:, 0]
        seen = net(images[:, :, 4:60, 8:64]).view(2, 3, 4)
    x, y, w, h = seen[0, 2].tolist()
    corner = torch.tensor([(8 + 56 * (x - w / 2)) / 72, (4 + 56 * (y - h / 2)) / 64]).clamp(0, 1)
    torch.testing.assert_close(middle[0, 0, :2], corner, atol=1e-4, rtol=0)


def test_candidates_of_two_ranks_are_put_together_by_image(tmp_path):
    scorings = [BoxScoring(VGG("A", 4, 0.25, 0.0625), None, np.zeros((3, 1), int)) for _ in range(2)]
    scorings[0].found = {0: np.ones((2, 1, 6)), 2: np.full((1, 1, 6), 3.0)}
    scorings[1].found = {}
    for rank, scoring in enumerate(scorings):
        scoring.save(tmp_path / f"{rank}.npz")
    BoxScoring.merge([tmp_path / "0.npz", tmp_path / "1.npz"], tmp_path / "whole.npz")
    assert [len(rows) for rows in load(tmp_path / "whole.npz")] == [2, 0, 1]


REST = f"{SMALL}-epochs1"  # of a run's name
LOCALISATION = ("task=localisation", "model=A", "train_scale=S256", *TINY)


@pytest.fixture
def data(scenes, tmp_path):
    cfg = composed(*LOCALISATION, f"data.root={scenes}", "data.batch=4")
    return cfg, training_fit.parts(cfg, BoxData)[1]


def test_a_training_item_is_a_function_of_seed_epoch_and_image_and_its_box_is_on_the_digit(data, scenes):
    cfg, images = data
    crops = images.training_crops()
    assert isinstance(crops, BoxCrops)
    crop, label, box, alpha, _, bad = crops[3, 5]
    assert (label, bad) == (images.train.labels[5], -1)
    again = crops[3, 5]
    assert all(torch.equal(one, other) for one, other in zip((crop, box, alpha), again[:1] + again[2:4], strict=True))
    assert not torch.equal(box, crops[4, 5][2])
    size = Picture(images.train.read(5)).size
    with (scenes / "boxes.csv").open() as file:
        row = next(line.split(",") for line in file if line.startswith(f"train/{images.train.files[5]}"))
    expected = torch.tensor([float(value) for value in row[4:]]) / torch.tensor([*size, *size])
    torch.testing.assert_close(images.train_boxes[5], expected[None])


def test_validation_boxes_are_those_of_the_central_crop(data):
    _, images = data
    crop, label, boxes, unreadable = images.validation_crops(64, 56)[7]
    assert (label, unreadable) == (images.val.labels[7], -1)
    size = rescaled_size(Picture(images.val.read(7)).size, 64)
    left, top = round((size[0] - 56) / 2), round((size[1] - 56) / 2)
    torch.testing.assert_close(from_window(boxes, size, left, top, 56, False), images.val_boxes[7], atol=1e-5, rtol=0)


def test_learning_rate_and_epochs_are_appendix_as_at_every_scale():
    for scale in ("S256", "S384"):
        cfg = composed("task=localisation", f"train_scale={scale}", "data=imagenet", "data.root=/x")
        assert (cfg.learning_rate, cfg.epochs) == (pytest.approx(1e-3), 37)


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """Net A, and the box predictor that starts from it."""
    folder = tmp_path_factory.mktemp("localisation")
    options = (*LOCALISATION, f"data.root={scenes}", "data.epochs=1", "logger=csv")
    return folder, options, run(folder, "train.py", *options)


def test_a_box_predictor_starts_from_the_classification_run_with_fc8_anew(trained):
    folder, _, output = trained
    assert f"plan: scenes/A-256{REST} → scenes/A-256-loc-pcr{REST}" in output
    assert "fc6, fc7; random: fc8" in output
    assert "box error" in output
    net, classes = weights.load(Run.named(f"scenes/A-256-loc-pcr{REST}", folder / "runs"), "localisation")
    assert net.fc8.out_channels == 4 * len(classes) == 40


def evaluate(folder: Path, options: tuple[str, ...], *more: str) -> dict:
    dirs = (f"dirs.runs={folder / 'runs'}", f"dirs.cache={folder / 'cache/vgg'}")
    return localisation_evaluation.evaluate(composed(*options, *dirs, "eval=table3", *more, evaluate=True))


def test_boxes_are_evaluated_by_both_protocols_and_stand_in_the_tables(trained, scoring_here, monkeypatch, capfd):
    folder, options, _ = trained
    lines = [evaluate(folder, options)]
    shown = capfd.readouterr().out
    assert f"scenes/A-256{REST}: dense at Q=256" in shown
    assert f"scenes/A-256-loc-pcr{REST}: boxes at Q=256" in shown
    assert "top-5 localisation error" in shown
    lines.append(evaluate(folder, options, "box_evaluation.t=-1"))
    assert "boxes at Q" not in capfd.readouterr().out, "merging again computes nothing"
    lines.append(evaluate(folder, options, "box_evaluation.protocol=ground_truth", "box_evaluation.q=[[384]]"))
    assert [(line.protocol, line.q, line.t) for line in lines] == [
        ("full", ((256,),), 0.0),
        ("full", ((256,),), -1.0),
        ("ground_truth", ((384,),), 0.0),
    ]
    assert lines[0].classes_by == (f"scenes/A-256{REST} dense 256",)
    assert all(line.images == 37 and 0 <= line.mean_iou <= 1 for line in lines)
    assert read(folder / "runs/scenes/localisation.jsonl", Localisation) == lines
    monkeypatch.setattr(selection, "curated", lambda data, kind="results": folder / f"{data}-{kind}.jsonl")
    assert selection.keep("scenes", folder / "runs") == {folder / "scenes-localisation.jsonl": 3}
    papers = ("D-256-loc-pcr", "D-256-loc-pcr", "D-384-loc-pcr")  # as if they were the paper's nets
    lines = [replace(line, cells=(cell,), runs=(f"scenes/{cell}",)) for line, cell in zip(lines, papers, strict=True)]
    (folder / "scenes-localisation.jsonl").write_text("".join(map(written, lines)))
    rows = tables.rendered(Origins("scenes", folder / "nothing"), "text").splitlines()
    ours = {tuple(row.split()[:5]): row.split()[5] for row in rows if " PCR " in row}
    assert ours["D", "256", "all", "PCR", "256"] == f"{lines[1].error:.1f}"
    assert [row for row in rows if row.startswith("D 384  all  ")][0].split()[5] == f"{lines[2].error:.1f}"
    seeds = [
        replace(lines[2], runs=(f"scenes/D-384{name}-loc-pcr",), seed=(seed,), error=error)
        for name, seed, error in (("", 1, 30.0), ("-seed2", 2, 40.0), ("-seed2", 2, 36.0))
    ]
    seeds += [replace(lines[2], k=1, error=90.0), replace(lines[2], t=0.5, error=90.0)]  # a study's, not the table's
    (row,) = (row for row in localisation_tables.table("Table 8", seeds)[1] if row[-1] != "–")
    assert (row[4], row[-1]) == ("33.0 ± 4.2", "2"), "the mean over seeds, of each the last"
    merging = composed("task=localisation", evaluate=True).box_evaluation
    assert (merging.k, merging.t) == selection.K_AND_T


def test_the_nets_that_give_the_five_classes_are_not_held_to_the_command_line(trained, scoring_here, monkeypatch):
    """Which is about the box predictors: their classification runs have other layers, scales and parents."""
    folder, options, _ = trained
    options = tuple(option.replace("train_scale=S256", "train_scale=S384") for option in options)
    dirs = (f"dirs.runs={folder / 'runs'}", f"dirs.cache={folder / 'cache/vgg'}")
    cfg = composed(*options, *dirs, "eval=table3", evaluate=True)
    monkeypatch.setattr(plan, "given", lambda: {"train_scale": "train_scale=S384"})
    parent = Run.named(f"scenes/A-256{REST}", folder / "runs")
    images = evaluated_images(cfg, tuple(parent.record()["classes"]))
    posterior, _ = localisation_evaluation.label_posteriors(cfg, [parent], images)
    assert posterior.shape == (37, 10)


def test_mistakes_are_named(trained, scenes, scoring_here):
    folder, options, _ = trained
    with pytest.raises(UserError, match="a list of scales for each of 1 runs"):
        evaluate(folder, options, "box_evaluation.q=[[256],[384]]")
    with pytest.raises(UserError, match="task=classification: box predictors end in -loc-pcr"):
        evaluate(folder, options, f"runs=[A-256{REST}]")
    with pytest.raises(UserError, match="task=localisation, this needs a run of task=classification"):
        weights.load(Run.named(f"scenes/A-256-loc-pcr{REST}", folder / "runs"))
    with pytest.raises(UserError, match=r"is not trained. Train it:\n.*task=localisation"):
        evaluate(folder, options, "train_scale=S384")
    run = Run.named(f"scenes/A-256{REST}", folder / "runs")
    classes = run.record()["classes"]
    run.update_record(classes=[*classes[1:], "other"])
    with pytest.raises(UserError, match="knows other classes"):
        evaluate(folder, options)
    run.update_record(classes=classes)


def test_the_report_page_draws_true_and_predicted_boxes_on_photos(trained, scoring_here):
    folder, options, _ = trained
    run, line = Run.named(f"scenes/A-256-loc-pcr{REST}", folder / "runs"), evaluate(folder, options)
    name, cards = box_photos.boxed([run], [line], folder / "cache/vgg")
    assert name == run.name
    assert len(cards) == box_photos.CARDS
    for card in cards:
        x, y, w, h = card.true[0]
        assert 0 <= x < x + w <= card.width
        assert 0 <= y < y + h <= card.height
        assert 0 <= card.overlap <= 1
    with pytest.raises(Lacking, match="evaluated box predictor"):
        box_photos.boxed([], [line], folder / "cache/vgg")
