from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fp16fix.errors import ReplayError
from fp16fix.graph.edit import redirect
from fp16fix.graph.model import Constant, Model
from fp16fix.graph.session import Session, proto_of
from fp16fix.passes.apply import apply, prepared
from fp16fix.passes.place.placement import placements
from fp16fix.passes.recipe import PLACE, RESCALE, SATURATE, Edit, Promise, Recipe, placement, plain, rescaling, saturation
from fp16fix.passes.workshop import KEPT, Workshop
from fp16fix.ranges.range import Range
from fp16fix.strict.emulate import emulate
from tests.models import model
from tests.recipes import clamp, exponents, pins, rewrites

CHAIN = "g (float[4] x) => (float[4] y) <float k = {1000.0}> { [mul] a = Mul (x, k) [neg] b = Neg (a) [abs] y = Abs (b) }"


def test_every_kind_of_change_is_an_edit_with_its_reason_and_promise() -> None:
    edits = (rescaling({"a": 3, "b": 0}), placement("mul", "fp32", "because"), saturation("a"))
    assert [edit.by for edit in edits] == [RESCALE, PLACE, SATURATE]
    assert edits[0].values == (("a", 3.0),), "an exponent of 0 is no change"
    assert [edit.promise for edit in edits] == [Promise.EXACT, Promise.EXACT, Promise.ALTERED]
    assert all(edit.because for edit in edits)
    assert len({edit.key for edit in (*edits, placement("mul", "bf16"))}) == 4, "a format is another edit"


def test_a_recipe_says_what_each_stage_needs() -> None:
    recipe = Recipe((clamp("n"), rescaling({"a": 2}), clamp("late"), placement("mul", "bf16", "why"), saturation("a")), io="fp16")
    assert [edit.node for edit in recipe.rewrites] == ["n", "late"]
    assert [edit.by for edit in recipe.changes] == ["clamp", RESCALE, "clamp"]
    assert (recipe.exponents, recipe.wide, recipe.reasons) == ({"a": 2}, {"mul": "bf16"}, {"mul": "why"})
    assert recipe.saturated == frozenset({"a"})
    other = recipe.typed(pins("abs").edits)
    assert (other.changes, other.wide, other.saturated, other.io) == (recipe.changes, {"abs": "fp32"}, frozenset(), "fp16")


def test_the_digest_is_that_of_what_is_done() -> None:
    base = Recipe((clamp("a"), clamp("b"), placement("p", "fp32"), placement("q", "fp32")))
    same = Recipe((clamp("a"), clamp("b"), placement("q", "fp32", "another reason"), placement("p", "fp32")))
    assert base.digest == same.digest, "placements have no order, and reasons do nothing"
    others = [
        Recipe((clamp("b"), clamp("a"), *base.edits[2:])),
        base.typed([placement("p", "fp32"), placement("q", "bf16")]),
        base.typed(placement(name, "fp32") for name in "p"),
        replace(base, io="fp16"),
        Recipe((replace(clamp("a"), values=(("eps", 1.0),)), *base.edits[1:])),
        Recipe((replace(clamp("a"), shift=1), *base.edits[1:])),
        Recipe((*base.edits, saturation("t"))),
    ]
    assert len({base.digest, *(each.digest for each in others)}) == 1 + len(others)


def test_plain_keeps_what_the_author_placed() -> None:
    assert plain({"n": "bf16"}, "fp16") == Recipe((placement("n", "bf16", "the model's author placed it"),), "fp16")


def test_apply_makes_the_typed_graph_and_leaves_the_model_alone() -> None:
    original = model(CHAIN)
    before = proto_of(original).SerializeToString()
    recipe = exponents(k=4, a=4, b=4, y=4).typed([placement("mul", "fp32")])
    typed = apply(original, replace(recipe, edits=(*recipe.edits, saturation("a"))))
    assert proto_of(original).SerializeToString() == before
    assert [node.op for node in typed.graph.nodes].count("Clip") == 1
    x = {"x": np.array([1.0, -2.0, 30.0, 0.0], np.float32)}
    np.testing.assert_array_equal(Session(emulate(typed)).run(x)["y"], [1000.0, 2000.0, 30000.0, 0.0])
    assert prepared(original, plain({})) is original, "nothing to do costs no copy"


