"""``python -m tools.schema`` writes the JSON Schemas that are shipped anew, after a key of the YAML has changed."""

from __future__ import annotations

from pathlib import Path

from fp16fix.config import published


def main() -> None:
    folder = Path(published.__file__).parent / "schema"
    folder.mkdir(exist_ok=True)
    for zoo, name in published.NAMES.items():
        (folder / name).write_text(published.generated(zoo=zoo), encoding="utf-8")


if __name__ == "__main__":
    main()
