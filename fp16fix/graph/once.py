"""What was worked out of an initializer's values, once: copies of a model share them, and they are not written to."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
T = TypeVar("T")
Key = tuple[Callable[..., Any], int, tuple[Any, ...]]
_known: dict[Key, tuple[weakref.ref[np.ndarray], Any]] = {}
"""By who found it, the identity of the values, and what else was asked."""


def once(find: Callable[Concatenate[np.ndarray, P], T]) -> Callable[Concatenate[np.ndarray, P], T]:
    """A function of an array, and of what can be a key, that is not asked twice of the same array while that lives."""

    @wraps(find)
    def found(values: np.ndarray, /, *others: P.args, **named: P.kwargs) -> T:
        key = find, id(values), (*others, *sorted(named.items()))
        of, result = _known.get(key, (None, None))
        if of is None or of() is not values:
            result = find(values, *others, **named)
            _known[key] = weakref.ref(values, lambda _: _known.pop(key, None)), result
        return result  # type: ignore[return-value]  # what this function found

    return found
