import re
import runpy
from dataclasses import replace

import numpy as np
import pytest
import yaml
from conftest import append, bits
from conftest import evaluation as line
from scipy.stats import binomtest, ttest_1samp, ttest_ind

from vgg.core.catalogue import TRAINING_SCALES
from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.core.scales import multi_scale, single_scale
from vgg.evaluation import sampling, selection
from vgg.evaluation.records import packed_bits
from vgg.evaluation.selection import Origins
from vgg.report import claims, decision
from vgg.report.paper_claims import CLAIMS, parent

FUSED = ("dense", "multicrop")


def evaluation(cell, top1, seed=1, views=("dense",), rule=single_scale, images=1000, right=None, **more):
    """A line of results.jsonl: `C-256`, or `D-jitter+E-jitter`, errs in top1 % of the images, the last ones."""
    cells = cell.split("+")
    right = bits(images, top1) if right is None else right
    draws = [re.search("std001|glorot", name) for name in cells]
    values = {
        "runs": tuple(f"digits/{name}" + (f"-seed{seed}" if seed != 1 else "") for name in cells),
        "cells": tuple(cells),
        "draw": tuple(found[0] if found else "kaiming" for found in draws),
        "default_draw": "kaiming",
        "views": views,
        "q": tuple(tuple(rule(*next(s for key, s in TRAINING_SCALES.items() if f"-{key}" in name))) for name in cells),
        "images": images,
        "seed": (seed,) * len(cells),
        "top1": top1,
        "top1_interval": sampling.interval(right, np.arange(images)),
        "top1_correct": packed_bits(right),
        "majority_error": 90.0,
    }
    return line(**(values | more))


def seeds(cell, *errors, **more):
    """Evaluations of seeds 1, 2, ... with these errors."""
    return [evaluation(cell, top1, seed, **more) for seed, top1 in enumerate(errors, start=1)]


def verdicts(lines, fixed=(1, 2, 3)):
    return claims.verdicts(lines, "digits", fixed)


def claim(number, lines, fixed=(1, 2, 3)):
    return next(found for found in verdicts(lines, fixed) if found.claim.number == number)


def everything(rng, count, depth=0.0):
    """Every cell of the claims with `count` seeds, errors around 30 % with a spread of 1 between nets."""
    lines = []
    cells = list(dict.fromkeys(side for one in CLAIMS for step in one.steps for pair in step for side in pair))
    for seed in range(1, count + 1):
        nets = {run: rng.normal(30 - depth * place) for place, run in enumerate("ABCDE")}
        for side in cells:
            top1 = float(np.mean([nets[run[0]] for run in side.runs])) + rng.normal(0, 0.3)
            rule = multi_scale if side.several else single_scale
            lines.append(evaluation("+".join(side.runs), top1, seed, side.views, rule))
    return lines


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_decide_nothing_however_far_apart_the_errors(count):
    found = verdicts(everything(np.random.default_rng(0), count, depth=5), tuple(range(1, count + 1)))
    assert {each.verdict for each in found} <= {"undecided", "undecidable here"}
    assert all(np.isnan(each.p) for each in found)
    assert "fewer than 3 decide nothing" in found[1].reason


def test_only_the_fixed_seeds_decide_and_all_of_them_must_be_there():
    far = [*seeds("B-256", 30, 30.5, 29.7, 10), *seeds("C-256", 26.1, 25.8, 26.4, 80)]
    assert claim("3", far).verdict == "confirmed"
    assert claim("3", far).p == claim("3", [one for one in far if one.seed != (4,)]).p
    assert "4" in claims.comparison_cells(claim("3", far).comparisons[0])[5]
    assert "not all cells have seed 5" in claim("3", far, (1, 2, 3, 5)).reason
    assert "fixes no seeds of digits" in claim("3", far, None).reason
    assert "fixes 2 seeds" in claim("3", far, (1, 2)).reason