def test_a_recipe_for_another_model_is_refused() -> None:
    with pytest.raises(ReplayError, match="'absent', which is not in the graph"):
        apply(model(CHAIN), pins("absent"))
    with pytest.raises(ReplayError, match="no float tensor"):
        apply(model(CHAIN), exponents(absent=1))
    with pytest.raises(ReplayError, match="no rule is called 'clamp'"):
        apply(model(CHAIN), Recipe((clamp("mul"),)))


def seen(tensor: str, absmax: float) -> Range:
    return Range(tensor, (4,), -absmax, absmax, 1.0, absmax**2 / 4, 0.0, 0)


@pytest.mark.parametrize(("absmax", "headroom", "spared", "clipped"), [
    (15000.0, 2.0, (), False),
    (20000.0, 2.0, (), True),
    (20000.0, 1.0, (), False),
    (20000.0, 2.0, ("a",), False),
])  # fmt: skip
def test_an_island_hands_on_through_a_clip_what_is_not_proven_to_fit(
    absmax: float, headroom: float, spared: tuple[str, ...], clipped: bool
) -> None:
    ranges = {name: seen(name, 1.0) for name in ("x", "b", "y")} | {"a": seen("a", absmax)}
    edits = placements(model(CHAIN), ranges, {"mul": "fp32"}, headroom=headroom, spared=spared)
    assert [edit.tensor for edit in edits if edit.by == SATURATE] == (["a"] if clipped else [])
    inner = placements(model(CHAIN), ranges, {"mul": "fp32", "neg": "fp32"}, headroom=headroom, spared=spared)
    assert "a" not in {edit.tensor for edit in inner}, "a stays inside the island"


def test_an_unmeasured_exit_saturates() -> None:
    edits = placements(model(CHAIN), {"x": seen("x", 1.0)}, {"mul": "fp32"}, headroom=2.0)
    assert [edit.tensor for edit in edits if edit.by == SATURATE] == ["a"]


def test_a_workshop_makes_each_changed_graph_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Recipe] = []

    def counted(original: Model, recipe: Recipe) -> Model:
        made.append(recipe)
        return prepared(original, recipe)

    monkeypatch.setattr("fp16fix.passes.workshop.apply.prepared", counted)
    shop, recipe = Workshop(model(CHAIN)), exponents(k=4, a=4, b=4, y=4)
    for name in ("mul", "neg", "abs"):
        shop.typed(recipe.typed(pins(name).edits))
    assert len(made) == 1
    for e in range(5, 5 + KEPT):
        shop.prepared(exponents(k=e, a=e, b=e, y=e))
    shop.prepared(recipe)
    assert len(made) == 2 + KEPT, "and forgets the oldest"


class Bypass:
    """A rule of somebody else's that leaves its node behind, unread."""

    def apply(self, model: Model, edit: Edit) -> None:
        node = model.node_map()[edit.node]
        redirect(node.outputs[0], node.inputs[0])


def test_what_a_rewrite_leaves_unread_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp16fix.passes.apply.rule", lambda _: Bypass())
    found = prepared(model(CHAIN), rewrites(Edit("bypass", "neg", Promise.ALTERED)))
    assert [node.name for node in found.nodes()] == ["mul", "abs"]


def test_edits_are_made_in_the_order_of_the_recipe() -> None:
    """An eps raised behind the exponents is what is stored; raised before them, the exponents speak of a literal that is gone."""
    text = "g (float[4] x) => (float[4] y) <float eps = {0.001}> { b = Abs (x) c = Add (b, eps) y = Div (b, c) }"
    scale = rescaling({"x": 4, "b": 4, "c": 4, "eps": 4})
    raised = Edit("raise-eps", "Add_c", Promise.ALTERED, tensor="eps", values=(("eps", 0.25),))
    (add,) = [node for node in prepared(model(text), Recipe((scale, raised))).nodes() if node.op == "Add"]
    assert [float(each.values) for each in add.inputs if isinstance(each, Constant)] == [0.25]
    with pytest.raises(ReplayError, match="'eps', which is no float tensor"):
        prepared(model(text), Recipe((raised, scale)))
