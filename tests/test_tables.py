from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import append, evaluation
from scipy.stats import t

from vgg.core import paper
from vgg.core.errors import UserError
from vgg.evaluation import records, sampling, selection
from vgg.evaluation.errors import mean_error
from vgg.evaluation.records import Classification
from vgg.evaluation.selection import Origins
from vgg.report import errors_figure, tables

ROWS = paper.error_rows()
SECOND = {"runs": ("digits/D-jitter-seed2",), "seed": (2,)}


def shown(runs, form="text", mine=True):
    return tables.rendered(Origins("digits", runs, mine), form)


def row_of(runs, mine=True):
    """The row of Table 5 that `evaluation()` is about."""
    return next(line for line in shown(runs, "csv", mine).splitlines() if "D [256;512],multi-crop & dense" in line)


def test_the_papers_rows_are_complete():
    counts = Counter(row.place for row in paper.paper_rows())
    assert [counts[f"Table {number}"] for number in range(1, 13)] == [6, 6, 12, 10, 6, 4, 15, 3, 4, 4, 8, 5]
    assert all(0 < row.top5 < row.top1 < 30 for row in ROWS if row.place != "section 4.1")
    assert all(len(row.runs) == len(row.q) for row in ROWS)


def test_what_was_not_run_is_a_dash(runs):
    for form in ("text", "markdown", "csv"):
        assert shown(runs, form).count("24.4") >= 2
        assert "–" in shown(runs, form)


def test_ours_stands_beside_the_papers_with_difference_and_interval(runs):
    append(runs, evaluation())
    assert (
        row_of(runs)
        == 'Table 5,D [256;512],multi-crop & dense,"256, 384, 512",20.0,18.0–22.0,24.4,-4.4,1.0,0.5–1.5,7.2,-6.2,1'
    )


def test_a_users_lines_stand_in_columns_of_their_own(runs):
    append(runs, evaluation(), evaluation(**SECOND, top1=22.0))
    selection.keep("digits", runs)
    (runs / "digits/results.jsonl").unlink()
    assert "yours" not in shown(runs, "csv", mine=False)
    append(runs, evaluation(top1=30.0, top5=None, top5_interval=None, weights_sha256=("another",)))
    assert row_of(runs, mine=False).split(",")[-3:] == ["2", "30.0", "–"]
    assert "21.0 ± 1.4" in row_of(runs, mine=False)
    assert row_of(runs).split(",")[6:8] == ["30.0", "18.0–22.0"]
    assert "yours, of" in shown(runs)
    assert "ours, of results/" in shown(runs, mine=False)


def test_where_the_repository_has_nothing_the_users_lines_are_ours(runs):
    append(runs, evaluation())
    assert shown(runs, mine=False) == shown(runs)


def test_with_five_classes_or_fewer_there_is_no_top5(runs):
    append(runs, evaluation(classes=5, top5=None, top5_interval=None))
    assert row_of(runs).split(",")[6:] == ["20.0", "18.0–22.0", "24.4", "-4.4", "–", "–", "7.2", "–", "1"]


def test_seeds_are_averaged_with_an_interval_of_their_mean(runs):
    both = evaluation(), evaluation(**SECOND, top1=22.0)
    append(runs, *both)
    assert "21.0 ± 1.4" in shown(runs)
    error, (low, high) = mean_error(both, "top1")
    assert error == 21.0
    wrong = np.mean([~line.correct() for line in both], axis=0)
    of_seeds, of_photos = 1.0, 1e4 * wrong.var(ddof=1) / 597
    freedom = (of_seeds + of_photos) ** 2 / (of_seeds**2 + of_photos**2 / 596)
    reach = t.ppf(0.975, freedom) * (of_seeds + of_photos) ** 0.5
    assert (low, high) == pytest.approx((21 - reach, 21 + reach))
    same = evaluation(top1=0.0), evaluation(**SECOND, top1=2.0)
    assert sampling.mean_interval(same, "top1")[0] == 0


def test_the_figure_has_the_papers_errors_and_the_mean_of_ours(runs, monkeypatch):
    append(runs, evaluation(), evaluation(**SECOND, top1=22.0))
    figures = []
    monkeypatch.setattr(errors_figure.Figure, "savefig", lambda figure, *path, **options: figures.append(figure))
    errors_figure.shape(Origins("digits", runs, mine=True), runs / "errors.svg")
    of_paper, ours = ([list(line.get_ydata()) for line in axes.lines] for axes in figures[0].axes[2::3])
    assert [24.8, 24.6, 24.4] in of_paper  # Table 5: net D dense, multi-crop, both
    assert [21.0] in ours


