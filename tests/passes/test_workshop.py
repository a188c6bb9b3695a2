"""Typed graphs of one model: the last one is kept, and is what its recipe says."""

from __future__ import annotations

from fp16fix.graph.lower import count_types
from fp16fix.graph.session import proto_of
from fp16fix.passes import apply
from fp16fix.passes.recipe import plain
from fp16fix.passes.workshop import Workshop
from fp16fix.strict.emulate import emulate
from tests.models import model

TEXT = "g (float[4,64] x) => (float[4,64] y) { p = Mul (x, x) s = Sqrt (p) y = Neg (s) }"


def test_a_recipe_that_is_asked_again_is_not_made_again() -> None:
    shop, recipe = Workshop(model(TEXT)), plain({})
    assert shop.typed(recipe) is shop.typed(recipe)


def test_another_recipe_is_another_graph() -> None:
    shop = Workshop(model(TEXT))
    counts = [count_types(shop.typed(plain(placed)))["fp32_nodes"] for placed in ({}, {"Mul_p": "fp32"}, {})]
    assert counts == [0, 1, 0]


def test_what_is_kept_is_not_changed_by_who_runs_it() -> None:
    shop, recipe = Workshop(model(TEXT)), plain({"Mul_p": "fp32"})
    for profile in ("compiled", "pessimistic", "accumulate"):
        emulate(shop.typed(recipe), profile)
    assert proto_of(shop.typed(recipe)) == proto_of(apply.apply(shop.model, recipe))


def test_of_a_big_model_nothing_is_kept() -> None:
    shop, recipe = Workshop(model(TEXT)), plain({})
    shop.heavy = True
    assert shop.typed(recipe) is not shop.typed(recipe)
