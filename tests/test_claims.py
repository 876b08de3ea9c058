import base64

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_ind

from vgg import claims, posteriors, tables
from vgg.scales import multi_scale, single_scale

SCALES = {"256": (256, 256), "384": (384, 384), "jitter": (256, 512)}
FUSED = ("dense", "multicrop")


def evaluation(cell, top1, seed=1, views=("dense",), rule=single_scale, images=1000, right=None, **more):
    """A line of results.jsonl: `C-256`, or `D-jitter+E-jitter`, errs in top1 % of the images, the last ones."""
    cells = cell.split("+")
    wrong = round(top1 * images / 100)
    if right is None:
        right = np.arange(images) < images - wrong
    return {
        "runs": [f"digits/{name}" + (f"-seed{seed}" if seed != 1 else "") for name in cells],
        "views": list(views),
        "q": [list(rule(*SCALES[next(scale for scale in SCALES if f"-{scale}" in name)])) for name in cells],
        "softmax": "last",
        "ceil_mode": [False] * len(cells),
        "precision": "32-true",
        "images_sha256": "of the digits",
        "data": "digits",
        "images": images,
        "classes": 10,
        "scale": [0.125],
        "width": [0.125],
        "seed": [seed] * len(cells),
        "top1": top1,
        "top1_interval": list(posteriors.interval(wrong, images)),
        "top1_correct": base64.b64encode(np.packbits(right).tobytes()).decode(),
    } | more


def seeds(cell, *errors, **more):
    """Evaluations of seeds 1, 2, ... with these errors."""
    return [evaluation(cell, top1, seed, **more) for seed, top1 in enumerate(errors, start=1)]


def claim(number, lines):
    return next(found for found in claims.verdicts(lines) if found.number == number)


def only(number, lines):
    """The one comparison of a claim."""
    (comparison,) = claim(number, lines).comparisons
    return comparison


def everything(rng, count, depth=0.0):
    """Every cell of the claims with `count` seeds, errors around 30 % with a spread of 1 between nets."""
    lines = []
    fixed = ["A-256", "A-LRN-256", "B-256", "B-5x5-256"] + [f"{net}-{scale}" for net in "CDE" for scale in SCALES]
    for seed in range(1, count + 1):
        nets = {name: rng.normal(30 - depth * place) for place, name in enumerate(fixed)}
        extra = [f"D-256-{start}" for start in ("std001", "std001-noA", "glorot-noA")]
        lines += [evaluation(name, rng.normal(30), seed) for name in extra]
        nets["D-jitter+E-jitter"] = (nets["D-jitter"] + nets["E-jitter"]) / 2
        cells = [(name, ("dense",), single_scale) for name in fixed]
        cells += [(name, ("dense",), multi_scale) for name in nets if name[0] in "BCDE"]
        cells += [(name, ("center",), single_scale) for name in ("B-256", "B-5x5-256")]
        cells += [(name, views, multi_scale) for name in nets if "jitter" in name for views in (("multicrop",), FUSED)]
        for name, views, rule in cells:
            top1 = rng.normal(nets[name], 0.3)
            lines.append(evaluation(name, top1, seed, views, rule, images=100_000, right=np.zeros(0, bool)))
    return lines


def test_one_seed_shows_nothing_however_far_apart_the_errors():
    found = claims.verdicts(everything(np.random.default_rng(0), 1, depth=2))
    assert {comparison.verdict for each in found for comparison in each.comparisons} == {"undecided"}
    assert {each.verdict for each in found} == {"undecided"}
    assert all(np.isnan(comparison.p) for each in found for comparison in each.comparisons)


def test_mcnemar_is_the_exact_test_of_the_images_that_one_net_has_right():
    b = np.array([1] * 20 + [1] * 2 + [0] * 9 + [0] * 2, bool)
    c = np.array([1] * 20 + [0] * 2 + [1] * 9 + [0] * 2, bool)
    one, other = (evaluation(cell, 33.0, images=33, right=bits) for cell, bits in (("B-256", b), ("C-256", c)))
    p = only("3", [one, other]).mcnemar
    assert p == pytest.approx(binomtest(2, 11).pvalue) == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    swapped = [evaluation("C-256", 33.0, images=33, right=b), evaluation("B-256", 33.0, images=33, right=c)]
    assert only("3", swapped).mcnemar == p
    assert only("3", [one, one | {"runs": ["digits/C-256"]}]).mcnemar == 1