def test_one_comparison_of_different_nets_is_welchs_test():
    high, low = (30.0, 30.5, 29.7), (26.1, 25.8, 26.9)
    ours = claim("3", [*seeds("B-256", *high), *seeds("C-256", *low)])
    p = ttest_ind(low, high, equal_var=False, alternative="less").pvalue
    assert (ours.verdict, ours.p) == ("confirmed", pytest.approx(2 * p))
    ours = claim("3", [*seeds("B-256", *low), *seeds("C-256", *high)])
    assert (ours.verdict, ours.p) == ("denied", pytest.approx(2 * p))


def test_from_five_seeds_on_different_nets_are_compared_seed_by_seed():
    x, y = np.array([30.0, 35, 40, 33, 37]), np.array([28.5, 33.2, 38.4, 31.9, 35.1])
    ours = claim("3", [*seeds("B-256", *x), *seeds("C-256", *y)], (1, 2, 3, 4, 5))
    assert ours.p == pytest.approx(2 * ttest_1samp(y - x, 0, alternative="less").pvalue)
    assert ours.verdict == "confirmed"
    apart = claim("3", [*seeds("B-256", *x[:4]), *seeds("C-256", *y[:4])], (1, 2, 3, 4))
    assert apart.p == pytest.approx(2 * ttest_ind(y[:4], x[:4], equal_var=False, alternative="less").pvalue)
    assert apart.verdict == "undecided"


def test_parents_and_children_and_views_of_one_net_are_compared_seed_by_seed():
    assert [parent(run) for run in ("D-jitter", "D-384", "D-256", "A-256", "D-256-std001", "B-5x5-256")] == [
        *("D-384", "D-256", "A-256"),
        *(None, None, None),
    ]
    a, b, c, d = ((40.0, 45, 50), (38.5, 43.2, 48.4), (20, 20.1, 20.2), (10, 10.1, 10.2))
    lines = [one for net, errors in zip("ABCD", (a, b, c, d), strict=True) for one in seeds(f"{net}-256", *errors)]
    (step, *_) = claim("2a", lines).estimates
    assert step.freedom == 2
    assert step.variance == pytest.approx(np.var(np.subtract(b, a), ddof=1) / 3)


def test_a_claim_about_several_nets_is_one_test_on_the_mean_of_their_differences():
    rng = np.random.default_rng(0)
    single = {net: 30 + rng.normal(0, 1, 3) for net in ("B-256", *(f"{n}-{s}" for n in "CDE" for s in TRAINING_SCALES))}
    several = {net: errors - rng.normal(0.5, 0.4, 3) for net, errors in single.items()}
    lines = [one for net, errors in single.items() for one in seeds(net, *errors)]
    lines += [one for net, errors in several.items() for one in seeds(net, *errors, rule=multi_scale)]
    ours = claim("7", lines)
    differences = np.mean([several[net] - single[net] for net in single], axis=0)
    test = ttest_1samp(differences, 0, alternative="less")
    (found,) = ours.estimates
    assert found.difference / found.variance**0.5 == pytest.approx(test.statistic)
    assert ours.p >= 2 * test.pvalue
    assert 0 < sum(each.holds for each in ours.comparisons) <= 10
    assert ours.hold == f"{sum(each.difference < 0 for each in ours.comparisons)} of 10 hold"
    missing = claim("7", [one for one in lines if one.cells != ("E-384",)])
    assert (missing.verdict, missing.reason.partition(";")[0]) == ("undecided", "1 of 10 comparisons not run")


def test_depth_needs_each_of_its_steps_and_one_denies_it():
    nets = {net: seeds(f"{net}-256", e, e + 0.1, e - 0.1) for net, e in zip("ABCD", (50, 45, 40, 35), strict=True)}
    assert claim("2a", sum(nets.values(), [])).verdict == "confirmed"
    close = nets | {"D": seeds("D-256", 39.9, 40.2, 39.8)}
    ours = claim("2a", sum(close.values(), []))
    assert (ours.verdict, ours.hold) == ("undecided", "3 of 3 hold")
    worse = nets | {"C": seeds("C-256", 47, 47.1, 46.9)}
    ours = claim("2a", sum(worse.values(), []))
    assert (ours.verdict, ours.hold) == ("denied", "2 of 3 hold")
    assert claim("2a", []).verdict == "not run"


