"""Appendix B on tiny data: descriptors, splits, results, tables."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, composed, last, noise, run
from PIL import Image

from vgg.appendix.transfer import evaluation as transfer_evaluation
from vgg.appendix.transfer import samples, svm
from vgg.commands import score as commands_score
from vgg.commands import train as commands_train
from vgg.core.errors import UserError
from vgg.data.encoded_image import Picture
from vgg.data.listing import Listing
from vgg.data.transforms import rescale
from vgg.evaluation import arrays
from vgg.evaluation.records import Transfer
from vgg.nets import initialisation
from vgg.runs import weights
from vgg.runs.run import Run

SMALL = ("task=transfer", "transfer.train=2", "transfer.test=1", "transfer.q=[256,320]", "transfer.c=[1,10]")


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> Path:
    """The folder of the runs nets/D-jitter and nets/E-jitter, as good as finished; their classes are not the data's."""
    folder = tmp_path_factory.mktemp("runs")
    for model in "DE":
        cfg = composed(*TINY, "data.root=nets", f"model={model}", "train_scale=jitter", f"dirs.runs={folder}")
        net = weights.build(cfg, 2)
        initialisation.draw(net, "kaiming", 10)
        net.mean.copy_(torch.tensor([110.0, 120.0, 130.0]))
        made = Run.named(f"nets/{model}-jitter", folder)
        made.prepare(cfg, None)
        weights.save(made, net, ("cup", "mug"))
    return folder


@pytest.fixture
def asked(nets, tmp_path, monkeypatch):
    """asked(root, overrides): the configuration of a transfer to the images there; this process computes its arrays."""
    scored: list[Path] = []

    def score(command: str, request: Path, how: object) -> int:
        scored.append(request)
        commands_score.score(request)
        return 0

    def configuration(root: Path, *overrides: str):
        dirs = (f"dirs.runs={nets}", f"dirs.cache={tmp_path / 'cache'}", f"data.root={root}", "trainer.workers=0")
        return composed(*TINY, *SMALL, *dirs, "runs=[nets/D-jitter]", *overrides, evaluate=True)

    monkeypatch.setattr(arrays, "run_fresh", score)
    configuration.scored = scored
    return configuration


@pytest.fixture
def photos(tmp_path) -> Path:
    """Four photos of each of three classes, which have colours of their own; some are upright."""
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            levels = np.asarray(noise(10 * label + number, *((20, 32) if number == 3 else (30, 20)))) // 4
            coloured = levels + 150 * np.eye(3, dtype=np.uint8)[label]
            Image.fromarray(coloured).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def by_hand(nets: Path, name: str, images: Listing, q: int) -> np.ndarray:
    """Descriptors (images, D), one image and mirror image at a time."""
    net, _ = weights.load(Run.named(name, nets))
    found = []
    with torch.no_grad():
        for index in range(len(images)):
            x = rescale(Picture(images.read(index)), q // 8).permute(2, 0, 1)[None].float()
            found.append(sum(net.features(view)[0].mean((1, 2)) for view in (x, x.flip(3))) / 2)
    return torch.stack(found).numpy()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def described(cfg) -> tuple[np.ndarray, Listing]:
    images = samples.samples(cfg).images
    found, readable = transfer_evaluation.descriptors(cfg, arrays.evaluated_runs(cfg), images)
    assert readable.all()
    return found, images


def test_scales_are_stacked_or_averaged_then_normalised_and_nets_are_stacked(asked, photos, nets):
    both = "runs=[nets/D-jitter,nets/E-jitter]"
    stacked, images = described(asked(photos, both))
    averaged, _ = described(asked(photos, both, "transfer.combine=average"))
    small, large = (
        {q: by_hand(nets, name, images, q) for q in (256, 320)} for name in ("nets/D-jitter", "nets/E-jitter")
    )
    expected = [unit(np.hstack([net[256], net[320]])) for net in (small, large)]
    np.testing.assert_allclose(stacked, np.hstack(expected), atol=1e-5)
    expected = [unit(net[256] + net[320]) for net in (small, large)]
    np.testing.assert_allclose(averaged, np.hstack(expected), atol=1e-5)
    assert len(asked.scored) == 2, "one computation a net, and none for another way to combine"


def test_a_descriptor_of_nothing_stays_zero():
    found = transfer_evaluation.combined([np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32)], "stack")
    assert found.tolist() == [[0] * 6]


