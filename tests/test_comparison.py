import numpy as np
import pytest
from conftest import append, bits, composed, evaluation
from scipy.stats import t

from vgg.core.errors import UserError
from vgg.evaluation.records import packed_bits
from vgg.report import comparison
from vgg.runs.run import Run


@pytest.fixture
def both(runs):
    """Nets C and D with two epochs each, of 597 images evaluated densely; D has the lowest 20 % wrong, C 5 % more."""
    for net, errors in (("C", (60.0, 30.0)), ("D", (50.0, 25.0))):
        run = Run.named(f"digits/{net}-256", runs)
        run.prepare(composed(f"model={net}", "train_scale=S256", f"dirs.runs={runs}"), None)
        folder = run.folder / "csv" / "version_0"
        folder.mkdir(parents=True)
        lines = [f"{epoch},{error}" for epoch, error in enumerate(errors)]
        (folder / "metrics.csv").write_text("\n".join(["epoch,val/top1_error", *lines]) + "\n")
    right = bits(597, 20.0)
    fewer = right.copy()
    fewer[:30], fewer[-3:] = False, True
    common = {"views": ("dense",), "q": ((256,),)}
    append(
        runs,
        evaluation(runs=("digits/C-256",), top1=100 * (~fewer).mean(), top1_correct=packed_bits(fewer), **common),
        evaluation(runs=("digits/D-256",), top1=100 * (~right).mean(), top1_correct=packed_bits(right), **common),
        evaluation(runs=("digits/D-256",)),  # fused, which C was not
    )
    return runs


def test_two_runs_configurations_errors_and_curves_stand_side_by_side(both, tmp_path):
    text = comparison.rendered(("digits/C-256", "digits/D-256"), both, tmp_path)
    assert "  model.name: C  →  D" in text
    assert "dense, Q = 256: 24.46 → 19.93 %, -4.52 points" in text
    assert "multi-crop" not in text
    assert "only digits/C-256 is right: 3" in text
    assert "only digits/D-256 is right: 30" in text
    assert text.splitlines()[-3:] == [
        "  epoch             1      2",
        "  digits/C-256  60.00  30.00",
        "  digits/D-256  50.00  25.00",
    ]


def test_the_interval_of_the_difference_is_the_paired_one(both, tmp_path):
    text = comparison.rendered(("digits/C-256", "digits/D-256"), both, tmp_path)
    balance = np.array([-1] * 30 + [1] * 3 + [0] * 564)  # of wrong answers, D's less C's
    reach = t.ppf(0.975, 596) * 100 * balance.std(ddof=1) / 597**0.5
    difference = 100 * balance.mean()
    assert f"(95 % {difference - reach:+.2f} to {difference + reach:+.2f} over photos)" in text
    assert "McNemar p = 1.4e-06" in text


def test_a_run_that_is_not_there_is_named(both, tmp_path):
    with pytest.raises(UserError, match="there is no run digits/E-256 in"):
        comparison.rendered(("digits/C-256", "digits/E-256"), both, tmp_path)