def test_mcnemar_takes_the_lowest_seed_of_both_sides():
    right = np.arange(1000) < 700
    lines = [*seeds("B-256", 50, 30, 30)[1:], *seeds("C-256", 10, 30, 50)]
    assert only("3", lines).mcnemar == 1
    assert only("3", [evaluation("B-256", 30, 2), evaluation("C-256", 10, 3, right=right)]).mcnemar != 1


@pytest.mark.parametrize(
    "change",
    [
        {"images_sha256": "of others"},
        {"images": 999},
        {"skipped": 1},
        {"top1_correct": "AAAA"},
        {"top1_correct": "A"},
        {"top1_correct": "é"},
    ],
)
def test_no_mcnemar_where_the_bits_are_not_of_the_same_images(change):
    for changed, kept in (("B-256", "C-256"), ("C-256", "B-256")):
        assert np.isnan(only("3", [evaluation(changed, 30) | change, evaluation(kept, 20)]).mcnemar)
    assert not np.isnan(only("3", [evaluation("B-256", 30, skipped=0), evaluation("C-256", 20)]).mcnemar)


def test_three_clear_seeds_confirm_and_reversed_deny_by_students_t():
    high, low = (30.0, 30.5, 29.7), (26.1, 25.8, 26.4)
    ours = only("3", [*seeds("B-256", *high), *seeds("C-256", *low)])
    assert ours.verdict == "confirmed"
    assert ours.p == pytest.approx(2 * ttest_ind(low, high, alternative="less").pvalue)
    assert ours.difference == pytest.approx(np.mean(low) - np.mean(high))
    ours = only("3", [*seeds("B-256", *low), *seeds("C-256", *high)])
    assert ours.verdict == "denied"
    assert ours.p == pytest.approx(2 * ttest_ind(low, high, alternative="less").pvalue)


def test_the_spread_of_other_nets_decides_where_a_cell_has_one_seed():
    pair = [evaluation("D-256", 35.0), evaluation("C-256", 45.0)]
    others = [*seeds("A-256", 60.0, 60.5, 59.5), *seeds("B-256", 50.0, 50.3, 49.4)]
    assert only("4", pair).verdict == "undecided"
    assert only("4", [*pair, *seeds("A-256", 60.0, 60.5), *seeds("B-256", 50.0)]).verdict == "undecided"  # 1 degree
    ours = only("4", [*pair, *others])
    assert ours.verdict == "confirmed"
    squares = 3 * np.var([60.0, 60.5, 59.5]) + 3 * np.var([50.0, 50.3, 49.4])
    p = claims.stdtr(4, -10 / (squares / 4 * 2) ** 0.5)
    own = ttest_ind((50.0, 50.3, 49.4), (60.0, 60.5, 59.5), alternative="less").pvalue
    assert own < p  # B < A has the smaller p; C < B has two seeds fewer on one side only
    family = sorted([own, claims.stdtr(4, -(49.9 - 45) / (squares / 4 * (1 + 1 / 3)) ** 0.5), p])
    assert ours.p == pytest.approx(max((6 - place) * each for place, each in enumerate(family) if each <= p))


def test_two_seeds_have_no_variance_of_their_own():
    pair = [*seeds("B-256", 30.0, 30.4), *seeds("C-256", 25.0, 25.3)]
    assert only("3", pair).p == pytest.approx(2 * ttest_ind((25.0, 25.3), (30.0, 30.4), alternative="less").pvalue)
    assert only("3", [*pair, *seeds("D-256", 20, 30, 40)]).verdict == "undecided"


def test_a_net_seen_in_several_views_counts_once_in_the_pool():
    errors = np.array([30.0, 31.0, 32.0])
    assert claims.pooled([("B", errors), ("B", errors + 1)]) == pytest.approx((1, 2))
    assert claims.pooled([("B", errors), ("C", 3 * errors), ("D", errors[:1])]) == pytest.approx((5, 4))
    assert claims.pooled([("B", errors), ("B", errors[:1])]) == pytest.approx((1, 2))
    assert claims.pooled([])[1] == 0


def test_the_pool_knows_a_net_by_any_of_its_seeds():
    lines = [*seeds("B-256", 30, 31, 32), evaluation("C-256", 5)]
    for cell, errors in (("B-256", (31.0, 31.5)), ("B-5x5-256", (31.2, 31.9))):
        lines += [evaluation(cell, top1, seed, views=["center"]) for seed, top1 in zip((2, 3), errors, strict=True)]
    squares = (2 + 0.5**2 / 2) / 2 + 0.7**2 / 2
    p = claims.stdtr(2.5, -26 / (squares / 2.5 * (1 + 1 / 3)) ** 0.5)
    assert only("3", lines).p == pytest.approx(4 * p)


