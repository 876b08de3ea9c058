import pytest
from conftest import append, evaluation

from vgg.evaluation.records import Classification
from vgg.evaluation.selection import Origins

OTHERS = {
    "runs": ("digits/E-jitter",),
    "views": ("dense",),
    "q": ((256,),),
    "softmax": "first",
    "ceil_mode": (True,),
    "mirror": (not evaluation().mirror[0],),
    "precision": "bf16-mixed",
    "images_sha256": "of others",
}


@pytest.mark.parametrize("setting", OTHERS)
def test_an_evaluation_with_another_setting_takes_no_other_evaluations_place(runs, setting):
    one, other = evaluation(), evaluation(**{setting: OTHERS[setting]})
    append(runs, one, other)
    assert Origins("digits", runs).ours(Classification) == [one, other]
