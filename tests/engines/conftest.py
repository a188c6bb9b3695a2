from __future__ import annotations

import pytest

from tests.engines.bindings import Bindings, prepare


@pytest.fixture(scope="session")
def bindings(request: pytest.FixtureRequest) -> Bindings:
    """The bindings of the version a test is parametrised with (indirectly)."""
    return prepare(request.param, request.config.cache.mkdir("tensorrt-bindings"))
