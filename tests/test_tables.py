from collections import Counter

import pytest
from conftest import append, evaluation

from vgg import figures, lines, tables
from vgg.config import UserError

ROWS = lines.paper_rows()


def test_the_papers_rows_are_complete():
    counts = Counter(row["place"] for row in lines.paper_lines())
    assert [counts[f"Table {number}"] for number in range(1, 13)] == [6, 6, 12, 10, 6, 4, 15, 3, 4, 4, 8, 5]
    assert all(0 < row["top5"] < row["top1"] < 30 for row in ROWS if row["place"] != "section 4.1")
    assert all(len(row["runs"]) == len(row["q"]) for row in ROWS)


def test_what_was_not_run_is_a_dash(runs):
    for form in ("text", "markdown", "csv"):
        shown = tables.rendered("digits", runs, form)
        assert shown.count("24.4") >= 2
        assert "–" in shown


def test_ours_stands_beside_the_papers_with_difference_and_interval(runs):
    append(runs, evaluation())
    row = next(
        line for line in tables.rendered("digits", runs, "csv").splitlines() if "D [256;512],multi-crop & dense" in line
    )
    assert (
        row == 'Table 5,D [256;512],multi-crop & dense,"256, 384, 512",20.0,18.0–22.0,24.4,-4.4,1.0,0.5–1.5,7.2,-6.2,1'
    )


def test_seeds_are_averaged_with_their_spread(runs):
    append(runs, evaluation(), evaluation(runs=["digits/D-jitter-seed2"], seed=[2], top1=22.0))
    assert "21.0 ± 1.4" in tables.rendered("digits", runs, "text")


def test_the_figure_has_their_mean_and_a_point_for_each(runs, monkeypatch):
    second = evaluation(runs=["digits/D-jitter-seed2"], seed=[2], top1=22.0, top1_interval=[20.0, 24.5])
    append(runs, evaluation(), second)
    kept = []
    monkeypatch.setattr(figures.pyplot, "close", kept.append)
    figures.errors("digits", runs, runs / "errors.svg")
    (axes,) = kept[0].axes
    assert "D [256;512], multi-crop &amp; dense, Q = 256, 384, 512" in (runs / "errors.svg").read_text()
    assert [list(line.get_xdata()) for line in axes.lines] == [[19.0, 23.25], [21.0], [20.0, 22.0], [24.4]]


def test_the_last_line_with_a_key_wins(runs):
    append(runs, evaluation(), evaluation(top1=10.0))
    assert [line["top1"] for line in tables.results("digits", runs)] == [10.0]


def test_other_settings_than_the_papers_stay_out_of_the_tables(runs):
    append(runs, evaluation(softmax="first"), evaluation(ceil_mode=[True]), evaluation(q=[[256, 384]]))
    assert "–4.4" not in tables.rendered("digits", runs, "text")
    assert not tables.matching(ROWS[-1], tables.results("digits", runs))


def test_results_are_kept_by_a_command_and_a_damaged_line_is_named(runs):
    with pytest.raises(UserError, match="nothing to keep"):
        tables.keep("digits", runs)
    append(runs, evaluation())
    assert list(tables.keep("digits", runs).values()) == [1]
    (runs / "digits" / "results.jsonl").write_text('{"runs": [')
    with pytest.raises(UserError, match="line 1"):
        tables.results("digits", runs)


def test_the_papers_row_is_found_for_the_same_nets_views_and_scales():
    assert lines.paper_row(evaluation())["top1"] == 24.4
    assert lines.paper_row(evaluation(runs=["caffe/D"]))["top1"] == 24.4
    assert lines.paper_row(evaluation(cells=["D-jitter-noA"])) is None
    assert lines.paper_row(evaluation(q=[[256]])) is None