def test_the_random_net_is_the_one_that_the_runs_configuration_draws(asked, photos, nets):
    found, images = described(asked(photos, "transfer.features=random", "transfer.q=[256]"))
    own = Run.named("nets/D-jitter", nets)
    drawn = weights.build(own.config(), 2).eval()
    initialisation.draw(drawn, "glorot", 1)
    drawn.mean.copy_(torch.tensor([110.0, 120.0, 130.0]))
    x = rescale(Picture(images.read(5)), 32).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        expected = drawn.features(torch.cat([x, x.flip(3)])).mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(found[5], unit(expected[None])[0], atol=1e-5)
    trained, _ = described(asked(photos, "transfer.q=[256]"))
    assert np.abs(found - trained).max() > 1e-2


def test_a_transfer_is_a_line_with_its_origin_and_is_printed(asked, photos, nets, capsys):
    cfg = asked(photos, "transfer.features=pixels", "transfer.splits=4")
    line = transfer_evaluation.evaluate(cfg)
    assert line.mean == pytest.approx(np.mean(line.recall), abs=1e-3) == 100, "the colours tell the classes"
    assert (len(line.recall), len(line.c), line.spread) == (4, 4, 0)
    assert (line.samples, line.training_samples, line.test_samples, line.dimensions) == (12, 6, 3, 6144)
    assert line.weights_sha256 == (Run.named("nets/D-jitter", nets).record()["weights_sha256"],)
    assert {"command", "commit", "images_sha256", "versions", "seed", "scale", "mirror"} <= set(vars(line))
    assert last(nets / "photos/transfer.jsonl", Transfer) == line
    shown = capsys.readouterr().out
    assert "nets/D-jitter, pixels, Q = 256, 320 stacked: 6,144 numbers" in shown
    assert "12 images of" in shown
    assert "mean class recall   100.0 ± 0.0 %" in shown
    assert "the paper" not in shown
    transfer_evaluation.evaluate(replace(cfg, plan=replace(cfg.plan, dry_run=True)))
    assert "0 of 2 arrays of descriptors to compute, of 12 images each" in capsys.readouterr().out


def test_training_and_held_out_images_lie_together_or_in_two_parts(asked, photos, tmp_path):
    together = samples.samples(asked(photos)).images
    for split, numbers in {"train": "02", "test": "13"}.items():
        for name in ("ant", "bee", "cat"):
            (tmp_path / "parts" / split / name).mkdir(parents=True)
            for number in numbers:
                content = (photos / name / f"{number}.png").read_bytes()
                (tmp_path / "parts" / split / name / f"{number}.png").write_bytes(content)
    for rename in (None, "val"):
        if rename:
            (tmp_path / "parts/test").rename(tmp_path / "parts" / rename)
        apart = samples.samples(asked(tmp_path / "parts")).images
        assert Counter(zip(apart.labels, map(apart.read, range(12)), strict=True)) == Counter(
            zip(together.labels, map(together.read, range(12)), strict=True)
        )


VOC = ("data=voc", "transfer.q=[256]", "transfer.held_out=0.5", "transfer.c=[1]")


