"""Tables 11 and 12, ours beside the paper's."""

from dataclasses import replace

from conftest import append
from conftest import transfer as line

from vgg.appendix.transfer import tables as transfer_tables
from vgg.evaluation import selection
from vgg.evaluation.records import Transfer
from vgg.evaluation.selection import Origins
from vgg.report import tables


def rows(place: str, *lines: Transfer) -> list[list[str]]:
    return transfer_tables.table(place, list(lines))[1]


def test_ours_stands_beside_the_papers_row_of_the_same_nets_and_descriptors():
    both = line(runs=["imagenette/E-jitter", "imagenette/D-jitter"], cells=["E-jitter", "D-jitter"], mean=60.0)
    found = rows(
        "Table 11", line(), both, line(features="pixels"), line(combine="average"), line(runs=["imagenette/D-256"])
    )
    assert len(found) == 8 + 3
    ours = ["fc7, Q = 256, 384, 512 stacked", "imagenette → caltech20, 30 a class"]
    assert found[5] == ["D", *ours, "54.3 ± 1.2", "89.3", "89.0", "91.8 ± 1.0", "85.0 ± 0.2"]
    assert found[6] == ["E", "–", "–", "–", "89.3", "89.0", "92.3 ± 0.5", "85.1 ± 0.3"]
    assert found[7][0] == "D & E"
    assert found[7][3] == "60.0 ± 1.2"
    assert [row[4:] for row in found[8:]] == [["–"] * 4] * 3
    assert [row[1].split(",")[0] for row in found[8:]] == ["pixels", "fc7", "fc7"]


def test_the_papers_number_beside_is_of_the_same_protocol():
    assert transfer_tables.papers(line()) == "91.8 ± 1.0 %, D on Caltech-101 (Table 11)"
    assert transfer_tables.papers(line(train=60)) == "85.0 ± 0.2 %, D on Caltech-256 (Table 11)"
    assert transfer_tables.papers(line(train=10)) is None
    assert transfer_tables.papers(line(features="random")) is None
    voc = {"labels": "objects", "q": [256, 384, 512, 640, 768], "combine": "average", "year": 2007}
    assert transfer_tables.papers(line(**voc)) == "89.3 %, D on VOC-2007 (Table 11)"
    assert transfer_tables.papers(line(**(voc | {"year": 2010}))) is None
    actions = line(labels="actions", person_boxes=True, runs=["x/D", "x/E"], cells=["E-jitter", "D-jitter"])
    assert transfer_tables.papers(actions) == "84.0 %, D & E, image and person box on VOC-2012 (Table 12)"


def test_actions_are_in_table_12_alone():
    actions = line(
        labels="actions",
        person_boxes=False,
        runs=["imagenette/D-jitter", "imagenette/E-jitter"],
        train="train",
        spread=None,
    )
    assert len(rows("Table 11", actions)) == 8
    found = rows("Table 12", actions, replace(actions, cells=("D-jitter",), runs=("imagenette/D-jitter",)))
    assert found[3][:5] == [
        "D & E, image",
        "fc7, Q = 256, 384, 512 stacked",
        "imagenette → caltech20, train",
        "54.3",
        "79.2",
    ]
    assert found[-1][0] == "D-jitter"


def test_transfers_are_kept_and_rendered_and_the_last_line_with_a_key_wins(runs):
    append(runs, line(), line(mean=60.0), line(split_seed=2))
    assert list(selection.keep("digits", runs).values()) == [2]
    assert not selection.curated("digits").is_file()
    append(runs, line(mean=70.0), line(split_seed=3, mean=80.0))
    assert [one.mean for one in Origins("digits", runs).kept(Transfer)] == [60.0, 54.321]
    for form in ("text", "markdown", "csv"):
        shown = tables.rendered(Origins("digits", runs), form)
        assert "60.0 ± 1.2" in shown
        assert "image and person box" in shown
    (_, header, body), _ = transfer_tables.tables(Origins("digits", runs))
    pairs = [tuple(row[3:5]) for row in body if row[0] == "D"]
    assert header[3:5] == ["ours", "yours"]
    assert pairs == [("60.0 ± 1.2", "70.0 ± 1.2"), ("54.3 ± 1.2", "54.3 ± 1.2"), ("–", "80.0 ± 1.2")]
