"""The notebooks run from top to bottom, define nothing of their own, and stay small."""

import ast
from pathlib import Path

import matplotlib
import matplotlib.font_manager  # which makes the cache of fonts where there is none: seconds, and a line on stderr
import nbformat
import pytest
from conftest import environment
from nbclient import NotebookClient

from vgg.core.paths import REPOSITORY
from vgg.runs import demo as runs_demo

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
LARGEST = 100_000  # bytes, with all outputs
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the notebooks run: the net that one has trained is there for the next."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom_and_its_outputs_are_small(path, folder):
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}})
    own = {"IPYTHONDIR": str(folder / "ipython"), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    client.execute(env=environment(folder) | own)
    assert len(nbformat.writes(book)) < LARGEST
    said = [output for cell in book.cells for output in cell.get("outputs", ()) if output.get("name") == "stderr"]
    assert not said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_defines_nothing_and_keeps_no_output_but_pictures(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert path.stat().st_size < LARGEST
    assert book.cells[0].source.startswith("# ")
    for cell in book.cells:
        if cell.cell_type == "code":
            code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            assert not [node.name for node in ast.walk(ast.parse(code)) if isinstance(node, DEFINITIONS)]
            kept = {kind.partition("/")[0] for output in cell.outputs for kind in output.get("data", {"stream": 0})}
            assert kept <= {"image", "text"}
            assert cell.execution_count is None


def test_the_demos_run_is_at_hand_where_it_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_demo, "REPOSITORY", tmp_path)
    demo = tmp_path / "runs" / "digits" / "D-jitter"
    demo.mkdir(parents=True)
    (demo / "weights.pt").touch()
    assert runs_demo.run_at_hand(tmp_path / "elsewhere").folder == demo


def test_there_are_four():
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]
