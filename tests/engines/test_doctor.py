from __future__ import annotations

import pytest

from fp16fix.engines.backend import FLAVOURS, Flavour
from fp16fix.engines.doctor import doctor


def test_every_flavour_is_reported_in_order() -> None:
    found = doctor()
    assert [each.name for each in found.backends] == ["rtx", "strong", "weak"]
    for each in found.backends:
        assert each.works is not bool(each.why)
        assert each.installed or not each.works
        assert each.would
        assert "pip install" in each.how_to_install
    assert found.builds is any(each.works for each in found.backends)
    assert found.executes is not bool(found.why_not)


def test_nothing_installed_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flavour, "importable", lambda self: False)
    found = doctor()
    assert found.builds is False
    assert {each.why for each in found.backends} == {
        f"the Python module {flavour.module!r} is not installed" for flavour in FLAVOURS.values()
    }
