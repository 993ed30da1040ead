"""Settings of the documentation: ``python -m sphinx -W -b html docs docs/_build/html``.

Nothing is looked up on the network, so that a build gives the same pages anywhere.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

import sphinx_autosummary_accessors

import xatmo

sys.path.insert(0, str(Path(__file__).parent))
from generate import write_pages

project = "xatmo"
author = "The xatmo developers"
copyright = author
release = xatmo.__version__
version = release

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_autosummary_accessors",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorial"]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
highlight_language = "none"

html_theme = "furo"
html_title = f"xatmo {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's parameters say it in words
numpydoc_show_class_members = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": ["tutorial", "../gallery"],
    "gallery_dirs": ["auto_tutorial", "auto_gallery"],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "gen_modules/backreferences",
    "doc_module": ("xatmo",),
    "reference_url": {"xatmo": None},
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "image_srcset": ["2x"],
}

# A reader of the pages has no use for where the warning's source lies on this machine.
warnings.formatwarning = lambda message, category, *_: (
    f"{category.__name__}: {message}\n"
)
# cf-xarray defines some of pint's units anew, and pint tells Sphinx's log.
logging.getLogger("pint.util").setLevel(logging.ERROR)
# Progress bars of downloads are for people who wait.
os.environ.setdefault("TQDM_DISABLE", "1")


def setup(app: object) -> None:
    """Write the pages that are made of the package itself, before any is read."""
    app.connect("config-inited", lambda app, _: write_pages(Path(app.srcdir)))
