import pytest
from conftest import append, evaluation

from vgg.evaluation.selection import Origins
from vgg.report import open_questions


def dense(**more):
    return evaluation(**({"views": ("dense",), "q": ((384,),)} | more))


def rows_under(runs, title: str) -> list[str]:
    text = open_questions.rendered(Origins("digits", runs))
    part = next(part for part in text.split("\n\n") if part.startswith(title))
    return part.splitlines()[3:]


def test_evaluations_that_differ_in_the_order_of_the_softmax_stand_beside_each_other(runs):
    append(runs, dense(top1=20.0), dense(softmax="first", top1=23.5), dense(q=((256,),), softmax="first"))
    assert [row.split()[-4:] for row in rows_under(runs, "Scores averaged")] == [
        ["last", "20.00", "18.0–22.0", "1.00"],
        ["first", "23.50", "18.0–22.0", "1.00"],
    ]


def test_pools_that_round_down_and_up_stand_beside_each_other(runs):
    append(runs, dense(top1=20.0), dense(ceil_mode=(True,), top1=19.0))
    assert [row.split()[3] for row in rows_under(runs, "Max pools")] == ["down", "up"]


def test_evaluations_of_other_weights_do_not_stand_beside_each_other(runs):
    append(runs, dense(), dense(softmax="first", weights_sha256=("trained anew",)))
    assert open_questions.rendered(Origins("digits", runs)).count("not run") == 3
    assert "Left out: 1" in open_questions.rendered(Origins("digits", runs))


def test_the_error_over_q_needs_three_scales_and_is_sorted(runs):
    append(runs, dense(q=((512,),)), dense(q=((256,),)))
    assert "not run" in open_questions.rendered(Origins("digits", runs)).rsplit("\n\n", 1)[1]
    append(runs, dense(q=((384,),)), dense(q=((320,),), softmax="first"), dense(q=((256, 384, 512),)))
    assert [row.split()[2] for row in rows_under(runs, "The error over")] == ["256", "384", "512"]


@pytest.mark.parametrize("data", ["digits", "nothing"])
def test_what_was_not_run_is_said(runs, data):
    assert open_questions.rendered(Origins(data, runs)).count("not run") == 3
