from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fp16fix.errors import InputError
from fp16fix.report import located as location
from fp16fix.report.html import render, render_location, write_report
from fp16fix.report.outcome import EngineFacts, Outcome, from_json, to_json
from fp16fix.report.view import CAP
from tests.report.locations import located
from tests.report.outcomes import outcome
from tests.report.skeleton import HOSTILE, Skeleton, poisoned

PAGES = {"outcome": lambda: render(outcome()), "location": lambda: render_location(located())}
both = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@pytest.mark.parametrize("poison", HOSTILE)
@pytest.mark.parametrize("kind", PAGES)
def test_no_name_changes_the_page(kind: str, poison: str) -> None:
    def page(behind: str) -> str:
        if kind == "outcome":
            return render(from_json(json.dumps(poisoned(json.loads(to_json(outcome())), behind))))
        return render_location(location.from_json(json.dumps(poisoned(json.loads(location.to_json(located())), behind))))

    poisonous, benign = Skeleton(page(poison)), Skeleton(page("+" * len(poison)))
    assert poisonous.shape == benign.shape
    assert poisonous.open == []


def test_a_hostile_name_is_shown_as_what_it_is() -> None:
    base = outcome()
    first = replace(base.hazards[0], hazard=replace(base.hazards[0].hazard, node=HOSTILE[0]))
    step = replace(base.along[0], node=HOSTILE[0], before_db=float("-inf"))
    seen = replace(base.ranges[0], tensor=HOSTILE[0])
    page = render(replace(base, hazards=(first,), along=(step,), ranges=(seen,)))
    assert "<script>alert" not in page
    assert HOSTILE[0] in Skeleton(page).text
    # In the hazard's row, the tooltips of a bar and of the error along the graph, a description and a sentence.
    assert page.replace("<wbr>", "").count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;") >= 5


def test_invisible_characters_are_spelt_out() -> None:
    base = outcome()
    page = render(replace(base, model=replace(base.model, path="a\u202egnp.onnx\u2028")))
    assert "a\\u202egnp.onnx\\u2028" in page
    assert "\u202e" not in page


def test_a_path_that_is_not_unicode_can_be_written(tmp_path: Path) -> None:
    base = outcome()
    write_report(replace(base, model=replace(base.model, path="caf\udce9.onnx")), tmp_path / "x.html")
    assert "caf\\udce9.onnx" in (tmp_path / "x.html").read_text(encoding="utf-8")