def test_voc_has_its_own_split_labels_and_measures(asked, voc_tree, nets, capsys):
    cfg = asked(voc_tree, *VOC)
    line = transfer_evaluation.evaluate(cfg)
    assert (line.measure, line.year, line.train, line.test) == ("mAP, 11-point", 2007, "trainval", "test")
    assert (line.training_samples, line.test_samples) == (4, 3)
    found, images = described(cfg)
    expected = {}
    for name, truth, test_truth in (("bird", [1, -1, 0, 1], [-1, 1, 1]), ("person", [1, 1, -1, -1], [1, 0, -1])):
        truth, test_truth = np.array([truth]).T, np.array(test_truth)
        scores = svm.scores(*[found[:4], truth, found[4:], 1])[:, 0]
        expected[name] = [round(100 * ap, 4) for ap in svm.average_precision(scores, test_truth)]
    for name, aps in expected.items():
        assert line.ap[name] == pytest.approx(aps, abs=0.01)
    assert line.mean == pytest.approx(np.mean([aps[1] for aps in line.ap.values()]))
    assert len(images) == 7
    shown = capsys.readouterr().out
    assert "11-point" in shown
    assert "7 images of" in shown


def test_people_are_their_image_and_their_box_stacked(asked, voc_tree, nets):
    actions = (*VOC, "transfer.labels=actions")
    whole = transfer_evaluation.evaluate(asked(voc_tree, *actions))
    assert (whole.samples, whole.images, list(whole.ap)) == (7, 5, ["running"])
    cfg = asked(voc_tree, *actions, "transfer.person_boxes=true")
    line = transfer_evaluation.evaluate(cfg)
    assert line.dimensions == 2 * whole.dimensions
    assert len(asked.scored) == 2, "the images' descriptors are there already"
    people = samples.samples(cfg).people
    found, _ = transfer_evaluation.descriptors(cfg, arrays.evaluated_runs(cfg), people)
    np.testing.assert_allclose(found, unit(by_hand(nets, "nets/D-jitter", people, 256)), atol=1e-5)


def test_what_cannot_be_read_is_listed_or_left_out(asked, photos, nets):
    (photos / "ant/1.png").write_bytes((photos / "ant/1.png").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 of the images.*skip_corrupt(.|\n)*ant/1\.png"):
        transfer_evaluation.evaluate(asked(photos))
    line = transfer_evaluation.evaluate(asked(photos, "data.skip_corrupt=true"))
    assert (line.samples, line.skipped) == (11, 1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("transfer.features=fc8",), "transfer.features=fc8"),
        (("transfer.q=[100]",), r"transfer\.q\[0\]=100"),
        (("transfer.q=[256,256]",), "256 stands there twice"),
        (("transfer.combine=max",), "transfer.combine=max"),
        (("transfer.train=1",), "transfer.train=1"),
        (("transfer.c=[]",), r"transfer\.c"),
        (("transfer.held_out=1",), "transfer.held_out"),
        (("transfer.person_boxes=true",), "transfer.labels=actions"),
        (("task=detection",), "task=detection: should be 'classification', 'localisation' or 'transfer'"),
        (("ablation=table5",), "instead of ablation="),
        (("submission=out.txt",), "task=classification"),
        (("runs=[nets/D-jitter,nets/E-jitter]", "transfer.features=pixels"), "name one run"),
        (("transfer.train=4",), "^ant has 4 images: transfer.train=4 leaves none to test on$"),
        (("data=voc",), "has no labels of trainval"),
    ],
)
def test_a_mistake_is_one_error(asked, photos, overrides, message):
    with pytest.raises(UserError, match=message):
        transfer_evaluation.evaluate(asked(photos, *overrides))
    assert not asked.scored


def test_training_has_no_transfer():
    with pytest.raises(UserError, match=r"python evaluate\.py"):
        commands_train.train(composed("task=transfer"))


def test_the_command_does_it_all(photos, nets, tmp_path):
    options = (
        f"dirs.runs={nets}",
        f"data.root={photos}",
        "runs=[nets/E-jitter]",
        "transfer.train=2",
        "transfer.q=[256]",
    )
    output = run(tmp_path, "evaluate.py", "eval=caltech101", *TINY, *options, "logger=csv", "trainer.workers=0")
    assert "nets/E-jitter: fc7 at Q=256" in output
    assert "12 images of" in output
    assert "mean class recall" in output
    assert "python" in last(nets / "photos/transfer.jsonl", Transfer).command