def test_seeds_are_paired_where_both_sides_share_a_net():
    single, multi = (30.0, 35.0, 40.0), (28.5, 33.2, 38.4)
    assert ttest_ind(multi, single, alternative="less").pvalue > 0.3
    lines = [*seeds("D-jitter", *single), *seeds("D-jitter", *multi, rule=multi_scale)]
    ours = claim("7", lines).comparisons[8]
    assert (ours.label, ours.verdict) == ("D [256;512]† < D [256;512]", "confirmed")
    assert ours.p == pytest.approx(2 * ttest_1samp(np.subtract(multi, single), 0, alternative="less").pvalue)
    shuffled = [*seeds("D-jitter", *single), *seeds("D-jitter", *multi[::-1], rule=multi_scale)]
    assert claim("7", shuffled).comparisons[8].verdict == "undecided"
    ensemble = seeds("D-jitter+E-jitter", *multi, views=FUSED, rule=multi_scale)
    members = seeds("E-jitter", *single, views=FUSED, rule=multi_scale)
    assert [ours.verdict for ours in claim("9", ensemble + members).comparisons] == ["not run", "confirmed"]


def test_only_seeds_of_both_sides_make_a_pair():
    lines = [*seeds("D-jitter", 30, 31), evaluation("D-jitter", 29, 2, rule=multi_scale)]
    ours = claim("7", lines).comparisons[8]
    assert [list(side) for side in ours.sides] == [[2], [2]]
    assert ours.difference == -2
    assert claim("7", [lines[0], lines[2]]).comparisons[8].verdict == "not run"


def test_pairs_of_other_nets_decide_a_pair_with_one_seed():
    def pairs(cell, *errors):
        return [
            *seeds(cell, *errors),
            *seeds(cell, *(e - 2 + 0.1 * seed for seed, e in enumerate(errors)), rule=multi_scale),
        ]

    alone = claim("7", pairs("D-jitter", 30)).comparisons[8]
    among = claim("7", [*pairs("D-jitter", 30), *pairs("C-384", 40, 44, 49), *pairs("E-256", 35, 31, 33)])
    assert (alone.verdict, among.comparisons[8].verdict) == ("undecided", "confirmed")


def test_pairs_are_pooled_within_their_claim_and_both_members_of_an_ensemble_count_once():
    lines = [*seeds("D-jitter", 30, 31, 32, rule=multi_scale), *seeds("E-jitter", 31, 30, rule=multi_scale)]
    lines += [*seeds("D-jitter", 33, 34, 35), *seeds("E-jitter", 34, 33)]  # claim 7
    lines += seeds("E-jitter", 20, views=["multicrop"], rule=multi_scale)  # claim 8a
    assert claim("7", lines).comparisons[9].verdict == "confirmed"
    assert [ours.verdict for ours in claim("8a", lines).comparisons] == ["not run", "undecided"]
    nets = {"D-jitter+E-jitter": (20, 21), "D-jitter": (30, 31.1), "E-jitter": (30, 31)}
    fused = [seeds(net, *errors, views=FUSED, rule=multi_scale) for net, errors in nets.items()]
    assert [ours.verdict for ours in claim("9", sum(fused, [])).comparisons] == ["undecided"] * 2


def test_no_spread_counts_as_one_image():
    ours = only("3", [*seeds("B-256", 30, 30, 30), *seeds("C-256", 29.8, 29.8, 29.8)])
    assert ours.p == pytest.approx(2 * claims.stdtr(4, -0.2 / (0.1 * (2 / 3) ** 0.5)))
    assert ours.verdict == "undecided"


def test_at_chance_decides_nothing_but_as_what_net_a_is_compared_with():
    trained, stuck = (30.0, 30.5, 29.7), (89.9, 89.9, 90.0)
    ours = only("3", [*seeds("B-256", *stuck), *seeds("C-256", *trained)])
    assert ours.verdict == claim("3", [*seeds("B-256", *stuck), *seeds("C-256", *trained)]).verdict == "at chance"
    assert np.isnan(ours.p)
    assert only("3", [*seeds("B-256", *trained), *seeds("C-256", 30.0, 30.1, 89.9)]).verdict == "at chance"
    without = seeds("D-256-std001-noA", *stuck)
    assert only("10", [*seeds("D-256-std001", *trained), *without]).verdict == "confirmed"
    assert only("10", [*seeds("D-256-std001", *stuck), *without]).verdict == "at chance"
    reversed_roles = [*seeds("D-256-std001", *stuck), *seeds("D-256-std001-noA", *trained)]
    assert only("10", reversed_roles).verdict == "at chance"