def test_fused_must_be_below_dense_and_below_multi_crop():
    lines = []
    for net, shift in (("D-jitter", 0.0), ("E-jitter", 1.0)):
        for views, errors in (
            (("dense",), (30, 30.3, 30.2)),
            (("multicrop",), (26, 26.2, 26.3)),
            (FUSED, (27, 27, 27)),
        ):
            lines += seeds(net, *(error + shift for error in errors), views=views, rule=multi_scale)
    ours = claim("8b", lines)
    assert (ours.verdict, ours.hold) == ("denied", "2 of 4 hold")  # though on average fused is far below
    assert claim("8a", lines).verdict == "confirmed"


def test_weights_that_were_trained_anew_since_decide_nothing():
    cells = [f"{net}-{scale}" for net in "CDE" for scale in TRAINING_SCALES] + ["B-256"]
    lines = [one for cell in cells for one in seeds(cell, 30, 31, 32)]
    lines += [one for cell in cells for one in seeds(cell, 28, 29, 30.1, rule=multi_scale)]
    assert claim("7", lines).verdict == "confirmed"
    lines.append(evaluation("D-jitter", 31, 2, weights_sha256=("another",)))  # trained anew
    ours = claim("7", lines)
    assert ours.verdict == "undecided"
    assert "D [256;512]† < D [256;512], seed 2: a net was trained anew after it was evaluated" in ours.reason
    assert ours.comparisons[6].seeds == [1, 3]
    again = [*seeds("D-jitter", 30, 31, 32), *seeds("D-jitter", 28, 29, 30.1, rule=multi_scale)]
    assert claim("7", lines + again).verdict == "confirmed"
    gone = [evaluation("D-jitter", 30, 4, weights_sha256=("gone",)), evaluation("D-jitter", 30, 4)]
    assert claim("7", lines + again + gone).verdict == "confirmed"  # seed 4 decides nothing


def test_no_spread_counts_as_one_image():
    ours = claim("3", [*seeds("B-256", 30, 30, 30), *seeds("C-256", 29.8, 29.8, 29.8)])
    assert ours.p == pytest.approx(2 * decision.stdtr(4, -0.2 / (0.1 * (2 / 3) ** 0.5)))
    assert ours.verdict == "undecided"


def test_at_chance_is_where_the_interval_reaches_the_most_frequent_class():
    trained, stuck = (30.0, 30.5, 29.7), (89.9, 89.9, 90.0)
    ours = claim("3", [*seeds("B-256", *stuck), *seeds("C-256", *trained)])
    assert (ours.verdict, ours.reason) == ("at chance", "digits/B-256 is at chance")
    assert np.isnan(ours.p)
    assert claim("3", [*seeds("B-256", *trained), *seeds("C-256", 30.0, 30.1, 89.9)]).verdict == "at chance"
    beyond = [*seeds("B-256", *trained, 90.0), *seeds("C-256", 26.1, 25.8, 26.4, 90.0)]
    assert claim("3", beyond).verdict == "confirmed"  # seed 4 decides nothing
    uneven = [*seeds("B-256", 30, 30.5, 29.7, majority_error=30.0), *seeds("C-256", 20.0, 20.1, 19.9)]
    assert claim("3", uneven).verdict == "at chance"
    without = seeds("D-256-std001-noA", *stuck)
    assert claim("10", [*seeds("D-256-std001", *trained), *without]).verdict == "confirmed"
    assert claim("10", [*seeds("D-256-std001", *stuck), *without]).verdict == "at chance"


