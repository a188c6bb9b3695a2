"""The site: the Markdown of ``docs/`` and ``notes/``, references made from schemas, figures and pictures made by running the tool."""
