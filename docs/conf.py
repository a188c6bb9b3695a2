"""Sphinx: the pages of ``docs/`` and ``notes/`` as one site. ``python -m tools.docs OUT`` stages them, with what is made, and builds."""

project = "fp16fix"
extensions = ["myst_parser"]
root_doc = "docs/index"
nitpicky = True
myst_heading_anchors = 4

html_theme = "furo"
html_title = "fp16fix"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["../extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
