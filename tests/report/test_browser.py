"""Pages as a browser has them: no error, links that lead somewhere, charts with their points, and what axe says of keyboard and contrast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fp16fix.report.html import render, render_location
from fp16fix.report.index import render_index
from fp16fix.report.view import view
from tests.report.batches import batch
from tests.report.locations import located
from tests.report.outcomes import outcome
from tools.browser import MISSING, browser, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason=MISSING)
PAGES = {
    "repaired": lambda: render(outcome()),
    "many": lambda: render(outcome(2000)),
    "located": lambda: render_location(located()),
    "index": lambda: render_index(batch(), Path("/zoo")),
}
EVERY_PAGE = pytest.mark.parametrize("kind", PAGES)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def opened(chrome: Browser, tmp_path: Path) -> Iterator[Any]:
    """A page by its kind, and what the browser had to say about it."""
    said: list[str] = []

    def made(kind: str, scheme: str = "light", width: int = 1280) -> tuple[Page, list[str]]:
        page = chrome.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light")
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        (tmp_path / f"{kind}.html").write_text(PAGES[kind](), encoding="utf-8")
        page.goto((tmp_path / f"{kind}.html").as_uri())
        return page, said

    yield made
    for context in chrome.contexts:
        context.close()


@EVERY_PAGE
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_the_console_stays_empty(opened: Any, kind: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, said = opened(kind, scheme)
    # What is folded away is looked at, too.
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    limits = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]} if kind != "many" else {"runOnly": ["wcag2a"]}
    found = Axe().run(page, options=limits).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
    assert said == []


@EVERY_PAGE
def test_a_narrow_window_needs_no_scrolling_sideways(opened: Any, kind: str) -> None:
    page, _ = opened(kind, width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("kind", ["repaired", "located"])
def test_a_mark_on_the_error_chart_leads_to_its_row_by_keyboard(opened: Any, kind: str) -> None:
    page, _ = opened(kind)
    links = page.locator("#along svg a")
    assert links.count() > 1
    for index in range(links.count()):
        link = links.nth(index)
        link.focus()
        page.keyboard.press("Enter")
        row = page.locator(link.get_attribute("href"))
        row.wait_for(state="visible", timeout=2000)
        node = link.get_attribute("aria-label").split(" (")[0].split(". ")[-1]
        assert node in row.inner_text().replace("\u200b", "")


def test_every_link_within_a_page_leads_somewhere(opened: Any) -> None:
    page, _ = opened("repaired")
    lost = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href')).filter(h => !document.querySelector(h))"
    )
    assert lost == []


def test_charts_have_their_points(opened: Any) -> None:
    page, _ = opened("repaired")
    wanted = view(outcome())
    assert page.locator("#ranges g.column").count() == len(wanted.charts.before.bars) + len(wanted.charts.after.bars)
    sizes = page.evaluate("[...document.querySelectorAll('#ranges g.column rect:last-of-type')].map(r => r.getBoundingClientRect().height)")
    assert min(sizes) > 0.5
    for line in ("before", "after"):
        assert page.evaluate(f"document.querySelector('#along path.line.{line}').getTotalLength()") > 500
    assert page.locator("#along .chart g.mark").count() == len(wanted.curve.marks) > 5


def test_a_folded_row_opens_for_the_link_that_was_shared(opened: Any) -> None:
    page, _ = opened("repaired")
    row = page.locator("#cause-3 tbody tr").first
    assert not row.is_visible()
    page.goto(f"{page.url}#{row.get_attribute('id')}")
    row.wait_for(state="visible", timeout=2000)


def test_two_thousand_nodes_are_quick_to_open_and_less_than_three_megabytes(opened: Any) -> None:
    page, _ = opened("many")
    assert len(page.content().encode()) < 3_000_000
    timing = json.loads(page.evaluate("JSON.stringify(performance.getEntriesByType('navigation')[0])"))
    assert timing["loadEventEnd"] < 3000


def test_the_module_filter_leaves_rows_and_causes_of_that_path(opened: Any) -> None:
    page, _ = opened("repaired")
    page.locator("#path").fill("/decoder/up.1/")
    rows = page.locator("details.cause tbody tr:not([hidden]) th")
    names = [each.replace("\u200b", "") for each in rows.all_text_contents()]
    assert names
    assert all("/decoder/up.1/" in each for each in names)
    page.locator("#path").fill("nowhere")
    assert page.locator("details.cause:not([hidden])").count() == 0
    page.locator("#path").fill("")
    assert page.locator("details.cause:not([hidden])").count() == page.locator("details.cause").count()
