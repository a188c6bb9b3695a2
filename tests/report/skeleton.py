"""A page as a browser's parser sees it, and names that try to change that."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

HOSTILE = [
    "<script>alert(1)</script>\"'&",
    "\"><img src=x onerror='alert(1)'>",
    "</style></title></svg></pre><svg onload=alert(1)>",
    "--><!--{{ 7 * 7 }}{% raw %}]]>",
    "' onmouseover='alert(1)",
    "\u2028\u2029\u202e\u0000\u200b\\",
]
KEPT = {"base", "kind", "promise", "fault", "document"}
"""Keys whose values are enumerations, which no model can supply."""
VOID = {"meta", "input", "br"}


class Skeleton(HTMLParser):
    """Tags with the names of their attributes, in order; what a model's names must not change."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, ...]] = []
        self.open: list[str] = []
        self.values: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":
            return
        self.shape.append((tag, *(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((f"{tag}/", *(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        self.shape.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.text += data


def poisoned(value: Any, poison: str, key: str = "") -> Any:
    """Every string of a JSON tree with ``poison`` behind it, keys of free dictionaries included."""
    if isinstance(value, dict):
        free = key in {"versions", "stages", "files", "refinements"}
        return {f"{k}{poison}" if free else k: poisoned(each, poison, k) for k, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, poison, key) for each in value]
    return f"{value}{poison}" if isinstance(value, str) and key not in KEPT and value not in {"inf", "-inf", "nan"} else value
