import sys

import pytest
from conftest import composed

from vgg.commands import cli
from vgg.runs.run import Run


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A finished, a stopped and a training run, and two arrays; `vgg clean WORDS`."""
    for net in "ABC":
        Run.named(f"digits/{net}-256", tmp_path / "runs").prepare(composed(f"model={net}", "train_scale=S256"), None)
    (tmp_path / "runs/digits/A-256/weights.pt").write_bytes(b"weights")
    (tmp_path / "runs/digits/results.jsonl").write_text("")
    (tmp_path / "cache/posteriors").mkdir(parents=True)
    for name in ("a.npz", "b.npz"):
        (tmp_path / "cache/posteriors" / name).write_bytes(bytes(500_000))

    def clean(*words):
        monkeypatch.setattr(
            sys, "argv", ["vgg", "clean", *words, f"--runs={tmp_path / 'runs'}", f"--cache={tmp_path / 'cache'}"]
        )
        cli.main()

    with Run.named("digits/C-256", tmp_path / "runs").lock():
        yield tmp_path, clean


def left(folder):
    return {str(path.relative_to(folder)) for path in [*folder.glob("runs/digits/*"), *folder.rglob("*.npz")]}


def test_it_says_what_there_is_and_removes_nothing_without_yes(files, capsys):
    folder, clean = files
    before = left(folder)
    clean()
    assert "posteriors       2        1.0 MB" in capsys.readouterr().out
    clean("posteriors", "unfinished")
    output = capsys.readouterr().out
    assert f"{folder}/runs/digits/B-256" in output
    assert "--yes removes them" in output
    assert left(folder) == before


def test_finished_and_training_runs_and_result_lines_stay(files):
    folder, clean = files
    clean("posteriors", "unfinished", "--yes")
    assert left(folder) == {f"runs/digits/{name}" for name in ("A-256", "C-256", "results.jsonl")}


def test_what_it_does_not_know_is_refused_and_nothing_removed(files, capsys):
    folder, clean = files
    before = left(folder)
    with pytest.raises(SystemExit, match="weights: choose from posteriors, indexes, parquet, unfinished"):
        clean("posteriors", "weights", "--yes")
    assert left(folder) == before