def test_nets_at_chance_are_in_no_pool():
    stuck = [*seeds("D-256-std001", 30), *seeds("D-256-std001-noA", 89.9, 89.9, 90.0)]
    assert only("10", stuck).verdict == "undecided"


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
    assert only(number, [*seeds(y, *x), *seeds(other, 27.1, 27.0, 27.2)]).verdict == verdict


def test_holm_by_hand():
    assert claims.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert claims.holm(np.array([0.5, 0.4])) == pytest.approx([0.8, 0.8])
    assert claims.holm(np.array([0.9, 0.7, 0.6])).max() == 1


def test_every_comparison_with_a_p_adds_its_two_statements_to_the_family():
    """And its seeds to the variance, which all comparisons of different nets share."""
    errors = {"B-256": (30.0, 30.5, 29.7), "C-256": (28.9, 28.7, 28.5)}

    def expected(family: int) -> float:
        squares = sum(((np.array(values) - np.mean(values)) ** 2).sum() for values in errors.values())
        freedom = sum(len(values) - 1 for values in errors.values())
        difference = np.mean(errors["C-256"]) - np.mean(errors["B-256"])
        return family * claims.stdtr(freedom, difference / (squares / freedom * 2 / 3) ** 0.5)

    def found() -> float:
        return only("3", [line for name, values in errors.items() for line in seeds(name, *values)]).p

    assert found() == pytest.approx(expected(2))
    assert found() == pytest.approx(2 * ttest_ind(errors["C-256"], errors["B-256"], alternative="less").pvalue)
    errors |= {"D-256-std001": (30, 30.4, 30.2), "D-256-std001-noA": (30.2, 30, 30.1)}
    assert found() == pytest.approx(expected(4))
    errors["D-256-glorot-noA"] = (31, 31.2, 31.1)
    assert found() == pytest.approx(expected(6))
    more = [line for name, values in errors.items() for line in seeds(name, *values)]
    assert only("3", [*more, evaluation("E-256", 40), evaluation("E-384", 40)]).p == pytest.approx(expected(6))


@pytest.mark.parametrize(("count", "grids"), [(2, 100), (3, 200)])
def test_without_a_true_difference_a_grid_seldom_has_any_verdict(monkeypatch, count, grids):
    monkeypatch.setattr(claims, "MARGIN", 0.0)  # no difference is then the boundary of every kind of comparison
    rng = np.random.default_rng(count)
    wrong = 0
    for _ in range(grids):
        found = claims.verdicts(everything(rng, count))
        wrong += any(comparison.verdict != "undecided" for each in found for comparison in each.comparisons)
    assert 0 < wrong <= 0.08 * grids


def test_a_claim_is_confirmed_by_all_comparisons_and_denied_by_one():
    a, b, c, d = (seeds(f"{net}-256", e, e + 0.1, e - 0.1) for net, e in zip("ABCD", (50, 45, 40, 35), strict=True))
    assert claim("2a", [*a, *b, *c, *d]).verdict == "confirmed"
    assert claim("2a", [*a, *b, *c]).verdict == "undecided"
    assert [ours.verdict for ours in claim("2a", [*a, *b, *c]).comparisons] == ["confirmed", "confirmed", "not run"]
    worse = seeds("C-256", 47, 47.1, 46.9)
    assert [ours.verdict for ours in claim("2a", [*a, *b, *worse]).comparisons] == ["confirmed", "denied", "not run"]
    assert claim("2a", [*a, *b, *worse]).verdict == claim("3", [*a, *b, *worse]).verdict == "denied"
    assert claim("2a", [*a, *b, *c, *d]).comparisons[1] == only("3", [*a, *b, *c, *d])
    assert claim("2a", []).verdict == "not run"


def test_tags_and_other_settings_are_left_out_and_the_last_line_wins():
    b, c = evaluation("B-256", 30), evaluation("C-256", 20)
    for change in (
        {"runs": ["digits/C-256-mine"]},
        {"runs": ["photos/C-256"]},
        {"runs": ["digits/C-256-noA"]},
        {"runs": ["digits/C-256-seed2"]},  # a tag: its seed is 1
        {"softmax": "first"},
        {"ceil_mode": [True]},
        {"q": [[384]]},
        {"views": ["center"]},
    ):
        assert only("3", [b, c | change]).verdict == "not run"
    assert only("3", [b, c, c | {"precision": "bf16-mixed", "top1": 25.0}]).difference == -5
    pair = evaluation("D-jitter+E-jitter", 10, views=FUSED, rule=multi_scale) | {"seed": [1, 2]}
    member = evaluation("D-jitter", 20, views=FUSED, rule=multi_scale)
    assert claim("9", [pair, member]).verdict == "not run"


