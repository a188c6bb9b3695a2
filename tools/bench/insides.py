"""``strict.insides`` → the table of ``notes/insides.md``, put between its marks."""

from __future__ import annotations

from pathlib import Path

from fp16fix.strict.insides import table

NOTE = Path(__file__).parents[2] / "notes" / "insides.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->"


def main() -> None:
    before, rest = NOTE.read_text(encoding="utf-8").split(BEGIN)
    NOTE.write_text(f"{before}{BEGIN}{table()}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