def test_the_last_line_with_a_key_wins_wherever_the_first_stood(runs):
    append(runs, evaluation(), evaluation(softmax="first"), evaluation(top1=10.0))
    found = Origins("digits", runs).ours(Classification)
    assert [(line.softmax, line.top1) for line in found] == [("first", 20.0), ("last", 10.0)]
    assert "10.0" in row_of(runs)


@pytest.mark.parametrize(
    "other", [{"images_sha256": "of others"}, {"precision": "bf16-mixed"}, {"images": 500, "images_sha256": "b"}]
)
def test_other_images_and_precisions_do_not_mix_with_what_most_lines_have(runs, other):
    append(runs, evaluation(), evaluation(views=("dense",)), evaluation(**SECOND, top1=90.0, **other))
    assert ",20.0," in row_of(runs)
    append(runs, *(evaluation(**SECOND, views=views, **other) for views in (("dense",), ("center",))))
    assert ",90.0," in row_of(runs)


def test_lines_of_weights_that_are_gone_are_left_out_and_counted(runs):
    append(runs, evaluation(), evaluation(views=("dense",), weights_sha256=("trained anew",)))
    assert ",20.0," not in row_of(runs)
    assert "Left out: 1 evaluations of weights that were trained anew since" in shown(runs)


@pytest.mark.parametrize(
    "change",
    [
        {"softmax": "first"},
        {"ceil_mode": (True,)},
        {"q": ((256, 384),)},
        {"runs": ("digits/D-jitter-lr0.01",)},
        {"runs": ("digits/D-jitter-mine",)},
        {"runs": ("digits/D-jitter-seed2",)},  # a tag: its seed is 1
        {"runs": ("digits/D-jitter-glorot",)},  # a tag: it is the default draw
        {"seed": (2,)},
        {"runs": ("photos/D-jitter",)},
    ],
)
def test_other_settings_than_the_papers_stay_out_of_the_tables(runs, change):
    append(runs, evaluation(**change))
    row = next(row for row in reversed(ROWS) if row.runs == ("D-jitter",))
    assert not selection.matching(row, Origins("digits", runs).ours(Classification))
    assert selection.matching(row, [evaluation()])


def test_results_are_kept_by_a_command_and_a_damaged_line_is_named(runs):
    with pytest.raises(UserError, match="nothing to keep"):
        selection.keep("digits", runs)
    append(runs, evaluation())
    assert list(selection.keep("digits", runs).values()) == [1]
    append(runs, evaluation(top1=10.0), evaluation(softmax="first"))
    assert list(selection.keep("digits", runs).values()) == [2]
    assert [line.top1 for line in Origins("digits", runs).kept(Classification)] == [10.0, 20.0]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda text: text[:40], "it: Invalid JSON"),
        (lambda text: text.replace('"scale"', '"crop"'), "scale: Field required"),
        (lambda text: text.replace('"top1": 20.0', '"top1": "20"'), "top1: Input should be a valid number"),
        (lambda text: text.replace('"images": 597', '"images": 97'), "top1_correct has 75 bytes for 97 images"),
        (lambda text: text.replace("digits/D", "\udcff").encode("utf8", "surrogateescape"), "line 2"),
    ],
)
def test_a_damaged_line_is_named_with_what_is_wrong_in_it(runs, damage, named):
    text = damage(records.written(evaluation()))
    path = runs / "digits/results.jsonl"
    path.write_bytes(records.written(evaluation()).encode() + (text if isinstance(text, bytes) else text.encode()))
    with pytest.raises(UserError, match="line 2 is damaged") as error:
        Origins("digits", runs).ours(Classification)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_record_is_read_as_it_was_written(runs):
    line = evaluation(versions={"torch": "2"}, top5=None, top5_interval=None)
    append(runs, line)
    assert Origins("digits", runs).ours(Classification) == [line]


def test_the_papers_row_is_found_for_the_same_nets_views_and_scales():
    assert selection.paper_row(evaluation()).top1 == 24.4
    assert selection.paper_row(replace(evaluation(), runs=("caffe/D",))).top1 == 24.4
    assert selection.paper_row(evaluation(cells=("D-jitter-seed2",))).top1 == 24.4
    assert selection.paper_row(evaluation(cells=("D-jitter-noA",))) is None
    assert selection.paper_row(evaluation(q=((256,),))) is None