@pytest.mark.parametrize(
    ("number", "y", "x", "verdict"),
    [
        ("2b", "E-256", (27.0, 27.1, 26.9), "confirmed"),
        ("2b", "E-256", (25.6, 27.1, 28.4), "undecided"),
        ("2b", "E-256", (28.2, 28.1, 28.3), "undecided"),  # by about MARGIN
        ("2b", "E-256", (30.0, 30.1, 29.9), "denied"),
        ("2b", "E-256", (24.0, 24.1, 23.9), "denied"),
        ("1", "A-LRN-256", (27.1, 27.0, 27.2), "confirmed"),
        ("1", "A-LRN-256", (31.1, 31.0, 31.2), "confirmed"),
        ("1", "A-LRN-256", (24.6, 27.1, 29.4), "undecided"),
        ("1", "A-LRN-256", (26.5, 26.4, 26.6), "denied"),  # better, though by less than MARGIN
        ("1", "A-LRN-256", (24.6, 24.5, 24.7), "denied"),
        ("11", "D-256-glorot-noA", (27.1, 27.0, 27.2), "confirmed"),
        ("11", "D-256-glorot-noA", (22.1, 22.0, 22.2), "confirmed"),
        ("11", "D-256-glorot-noA", (24.6, 27.1, 29.4), "undecided"),
        ("11", "D-256-glorot-noA", (28.1, 28.0, 28.2), "undecided"),
        ("11", "D-256-glorot-noA", (30.1, 30.0, 30.2), "denied"),
    ],
)
def test_equal_not_better_and_not_worse_within_the_margin(number, y, x, verdict):
    other = {"2b": "D-256", "1": "A-256", "11": "D-256-std001"}[number]
    ours = claim(number, [*seeds(y, *x, images=20_000), *seeds(other, 27.1, 27.0, 27.2, images=20_000)])
    assert ours.verdict == verdict