def test_the_order_of_nets_scales_and_views_does_not_matter():
    pair = evaluation("E-jitter+D-jitter", 10, views=FUSED[::-1], rule=lambda *ends: multi_scale(*ends)[::-1])
    assert (
        claim("9", [pair, evaluation("D-jitter", 20, views=FUSED, rule=multi_scale)]).comparisons[0].difference == -10
    )


def drawn(name, draw, default, top1=30.0):
    return evaluation(name, top1, draw=[draw], from_a=[not name.endswith("-noA")], default_draw=default)


def test_draws_are_told_by_the_lines_or_by_the_names():
    glorot = drawn("D-256-noA", "glorot", "glorot")
    std001 = drawn("D-256-std001", "std001", "glorot", 20.0)
    assert only("11", [glorot, std001]).difference == 10
    assert (
        only("11", [drawn("D-256-glorot-noA", "glorot", "std001"), drawn("D-256", "std001", "std001")]).difference == 0
    )
    assert only("11", [evaluation("D-256-glorot-noA", 30), evaluation("D-256-std001", 20)]).difference == 10
    assert only("11", [evaluation("D-256-noA", 30), std001]).verdict == "not run"
    default = [drawn("D-256", "std001", "std001"), drawn("C-256", "std001", "std001")]
    assert only("4", default).verdict == "undecided"
    for tagged in (drawn("D-256-std001", "glorot", "glorot"), drawn("D-256-std001", "std001", "std001")):
        assert only("11", [glorot, tagged]).verdict == "not run"


def test_nothing_is_shown_between_different_images():
    lines = [*seeds("B-256", 30.0, 30.5, 29.7), *seeds("C-256", 26.1, 25.8, 26.4, images_sha256="of others")]
    assert only("3", lines).verdict == "undecided"


def test_the_papers_differences():
    found = {number: [ours.paper for ours in claim(number, []).comparisons] for number in ("1", "2a", "5", "9", "10")}
    assert found["1"] == pytest.approx([0.1])
    assert found["2a"] == pytest.approx([-0.9, -0.6, -1.1])
    assert found["5"] == [-7]
    assert found["9"] == pytest.approx([-0.7, -0.7])
    assert np.isnan(found["10"]).all()


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """The rendering of these lines."""

    def of(lines, form="text"):
        monkeypatch.setattr(claims, "results", lambda data, runs: lines)
        return claims.rendered("digits", tmp_path, form)

    return of


def test_the_text_fits_and_says_what_was_not_run(rendered):
    far = [line | {"top1": 100.0 * (line["seed"][0] % 2)} for line in everything(np.random.default_rng(0), 12)]
    for lines in ([], everything(np.random.default_rng(0), 3, depth=2), far):
        text = rendered(lines)
        assert max(map(len, text.splitlines())) <= 120
        assert all(f"\n{number} " in text for number in ("1", "2a", "2b", "8b", "11"))
    assert rendered([]).count("not run") == 13 + 34
    assert "\n  B 256 < B-5x5 256, center " in rendered([])
    row = next(text for text in rendered(seeds("B-256", 30, 31) + seeds("C-256", 28)).splitlines() if "C 256 <" in text)
    assert row.split("  ")[1] == "C 256 < B 256"
    assert row.split()[5:] == ["30.5", "→", "28.0", "-2.5", "-0.6", "<0.001", "1/2", "–", "undecided"]


def test_markdown_has_the_same_rows(rendered):
    shown = rendered(seeds("B-256", 30, 31) + seeds("C-256", 28), "markdown")
    rows = [text for text in shown.splitlines() if text.startswith("|")]
    assert len(rows) == 2 + 13 + 34
    assert {row.count("|") for row in rows} == {9}
    assert "| **3 Additional non-linearity helps (section 4.1)** |  |  |  |  |  |  | **undecided** |" in rows
    assert "*" not in "".join(rows).replace("**", "")


def test_the_lines_of_the_tables_are_decided(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "curated", lambda data, kind="results": tmp_path / f"{data}-{kind}.jsonl")
    assert "not run" in claims.rendered("digits", tmp_path)
