"""The site is built here as anybody builds it: no warning, every page there, figures from runs, links and pictures that hold."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import pytest
from jinja2 import UndefinedError

from fp16fix.config.published import shipped
from fp16fix.hazards.hazard import Kind
from fp16fix.report.outcome import to_json

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("matplotlib")
pytest.importorskip("pdoc")

from markdown_it import MarkdownIt

from tools.docs.examples import Example, example, increments, plain
from tools.docs.pages import Page, filled, read
from tools.docs.picture import SCHEMES, WORDS, drawn
from tools.docs.site import publish
from tools.docs.stage import stage

ROOT = Path(__file__).parent.parent
PAGES = [page for path in sorted((ROOT / "docs" / "failures").glob("*.md")) if (page := read(path))]
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)


@dataclass
class Html(HTMLParser):
    """Links, anchors, descriptions of pictures and text of a page."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    alts: dict[str, str] = field(default_factory=dict)
    text: str = ""
    codes: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    """Names that the page describes an entry of."""
    _named: bool = False
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {key: value or "" for key, value in attrs}
        self.ids |= {said[key] for key in ("id", "name") if key in said}
        if tag == "a":
            self.links.append(said.get("href", ""))
        elif tag == "link" and said.get("rel") == "stylesheet":
            self.loaded.append(said["href"])
        elif tag in {"img", "script"} and "src" in said:
            self.loaded.append(said["src"])
            self.alts[said["src"]] = said.get("alt", "")
        self._named |= "sig-name" in said.get("class", "")
        if tag == "code":
            self._open.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self.codes.add(self._open.pop())

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._named:
            self.keys.add(data)
            self._named = False
        self._open = [code + data for code in self._open]

    @classmethod
    def of(cls, text: str) -> Html:
        found = cls()
        found.feed(text)
        return found