def disagreeing(images, photos_each):
    """E and D with 20 % errors each, on images of which a tenth only E has right and a tenth only D; and groups."""
    order = np.random.default_rng(0).permutation(images // photos_each).repeat(photos_each)
    share = np.random.default_rng(1).random(images // photos_each)[order]
    groups = sampling.packed_groups(np.unique(order, return_inverse=True)[1])
    right = {"E-256": ~((share > 0.1) & (share < 0.3)), "D-256": ~(share < 0.2)}
    return [
        evaluation(net, 100 * float((~right[net]).mean()), seed, right=right[net], images=images, groups=groups)
        for net in right
        for seed in (1, 2, 3)
    ]


def test_equality_takes_the_sampling_of_photos_in():
    few, many, scenes = (claim("2b", disagreeing(*size)) for size in ((600, 1), (60_000, 1), (60_000, 30)))
    assert (few.verdict, many.verdict, scenes.verdict) == ("undecidable here", "confirmed", "undecidable here")
    variance = np.var(np.subtract(*(one.correct().astype(int) for one in disagreeing(600, 1)[::3])), ddof=1)
    assert few.estimates[0].variance == pytest.approx((100 / 600) ** 2 * 2 / 3 + 1e4 * variance / 600)
    least = int(re.search("at least ([0-9,]+) images", few.reason)[1].replace(",", ""))
    assert least == np.ceil(1e4 * variance * 1.959964**2)
    of_scenes = int(re.search("at least ([0-9,]+) images", scenes.reason)[1].replace(",", ""))
    assert 20 * least < of_scenes < 40 * least  # 30 scenes of a photo are worth one
    for number in ("1", "2b", "11"):
        assert "images are needed to confirm it" in claim(number, everything(np.random.default_rng(0), 3)).reason


def test_groups_are_kept_without_loss_and_images_of_one_photo_are_one_sample():
    files = ["3/0012-0.jpg", "3/0012-1.jpg", "3/0457-0.jpg", "5/0012-2.jpg", "7/0001-0.jpg", "7/0001-1.jpg"]
    groups = sampling.groups_of("digits", files)
    assert groups.tolist() == [0, 0, 1, 0, 2, 2]
    assert sampling.groups_in(line(images=6, groups=sampling.packed_groups(groups))).tolist() == groups.tolist()
    assert sampling.groups_of("folder", files) is None
    assert sampling.packed_groups(np.arange(9)) is None
    assert sampling.groups_in(line()).tolist() == list(range(597))
    with pytest.raises(UserError, match="damaged"):
        sampling.groups_in(line(groups="AAAA"))
    with pytest.raises(UserError, match="6 images for 597"):
        sampling.groups_in(line(groups=sampling.packed_groups(groups)))
    right = np.random.default_rng(0).random(500) < 0.7
    once = sampling.interval(right, np.arange(500))
    assert once == pytest.approx(
        tuple(100 * end for end in binomtest(int((~right).sum()), 500).proportion_ci(method="wilson")), abs=1e-4
    )
    assert sampling.interval(right.repeat(4), np.arange(500).repeat(4)) == pytest.approx(once, abs=0.02)
    assert sampling.interval(np.ones(50, bool), np.arange(50))[0] == 0
    assert sampling.interval(np.ones(200, bool), np.arange(50).repeat(4)) == pytest.approx(
        sampling.interval(np.ones(50, bool), np.arange(50))
    )
    assert sampling.interval(np.zeros(50, bool), np.arange(50))[1] == 100


def test_mcnemar_is_the_exact_test_of_the_images_that_one_net_has_right():
    b = np.array([1] * 20 + [1] * 2 + [0] * 9 + [0] * 2, bool)
    c = np.array([1] * 20 + [0] * 2 + [1] * 9 + [0] * 2, bool)
    one, other = (evaluation(cell, 33.0, images=33, right=right) for cell, right in (("B-256", b), ("C-256", c)))
    assert sampling.mcnemar(one, other) == pytest.approx(binomtest(2, 11).pvalue)
    assert sampling.mcnemar(other, one) == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert sampling.mcnemar(one, one) == 1
    for change in ({"images_sha256": "of others"}, {"skipped": 1}):
        assert sampling.mcnemar(one, evaluation("C-256", 33.0, images=33, right=c, **change)) is None
    lines = [*seeds("B-256", 50, 30, 30)[1:], *seeds("C-256", 10, 30, 50)]
    assert claim("3", lines).comparisons[0].mcnemar == 1  # of seed 2


def test_mcnemar_counts_photos_where_several_images_show_one():
    b, c = np.array([1, 1, 0, 0, 0, 0] * 3, bool), np.array([0, 0, 1, 0, 0, 0] * 3, bool)
    groups = sampling.packed_groups(np.arange(9).repeat(2))
    one, other = (evaluation("B-256", 60.0, images=18, right=right, groups=groups) for right in (b, c))
    assert sampling.mcnemar(one, other) == pytest.approx(2 * sampling.ndtr(-(3 * 2 - 3) / (3 * 4 + 3) ** 0.5))


def test_every_undecided_claim_says_how_many_seeds_would_decide_it():
    for found in verdicts(everything(np.random.default_rng(0), 3)):
        assert found.verdict != "undecided" or re.search(r"(about|more than|at least) \d+ seeds", found.reason)
    pair = [*seeds("B-256", 30, 31), *seeds("C-256", 28, 29.5)]
    assert "about" in claim("3", pair).reason
    assert "at least 3 seeds" in claim("3", [pair[0], pair[2]]).reason


def test_the_number_of_seeds_is_where_the_power_of_the_test_is_enough():
    spread = decision.Spread(-1.0, 2.0, 1.0, 1.0, 0.0, True)
    count = decision.seeds_needed("<", [spread], 13)
    rng = np.random.default_rng(0)

    def share(seeds):
        d = rng.normal(-1, 2**0.5, (20_000, seeds))
        found = decision.estimate(d, np.zeros_like(d), related=True)
        return (2 * 13 * decision.statements("<", found)[0] < decision.ALPHA).mean()

    assert share(count) > 0.78
    level = decision.ALPHA / 13 / 2
    enough, fewer = (decision.power("<", spread, seeds, level)[0] for seeds in (count, count - 1))
    assert enough >= decision.POWER > fewer
    assert decision.seeds_needed("<", [spread._replace(difference=-20.0)], 13) == 3
    assert decision.seeds_needed("<", [spread._replace(difference=-0.01)], 13) is None
    assert decision.seeds_needed("≈", [spread._replace(difference=0.0, photos=1.0)], 13) is None
    assert decision.seeds_needed("<", [spread, spread], 13) > count


def test_holm_by_hand():
    assert decision.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert decision.holm(np.array([[0.5, 0.4], [0.9, 0.01]])) == pytest.approx(np.array([[0.8, 0.8], [0.9, 0.02]]))


def test_every_claim_that_is_tested_adds_to_the_family():
    lines = [*seeds("B-256", 30.0, 30.5, 29.7), *seeds("C-256", 28.9, 28.7, 28.5)]
    alone = claim("3", lines).p
    lines += [*seeds("D-256-std001", 30, 30.4, 30.2), *seeds("D-256-std001-noA", 30.2, 30, 30.1)]
    assert claim("3", lines).p == pytest.approx(2 * alone)


def test_grids_without_a_true_difference_seldom_have_a_verdict():
    measure = runpy.run_path(str(REPOSITORY / "benchmarks/claims.py"))
    for truth, spread, count in (("no difference", "up to 20-fold", 3), ("at the margins", "equal", 5)):
        true = measure["true_errors"](truth)
        right = measure["true_verdicts"](true)
        rng = np.random.default_rng(0)
        errors = measure["drawn"](rng, true, (1000, count), spread, 0.5)
        confirmed, denied = measure["by_rule"](rng, errors, rng.uniform(0, 0.5, 1000))
        wrong = ((confirmed & ~right[:, 0]) | (denied & ~right[:, 1])).any(-1).mean()
        assert 0.005 < wrong < 0.05
        assert (denied | confirmed).any(-1).mean() > wrong


@pytest.mark.parametrize(
    "change",
    [
        {"runs": ("digits/C-256-mine",)},
        {"runs": ("digits/C-256-lr0.01",)},
        {"runs": ("photos/C-256",)},
        {"runs": ("digits/C-256-noA",)},
        {"runs": ("digits/C-256-seed2",)},  # a tag: its seed is 1
        {"runs": ("digits/C-256-kaiming",)},  # a tag: it is the default draw
        {"softmax": "first"},
        {"ceil_mode": (True,)},
        {"q": ((384,),)},
        {"views": ("center",)},
    ],
)
def test_other_settings_than_the_papers_are_no_cell(change):
    assert claim("3", [evaluation("B-256", 30), evaluation("C-256", 20)]).verdict == "undecided"
    assert claim("3", [evaluation("B-256", 30), evaluation("C-256", 20, **change)]).verdict == "not run"


def test_the_order_of_nets_scales_and_views_does_not_matter():
    pair = evaluation("E-jitter+D-jitter", 10, views=FUSED[::-1], rule=lambda *ends: multi_scale(*ends)[::-1])
    member = evaluation("D-jitter", 20, views=FUSED, rule=multi_scale)
    assert claim("9", [pair, member]).comparisons[0].difference == -10
    of_two_seeds = evaluation("D-jitter+E-jitter", 10, views=FUSED, rule=multi_scale)
    assert claim("9", [replace(of_two_seeds, seed=(1, 2)), member]).verdict == "not run"


def drawn(name, draw, default, top1=30.0):
    return evaluation(name, top1, draw=(draw,), default_draw=default)


def test_draws_are_told_by_the_lines():
    glorot, std001 = drawn("D-256-noA", "glorot", "glorot"), drawn("D-256-std001", "std001", "glorot", 20.0)
    assert claim("11", [glorot, std001]).comparisons[0].difference == 10
    default = [drawn("D-256-glorot-noA", "glorot", "std001"), drawn("D-256", "std001", "std001")]
    assert claim("11", default).comparisons[0].difference == 0
    assert claim("4", [drawn("D-256", "std001", "std001"), drawn("C-256", "std001", "std001")]).verdict == "undecided"
    for tagged in (drawn("D-256-std001", "glorot", "glorot"), drawn("D-256-std001", "std001", "std001")):
        assert claim("11", [glorot, tagged]).verdict == "not run"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.number)
def test_a_claims_ablation_trains_every_net_that_it_compares(claim):
    cells = yaml.safe_load((REPOSITORY / "conf" / "ablation" / f"{claim.ablation}.yaml").read_bytes())["cells"]
    assert {run for step in claim.steps for sides in step for side in sides for run in side.runs} <= set(cells)


def test_the_papers_differences():
    found = {number: [ours.paper for ours in claim(number, []).comparisons] for number in ("1", "2a", "5", "9", "10")}
    assert found["1"] == pytest.approx([0.1])
    assert found["2a"] == pytest.approx([-0.9, -0.6, -1.1])
    assert found["5"] == [-7]
    assert found["9"] == pytest.approx([-0.7, -0.7])
    assert np.isnan(found["10"]).all()


def test_claims_take_sides_of_one_origin(runs, monkeypatch):
    monkeypatch.setattr(claims, "FIXED_SEEDS", runs / "seeds.yaml")
    (runs / "seeds.yaml").write_text("digits: [1, 2, 3]\n")
    append(runs, *seeds("B-256", 30.0, 30.5, 29.7))
    selection.keep("digits", runs)
    (runs / "digits/results.jsonl").unlink()
    append(runs, *seeds("C-256", 26.1, 25.8, 26.4))
    for mine in (False, True):
        assert {found.verdict for found in claims.decided(Origins("digits", runs, mine))} == {"not run"}
    append(runs, *seeds("B-256", 30.0, 30.5, 29.7))
    assert "confirmed" in {found.verdict for found in claims.decided(Origins("digits", runs, mine=True))}


@pytest.mark.parametrize("text", ["digits: 3", "digits: [1, 1]", "digits: [a]", "digits: [", "[1]"])
def test_seeds_that_are_no_list_are_refused(tmp_path, monkeypatch, text):
    monkeypatch.setattr(claims, "FIXED_SEEDS", tmp_path / "seeds.yaml")
    (tmp_path / "seeds.yaml").write_text(text)
    with pytest.raises(UserError, match=r"seeds\.yaml"):
        claims.fixed_seeds("digits")


@pytest.fixture
def rendered(runs, monkeypatch):
    """The rendering of these lines."""
    monkeypatch.setattr(claims, "fixed_seeds", lambda data: (1, 2, 3))

    def of(lines, form="text"):
        (runs / "digits/results.jsonl").write_text("")
        append(runs, *lines)
        return claims.rendered(Origins("digits", runs), form)

    return of


def test_the_text_fits_and_says_what_was_not_run(rendered):
    for lines in ([], everything(np.random.default_rng(0), 3, depth=2)):
        text = rendered(lines)
        assert max(map(len, text.splitlines())) <= 120
        assert all(f"\n{number} " in text for number in ("1", "2a", "2b", "8b", "11"))
    assert rendered([]).count("not run") == 13 + 34
    assert "\n  B 256 < B-5x5 256, centre crop " in rendered([])
    text = rendered(seeds("B-256", 30, 31) + seeds("C-256", 28)).splitlines()
    place = next(place for place, row in enumerate(text) if row.startswith("3 "))
    assert text[place].split()[-2:] == ["–", "undecided"]
    assert text[place + 1] == "  1 of 1 hold; not all cells have seeds 2, 3; at least 3 seeds would decide it"
    assert text[place + 2].split()[5:] == ["30.5", "→", "28.0", "-2.0", "-0.6", "<0.001", "1/2", "holds"]


def test_markdown_has_the_same_rows(rendered):
    shown = rendered(seeds("B-256", 30, 31) + seeds("C-256", 28), "markdown")
    rows = [text for text in shown.splitlines() if text.startswith("|")]
    assert len(rows) == 2 + 13 + 34
    assert {row.count("|") for row in rows} == {9}
    assert any(row.startswith("| **3 Additional non-linearity helps (section 4.1)**; 1 of 1 hold; ") for row in rows)