@both
def test_the_page_needs_no_network_and_runs_no_script_but_its_own(page: Callable[[], str]) -> None:
    text = page()
    assert not re.search(r"https?:|url\(|@import|\bsrc=|<link|\bon\w+=", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    allowed = "sha256-" + b64encode(sha256(script.encode()).digest()).decode()
    (policy,) = [value for value in Skeleton(text).values if value.startswith("default-src 'none'")]
    assert f"script-src '{allowed}'" in policy


@both
def test_every_header_has_a_scope_and_every_drawing_a_name(page: Callable[[], str]) -> None:
    text = page()
    assert text.count("<th ") == len(re.findall(r'<th [^>]*\bscope="(?:row|col|rowgroup)"', text))
    for attributes, inside in re.findall(r"<svg([^>]*)>(.*?)</svg>", text, flags=re.DOTALL):
        hidden = 'aria-hidden="true"' in attributes or "meter" in text[text.index(attributes) - 80 : text.index(attributes)]
        assert hidden or ("<title" in inside and "<desc" in inside and re.search('role="(img|group)"', attributes))
    named = re.findall(r'aria-labelledby="([^"]+)"', text)
    assert named
    for each in " ".join(named).split():
        assert text.count(f'id="{each}"') == 1


def test_figures_of_every_sample_are_on_the_page_folded() -> None:
    page = render(outcome())
    folded = page[page.index("<summary>By sample (2 rows)") :]
    folded = Skeleton(folded[: folded.index("</details>")]).text
    assert re.search(r"image\s*night\s*56.6 dB\s*entry 2 of axis 1", folded)
    assert re.search(r"image\s*noon\s*61.2 dB\s*all", folded)
    assert folded.index("night") < folded.index("noon"), "the worst first"


@pytest.mark.parametrize(("many", "folds"), [(3, False), (20, False), (21, True), (300, True)])
def test_tables_of_many_rows_fold(many: int, folds: bool) -> None:
    base = outcome()
    rewrites = [replace(base.recipe.changes[0], node=f"/n.{index}") for index in range(many)]
    page = render(replace(base, recipe=replace(base.recipe, edits=tuple(rewrites))))
    table = page[: page.index('aria-label="Rewrites"')]
    assert table.endswith(f'<details><summary>{many} rewrites</summary><div class="scroll" tabindex="0" role="region" ') == folds
    assert Skeleton(page).open == []


@both
def test_sections_links_and_ids_agree(page: Callable[[], str]) -> None:
    text = page()
    for target in re.findall(r'href="#([^"]+)"', text):
        assert text.count(f'id="{target}"') == 1


def test_what_matters_is_on_the_page() -> None:
    text = Skeleton(render(outcome())).text
    for said in (
        "⚠ Verified, with 1 warning",
        "built, not executed",
        "49,152 lost",
        "56.6 dB",
        "under the pessimistic profile it fails",
        "fuse-groupnorm",
        "tanh(inf) = 1: the output does not move",
        "true × 2⁻⁶",
        "every pin held",
        "weights changed type",
        "fp16fix repair 'vae decoder.onnx' -o vae.plan",
        "a1" * 32,
        "onnxruntime 1.23.0",
        "8.73 s",
    ):
        assert said in text, said


def test_failure_is_loud_and_says_why() -> None:
    base = outcome()
    failed = replace(
        base,
        verdict=replace(base.verdict, verified=False, reasons=("image: 41.3 dB, wanted 50 dB",)),
        engine=replace(base.engine, problems=("node 'a' is pinned to fp32 and has layers in fp16",)),
    )
    text = Skeleton(render(failed)).text
    assert "✗ Not verified" in text
    assert "had to be changed" not in text
    assert "✓" not in text
    assert "image: 41.3 dB, wanted 50 dB" in text
    assert "node 'a' is pinned to fp32" in text
    assert "every pin held" not in text


@pytest.mark.parametrize(
    ("facts", "said"), [({"made_up": True}, "(made up)"), ({"shared": True}, "the one sample that also served calibration")]
)
def test_weak_evidence_is_said_beside_the_verdict(facts: dict[str, Any], said: str) -> None:
    base = outcome()
    assert said not in render(base)
    assert said in render(replace(base, samples=replace(base.samples, **facts)))


def empty() -> Outcome:
    base = outcome()
    recipe = type(base.recipe)()
    nothing = replace(base, hazards=(), recipe=recipe, refusals=(), along=(), ranges=(), repaired_ranges=(), warnings=())
    return replace(nothing, engine=EngineFacts("not built"), stages={}, files={}, command=(), before=(), equivalence=())


def test_an_outcome_with_nothing_in_it_is_a_page_too() -> None:
    page = Skeleton(render(empty()))
    assert page.open == []
    assert "not built" in page.text
    assert "Not measured." in page.text


def test_five_thousand_tensors_make_a_page_one_can_open() -> None:
    page = render(outcome(5000))
    assert len(page) < 1_500_000
    assert page.count('id="hazard-') <= CAP + 6
    assert page.count("of 250 hazards; the JSON has all of them") >= 4
    assert page.count('<g class="column">') <= 500


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    write_report(outcome(), tmp_path / "deep" / "x.html")
    assert (tmp_path / "deep" / "x.html").read_text(encoding="utf-8") == render(outcome())
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError):
        write_report(outcome(), tmp_path / "folder")
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["x.html"]