def parsed(path: Path) -> Html:
    return Html.of(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site, and what was wrong with it."""
    folder = tmp_path_factory.mktemp("site")
    stage(folder / "source")
    return folder / "html", publish(folder / "source", folder / "html")


@pytest.fixture(scope="module")
def site(built: tuple[Path, str]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: parsed(path) for path in sorted(site.rglob("*.html"))}


def test_the_site_builds_without_a_warning(built: tuple[Path, str]) -> None:
    assert built[1] == ""
    for name in ("index.html", "docs/quick-start.html", "docs/limits.html", "notes/verdict.html", "CHANGELOG.html", "api/fp16fix.html"):
        assert (built[0] / name).is_file(), name


def test_every_link_and_everything_loaded_is_there(pages: dict[Path, Html]) -> None:
    lost = []
    for path, page in pages.items():
        assert not [each for each in page.loaded if urlsplit(each).scheme not in {"", "data"}], f"{path.name} needs a network"
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and target in pages and unquote(parts.fragment) not in anchors):
                lost.append(f"{path.name}: {link}")
    assert lost == []


def test_nothing_names_a_place_on_the_machine_that_built_it(site: Path) -> None:
    places = {str(ROOT), str(site.parent), tempfile.gettempdir(), sys.prefix, str(Path.home())} - {"/"}
    for path in site.rglob("*"):
        if path.suffix in {".html", ".js", ".svg", ".txt", ".css"}:
            text = path.read_text(encoding="utf-8")
            assert not [each for each in places if f"{each}/" in text], path


def test_every_kind_of_hazard_has_a_page() -> None:
    assert {page.kind for page in PAGES} == set(Kind)
    index = (ROOT / "docs" / "failures" / "index.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in index.splitlines() if line.startswith("| `")}
    for page in PAGES:
        assert page.kind is not None
        assert f"]({page.path.name})" in rows[page.kind.value]


@EACH
def test_a_page_shows_its_kind_of_hazard_and_what_was_done(page: Page, site: Path) -> None:
    found = example(page.example).document
    assert page.kind in {each.hazard.kind for each in found.hazards}
    assert found.verified
    harmless = {each.end for each in found.hazards} == {"harmless"}
    assert harmless != any(each.lost or each.mismatches or each.sqnr_db < 50.0 for each in found.before), "what is ill shows in plain FP16"
    text = parsed(site / "docs" / "failures" / f"{page.path.stem}.html").text
    for each in found.hazards:
        assert f"{each.hazard.why} → {each.end}" in text
    for edit in found.recipe.edits:
        assert edit.by in text
        assert edit.because.replace("'", "’").split("’")[-1] in text.replace("'", "’")
    for figures in found.verdict.outputs:
        assert figures.output in text
    assert "{{" not in text


@EACH
def test_pictures_are_svg_and_described(page: Page, site: Path) -> None:
    html = parsed(site / "docs" / "failures" / f"{page.path.stem}.html")
    wanted = {f"{page.path.stem}-{scheme}.svg" for scheme in SCHEMES}
    shown = {Path(src).name: src for src in html.alts if src.endswith(".svg")}
    assert set(shown) == wanted
    for src in shown.values():
        assert "past 65504" in html.alts[src]
        root = ET.parse((site / "docs" / "failures" / src).resolve()).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) > len(example(page.example).document.ranges)


def test_a_picture_is_the_same_bytes_again() -> None:
    """What changes without a cause cannot be reviewed."""
    found = example("increments").document
    assert drawn(found, "light") == drawn(found, "light") != drawn(found, "dark")


def test_the_legend_names_what_is_drawn_and_nothing_else() -> None:
    """Matplotlib draws letters as paths, and says in a comment what they are."""
    found = drawn(example("harmless-tanh-gelu-cube").document, "light")
    assert {word for word in WORDS.values() if f"<!-- {word} -->" in found} == {"fits", "harmless", "overflows"}


def test_edits_are_told_in_the_order_in_which_they_are_made() -> None:
    """Not in that of the alphabet, which is theirs here by chance."""
    found = example("l2norm-underflow").document
    turned = Example(replace(found, recipe=replace(found.recipe, edits=found.recipe.edits[::-1])))
    assert turned.edits.index("**rescale**") < turned.edits.index("**raise-eps**")


def test_a_sentence_of_the_tool_is_no_markup() -> None:
    words = "a_b_c and _d_, *e*, **f**, [g](h), <i>, `j`, k|l, \\m, ~~n~~"
    assert Html.of(MarkdownIt("gfm-like", {"linkify": False}).render(plain(words))).text.strip() == words


def test_increments_are_swallowed_one_by_one() -> None:
    model, samples = increments()
    assert sum(node.op_type == "Add" for node in model.graph.node) == len(example("increments").document.hazards)
    assert len({each["x0"].tobytes() for each in samples}) == len(samples)


@pytest.mark.parametrize(("zoo", "name"), [(False, "yaml"), (True, "zoo-yaml")])
def test_every_key_of_the_schema_has_an_entry_with_its_meaning(zoo: bool, name: str, site: Path) -> None:
    schema, html, one = json.loads(shipped(zoo=zoo)), parsed(site / "docs" / f"{name}.html"), parsed(site / "docs" / "yaml.html")
    linked = {f"defaults.{key}" for key in one.keys & html.codes} if zoo else set()
    entries, text, seen = html.keys | one.keys | linked, letters(html.text + one.text), 0
    for part in (schema, *schema["$defs"].values()):
        keys = part.get("properties", {})
        homes = [{each.removesuffix(key) for each in entries if f".{each}".endswith(f".{key}")} for key in keys]
        assert not keys or set.intersection(*homes), f"no mapping has all of {sorted(keys)}"
        for key, value in keys.items():
            assert value.get("description") or "$ref" in value, f"{key} says nothing"
            assert letters(value.get("description", "")) in text, key
            assert set(map(str, value.get("enum", ()))) <= html.codes | one.codes, key
        seen += len(keys)
    assert seen > 70
    assert {"build.profiles[].NAME.opt", "tolerance.outputs.NAME.max_abs"} <= one.keys


def test_a_zoo_leads_to_the_keys_of_one_model_and_repeats_none(site: Path) -> None:
    html = parsed(site / "docs" / "zoo-yaml.html")
    for key in json.loads(shipped(zoo=False))["properties"]:
        assert f"yaml.html#confval-{key}" in html.links, key
    assert "The same keys as defaults." in html.text
    assert {"defaults.limits.time_s"} == {key for key in html.keys if key.endswith("time_s")}


def letters(words: str) -> str:
    return "".join(each for each in words.replace("None", "null") if each.isalnum())


def test_every_key_of_an_outcome_is_on_its_page(site: Path) -> None:
    raw: dict[str, Any] = json.loads(to_json(example("increments").document))
    for free in ("versions", "stages", "files"):
        raw[free] = 0
    named = {word for code in parsed(site / "notes" / "outcome.html").codes for word in code.split()}
    assert set(keys(raw)) <= named


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(each)


def test_the_recipes_and_the_example_package_are_shown_in_full(site: Path) -> None:
    for page, files in (("docs/ci/README", ("docs/ci/Makefile", "docs/ci/fp16fix.yml")), ("docs/configs", ("configs/zoo.yaml",))):
        text = parsed(site / f"{page}.html").text
        for file in files:
            assert (ROOT / file).read_text(encoding="utf-8").strip() in text, file
    assert "class RootOfSquare:" in parsed(site / "docs" / "extending" / "README.html").text


def test_quick_start_shows_both_ways_to_end(site: Path) -> None:
    text = parsed(site / "docs" / "quick-start.html").text
    assert "\nVERIFIED on 8 samples" in text
    assert "report: out/detector.report.html" in text
    assert "NOT VERIFIED on" in text
    assert "✗ " in text


def test_the_example_in_python_runs_as_written(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copy(ROOT / "tests" / "demo" / "detector.onnx", tmp_path / "model.onnx")
    shutil.copytree(ROOT / "tests" / "demo" / "samples", tmp_path / "samples")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "/encoder/norm/Pow the square of values" in done.stdout, done.stderr
    assert (tmp_path / "model.fp16.onnx").is_file()


BROKEN = """# Broken

[nowhere](nowhere.md), [no such heading](good.md#missing), ![no picture](missing.svg), {confval}`no.such.key`, {py:func}`no_such_function`

```{toctree}
good
```
"""


def test_what_is_broken_is_named_and_the_former_site_stays(tmp_path: Path) -> None:
    docs = tmp_path / "source" / "docs"
    shutil.copytree(ROOT / "docs" / "_static", docs / "_static")
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    (tmp_path / "source" / "extra").mkdir()
    (docs / "good.md").write_text("# Good\n")
    (docs / "index.md").write_text("# Fine\n\n[good](good.md#good)\n\n```{toctree}\ngood\n```\n")
    assert publish(docs.parent, tmp_path / "out") == ""
    former = (tmp_path / "out" / "docs" / "index.html").read_bytes()
    (docs / "index.md").write_text(BROKEN)
    (docs / "orphan.md").write_text("# Not in any list of pages\n")
    fault = publish(docs.parent, tmp_path / "out")
    for word in ("nowhere.md", "missing", "missing.svg", "no.such.key", "no_such_function", "orphan.md"):
        assert word in fault
    assert str(tmp_path) not in fault
    assert (tmp_path / "out" / "docs" / "index.html").read_bytes() == former


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="something other than a site"):
        publish(tmp_path / "nothing", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(("words", "error"), [("{{ it.figure }}", UndefinedError), ('{{ it.largest("gone") }}', KeyError)])
def test_a_figure_that_there_is_not_is_an_error(words: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        filled(Page(Path("x.md"), "increments", None, words))
