"""Sphinx's configuration: `make docs` builds the site."""

import importlib.metadata
import re

from sphinx.application import Sphinx

project = "vgg"
release = importlib.metadata.version("vgg-paper")
extensions = ["myst_parser", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
html_theme = "furo"
html_title = f"VGG, reproduced, {release}"
html_copy_source = html_show_copyright = False
myst_heading_anchors = 4  # as GitHub makes them: the pages' links lead to the same places there and here
autosummary_generate = True
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)?(?:src|conf|results|notebooks|LICENSE|CITATION\.cff)\b[^)]*\)")


def files_by_name(*arguments: object) -> None:
    """Links to files of the repository, which are no pages of the site, become their names."""
    (text,) = arguments[-1]
    arguments[-1][0] = OUTSIDE.sub(r"`\1`", text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", files_by_name)
    app.connect("include-read", files_by_name)
