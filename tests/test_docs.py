"""README and docs/: their commands can be given, their links lead somewhere."""

import re
import shlex

import pytest
from conftest import composed
from hydra.core.override_parser.overrides_parser import OverridesParser

from vgg.commands.cli import parser
from vgg.core.paths import REPOSITORY
from vgg.report import option_reference, results_page

SITE = ("index.md", "api.md")  # of `make docs` alone
PAGES = [REPOSITORY / "README.md", *sorted(p for p in (REPOSITORY / "docs").glob("*.md") if p.name not in SITE)]
START = r"python (?:(?:train|evaluate)\.py|-m vgg)\b"
COMMAND = re.compile(rf"^ *({START}.*)$|`({START}[^`]*)`", re.MULTILINE)


def commands() -> list[str]:
    """Those of all pages, their continued lines joined, without comments and what stands for more."""
    found = []
    for page in PAGES:
        text = re.sub(r" *\\\n *", " ", page.read_text())
        for match in COMMAND.finditer(text):
            found.append((match[1] or match[2]).replace("…", "").strip())
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("command", commands())
def test_a_command_can_be_given(command):
    _, what, *words = shlex.split(command, comments=True)
    if what == "-m":
        parser().parse_args(words[1:])
        return
    parsed = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    given = {}
    for one in parsed:
        value = next(one.sweep_string_iterator()) if one.is_sweep_override() else one.get_value_element_as_str()
        given[one.key_or_group] = value
    hydras = {key: given.pop(key) for key in list(given) if key.startswith("hydra")}
    assert not hydras or "-m" in words
    composed(*(f"{key}={value}" for key, value in given.items()), evaluate=what == "evaluate.py")


def test_there_are_commands():
    assert len(commands()) > 50


def test_the_sites_contents_name_every_page():
    index = (REPOSITORY / "docs" / "index.md").read_text().splitlines()
    assert [page.name for page in PAGES[1:] if page.stem not in index] == []


def anchors(text: str) -> set[str]:
    """As GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path.read_text()), target


def test_the_readme_names_every_page():
    text = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if f"](docs/{page.name})" not in text] == []


def test_the_configurations_page_is_as_its_definitions():
    """Where it is not: python -m vgg options > docs/configuration.md"""
    assert (REPOSITORY / "docs" / "configuration.md").read_text() == option_reference.rendered()


def test_the_results_page_is_as_the_committed_results():
    """Where it is not: python -m vgg results > docs/results.md"""
    assert (REPOSITORY / "docs" / "results.md").read_text() == results_page.rendered()


def test_the_readmes_results_are_the_committed_ones():
    """Where they are not: python -m vgg results --short"""
    table = PAGES[0].read_text().partition("<!-- python -m vgg results --short -->\n")[2].partition("<!-- end -->")[0]
    assert table == results_page.short() + "\n"
