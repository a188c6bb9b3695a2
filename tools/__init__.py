"""Scripts beside the package; those that build on each other run as ``python -m tools.…`` from the repository's root."""
