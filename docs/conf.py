"""How the site is built: `python -m sphinx docs site`, with the extra `docs`."""

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # the examples and benches that pages run

import _docstrings  # noqa: E402
import _reference  # noqa: E402

_reference.write(HERE / "reference")

project = "erasejax"
author = "the erasejax authors"
copyright = f"2026, {author}"  # noqa: A001
version = release = metadata.version("erasejax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # its files, so that no page asks for anything outside
]
# A notebook is a page; the .ipynb beside it is that page for Colab.
exclude_patterns = ["examples/**", "sweeps/**", "notebooks/*.ipynb", "**/.ipynb_checkpoints"]
templates_path: list[str] = []
nitpicky = False
default_role = "code"

# Pages are MyST; what needs to run says so, and a cell that fails stops the build.
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

# The reference is the docstrings; shapes are there in words, so signatures stay short.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar, napoleon_attr_annotations = True, False
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = "erasejax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": "https://github.com/erasejax/erasejax",
    "use_repository_button": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": True,
}


def setup(app: object) -> None:
    """Reads docstrings as the plain text that they are."""
    app.connect("autodoc-process-docstring", _docstrings.plain_text, priority=100)  # pyright: ignore
    app.connect("autodoc-skip-member", _docstrings.is_not_ours)  # pyright: ignore
