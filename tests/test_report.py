import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, append, composed, evaluation

from vgg.core.config import EvalMethod
from vgg.data.datasets import listing
from vgg.data.listing import Listing
from vgg.evaluation import arrays, lines, posteriors, selection
from vgg.evaluation.records import packed_bits
from vgg.evaluation.selection import Origins
from vgg.report import chart_data, charts, image_analysis
from vgg.report import page as report_page
from vgg.report.image_analysis import Scored
from vgg.report.parts import Lacking
from vgg.runs.run import Run
from vgg.training import fit as training_fit

VOID = {"meta", "link", "img", "br", "hr", "input"}
SECTIONS = (
    *("tables", "boxes", "transfer", "claims", "curves", "errors", "views", "mistakes"),
    *("filters", "lineage", "sources"),
)
DENSE = evaluation(views=["dense"], weights_sha256=["a" * 64], top1=30.0)


class Page(HTMLParser):
    """A written page: its ids, what it loads, the text of its sections; asserts that its elements are balanced."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_startendtag(self, tag, attributes):
        self.look(tag, dict(attributes))

    def handle_starttag(self, tag, attributes):
        self.look(tag, dict(attributes))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data

    def look(self, tag, attributes):
        assert tag != "script"
        assert not any(name.startswith("on") for name in attributes)
        if tag == "section":
            self.section = attributes["id"]
        if "id" in attributes:
            self.ids.append(attributes["id"])
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            if name in attributes:
                (self.links if tag == "a" else self.loaded).append(attributes[name])


def written(data: str, runs: Path, cache: Path) -> Page:
    """The page of this data, sound by itself: nothing is fetched, ids are unique, what refers to one finds it."""
    path = runs.parent / "page" / f"{data}.html"
    report_page.write(Origins(data, runs), cache, path)
    page = Page(path)
    assert all(place.startswith(("#", "data:")) for place in page.loaded)
    assert not re.search(r"@import|url\((?!#)", page.source)
    assert len(set(page.ids)) == len(page.ids)
    inner = [place[1:] for place in (*page.loaded, *page.links) if place.startswith("#")]
    assert set(inner) | set(re.findall(r"url\(#([^)]+)\)", page.source)) <= set(page.ids)
    assert [section for section in SECTIONS if section in page.ids] == list(SECTIONS)
    return page


def test_without_any_result_the_papers_numbers_stand_and_every_other_part_says_what_it_needs(runs, tmp_path):
    page = written("digits", runs, tmp_path / "cache")
    assert "29.6" in page.text["tables"]
    assert page.text["claims"].count("not run") > 13
    assert "0 of 14" in page.source
    for section, command in (
        ("curves", "python train.py"),
        ("errors", "python evaluate.py ablation=table3"),
        ("views", "python evaluate.py -m eval=table4,multicrop,fused"),
        ("mistakes", "python evaluate.py"),
        ("filters", "python train.py"),
        ("sources", "python evaluate.py"),
    ):
        assert "This needs" in page.text[section] or section == "sources"
        assert command in page.text[section]
    assert "data:image" not in page.source


def test_results_alone_give_tables_claims_and_charts_and_nothing_is_made_up_for_the_rest(runs, tmp_path):
    right = np.arange(597) % 10 > 2
    lines = [
        replace(DENSE, top1_correct=packed_bits(right), command="python evaluate.py eval=table4", commit="abc1234"),
        replace(
            DENSE,
            views=("multicrop",),
            top1=12.0,
            top1_correct=packed_bits(right | (np.arange(597) % 10 == 0)),
        ),
        replace(DENSE, runs=("digits/A-256",), q=((256,),), cells=("A-256",), weights_sha256=("b" * 64,)),
    ]
    append(runs, *lines)
    selection.keep("digits", runs)
    (runs / "digits" / "results.jsonl").unlink()
    page = written("digits", runs, tmp_path / "cache")
    assert "12.0" in page.text["tables"]
    assert re.search(r"D-jitter, Q = 256, 384, 512\s*417\s*0\s*60\s*120", page.text["views"])
    assert "multi-crop  12.0" in page.source
    assert "evaluated, its weights are not here: 2" in page.text["lineage"]
    assert "python evaluate.py eval=table4" in page.text["sources"]
    assert "abc1234" in page.text["sources"]
    assert all("This needs" in page.text[section] for section in ("curves", "views", "mistakes", "filters"))
    assert "data:image" not in page.source


def test_text_from_results_is_escaped(runs, tmp_path):
    append(runs, replace(DENSE, command="<script>alert('&')</script>", runs=("digits/D-jitter-<b>",)))
    page = written("digits", runs, tmp_path / "cache")
    assert "<script>alert('&')</script>" in page.text["sources"]


def test_a_finished_run_shows_its_curves_filters_and_the_score_maps_of_its_mistakes(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "curated", lambda data, kind="results": tmp_path / f"{data}-{kind}.jsonl")
    dirs = (f"dirs.runs={tmp_path / 'runs'}", f"dirs.cache={tmp_path / 'cache'}", f"data.root={scenes}")
    options = ("model=A", "train_scale=S256", "data.epochs=1", "logger=csv", *TINY, "trainer.workers=0", *dirs)
    run = Run.named("scenes/A-256", tmp_path / "runs")
    run.prepare(composed(*options), None)
    training_fit.fit(run)
    cfg = composed(*options, "test_scale=multi", evaluate=True)
    images = listing(cfg.data, tmp_path / "cache", "val")
    for views in (["dense"], ["multicrop"], ["dense", "multicrop"]):
        cfg.eval_method = EvalMethod(views=views, softmax="last")
        for number, array in enumerate(arrays.arrays_of(cfg, run, images)):
            rows = np.random.default_rng(number).dirichlet(np.ones(10), len(images)).astype(np.float32)
            posteriors.save(array.path, rows, np.ones(len(images), dtype=bool))
        q = [arrays.test_scales(cfg, run)]
        line = lines.classification(cfg, [run], q, images, *arrays.posterior_of(cfg, [run], images))
        lines.append(cfg, line)
    page = written("scenes", tmp_path / "runs", tmp_path / "cache")
    assert all("This needs" not in page.text[section] for section in ("curves", "views", "mistakes", "filters"))
    assert page.source.count("data:image/jpeg") == 2 * image_analysis.SHOWN
    assert page.source.count("data:image/png") == 1
    assert page.source.count('<use href="#photo-') == 2 * 2 * image_analysis.SHOWN
    assert "from random weights" in page.text["curves"]
    assert page.text["errors"].count("This needs") == 2
    before = (tmp_path / "page/scenes.html").read_bytes()
    assert written("scenes", tmp_path / "runs", tmp_path / "cache").source.encode() == before

    found = image_analysis.best([line], tmp_path / "runs", tmp_path / "cache")
    for card in image_analysis.cards(found, [0, 1], tmp_path / "runs"):
        rows, columns = (side // 4 - 6 for side in (card.height, card.width))  # a cell every 4 pixels at scale 1/8
        corners = [(4 * x + 12, 4 * y + 12) for y in range(rows) for x in range(columns)]
        assert [cell[:2] for cell in card.maps[0].cells] == corners
        assert sum(score_map.true for score_map in card.maps) == 1
    run.weights.unlink()
    with pytest.raises(Lacking, match="the weights of scenes/A-256"):
        image_analysis.cards(found, [0], tmp_path / "runs")
    (run.folder / "config.yaml").unlink()
    with pytest.raises(Lacking, match="the folder of scenes/A-256"):
        image_analysis.best([line], tmp_path / "runs", tmp_path / "cache")


def metrics(run: Run, part: int, *rows: str) -> None:
    path = run.folder / f"csv/version_{part}/metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["epoch,lr,step,train/loss,train/top1_error,val/top1_error,val/top5_error", *rows, ""]))


def test_the_parts_of_a_resumed_run_are_one_curve_and_the_later_part_counts(tmp_path):
    run = Run.named("digits/A-256", tmp_path)
    metrics(run, 0, "0,0.1,9,,,80,30", "0,,9,2.3,90,,", "1,0.1,19,,,70,20")
    metrics(run, 2, "1,0.1,19,,,60,20", "1,,19,2.1,80,,")
    metrics(run, 10, "2,0.01,29,,,50,10", "2,,29,2.0,70,,")
    columns = chart_data.curve(run)
    assert columns["val/top1_error"] == ([1, 2, 3], [80, 60, 50])
    assert columns["train/loss"] == ([1, 2, 3], [2.3, 2.1, 2.0])
    assert columns["lr"] == ([1, 2, 3], [0.1, 0.1, 0.01])


def test_the_lineage_is_the_papers_with_what_else_is_here(runs):
    parents = report_page.parents_of_paper("digits")
    assert len(parents) == 14
    assert parents["digits/A-256"] is None
    assert parents["digits/D-256"] == "digits/A-256"
    assert parents["digits/D-jitter-fc"] == parents["digits/D-jitter"] == "digits/D-384"
    for name in ("digits/A-256", "digits/D-256", "digits/D-256-mine"):
        Run.named(name, runs).folder.mkdir()
        (runs / name / "config.yaml").touch()
    (runs / "digits/A-256/weights.pt").touch()
    Run.named("digits/D-256-mine", runs).update_record(parent="photos/D-256")
    with Run.named("digits/D-256", runs).lock():
        found = report_page.lineage(
            "digits", runs, report_page.known_runs("digits", runs), [evaluation(runs=["digits/E-384"])]
        )
    assert found["counts"] == {"done": 1, "training": 1, "elsewhere": 1, "missing": 11}
    assert found["more"] == 2
    assert "digits/D-256-mine: interrupted, from photos/D-256" in found["chart"]


def test_a_tree_has_its_leaves_in_rows_and_parents_beside_them():
    places = charts.tree({"A": None, "B": "A", "C": "B", "D": "B", "other": None})
    assert places == {"A": (0, 0.5), "B": (1, 0.5), "C": (2, 0), "D": (2, 1), "other": (0, 2)}


def scored(posterior: list[list[float]], labels: list[int]) -> Scored:
    count = len(labels)
    files = tuple(f"{number}.png" for number in range(count))
    images = Listing(Path("none"), ("ant", "bee", "cat"), files, (1,) * count, tuple(labels))
    return Scored(DENSE, images, np.arange(count), np.array(labels), np.array(posterior))


def test_confusion_and_the_hardest_images():
    found = scored([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.35, 0.25], [0.05, 0.9, 0.05]], [0, 0, 1, 2])
    counts = image_analysis.confusion(found)
    assert counts.tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert image_analysis.confused(counts, found.images.classes) == [
        ("ant", "bee", 1, 50.0),
        ("bee", "ant", 1, 100.0),
        ("cat", "bee", 1, 100.0),
    ]
    certain, wrong = image_analysis.hardest(found)
    assert certain == [2, 0, 1, 3]
    assert wrong == [3, 1, 2, 0]


def test_the_most_frequent_of_many_errors_are_listed_twice_as_many_as_photos():
    counts = np.arange(25).reshape(5, 5)
    listed = [images for *_, images, _ in image_analysis.confused(counts, tuple("abcde"))]
    assert listed == [23, 22, 21, 20, 19, 17, 16, 15, 14, 13, 11, 10][: 2 * image_analysis.SHOWN]


def test_the_error_over_q_takes_the_scales_of_averages_apart(runs, tmp_path, monkeypatch):
    images = scored([[1, 0, 0]] * 4, [0, 0, 1, 2]).images
    monkeypatch.setattr(image_analysis, "validation_images", lambda run, kept: images)
    several = replace(DENSE, images_sha256=images.sha256)
    for (_, _, q), path in image_analysis.arrays(several, tmp_path).items():
        rows = np.eye(3, dtype=np.float32)[[0, 0, 1, 2] if q == 384 else [0, 0, 0, 0]]
        posteriors.save(path, rows, np.ones(4, dtype=bool))
    found = image_analysis.over_q([several, replace(several, q=((512,),), top1=7.0)], runs, tmp_path)
    assert found == {("digits/D-jitter", "dense"): {512: 7.0, 256: 50.0, 384: 0.0}}
    other = image_analysis.over_q([replace(several, images_sha256="of others")], runs, tmp_path)
    assert not other["digits/D-jitter", "dense"]


def test_the_error_over_depth_stands_with_any_single_row_of_table_3():
    for net in ("A-LRN", "E"):
        line = evaluation(runs=[f"digits/{net}-256"], views=["dense"], q=[[256]])
        assert "S = 256" in chart_data.depth_chart([line])


def test_filters_are_pixels_about_grey(tmp_path):
    run = Run.named("digits/A-256", tmp_path)
    run.folder.mkdir(parents=True)
    kernels = torch.zeros(20, 3, 3, 3)
    kernels[3, 0] = 2.0
    torch.save({"state_dict": {"conv1_1.weight": kernels}}, run.weights)
    sheet = image_analysis.filters(run)
    assert (sheet["count"], sheet["width"]) == (20, 16 * 4 - 1)


def test_charts_take_the_pages_colours_and_keep_text_as_text():
    curve = {"val/top1_error": ([1], [50.0]), "lr": ([1], [0.1])}
    one, other = (str(charts.learning_curve(name, "<label>", curve)) for name in ("one", "other"))
    assert "var(--orange)" in one
    assert "currentColor" in one
    assert not any(sentinel in one for sentinel in charts.PAGE_COLOURS)
    assert ">epoch</text>" in one
    assert "&lt;label&gt;" in one
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_nets_are_named_from_the_fewest_multiply_adds_on():
    points = [
        (net, True, count, error, (error - 1, error + 1)) for net, count, error in (("x", 3e9, 9.0), ("y", 1e9, 20.0))
    ]
    chart = str(charts.operations("operations", "", points))
    assert chart.index(">y</text>") < chart.index(">x</text>")
