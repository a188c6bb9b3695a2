from __future__ import annotations

from dataclasses import replace

from fp16fix.passes.recipe import placement
from fp16fix.report.view import CAP, ROOMS, capped, groups, judged, pins, rooms, view
from tests.recipes import exponents
from tests.report.outcomes import outcome, span


def test_a_long_table_says_how_much_is_left_out() -> None:
    found = capped(range(CAP + 7))
    assert (len(found.rows), found.left, found.total) == (CAP, 7, CAP + 7)
    assert capped(range(3)).left == 0


def test_a_pin_says_why() -> None:
    base = outcome()
    (node,) = base.recipe.wide
    recipe = base.recipe.typed([placement("bridge", "bf16", "two casts cost more"), *(e for e in base.recipe.edits if e.node == node)])
    bridge, own = pins(replace(base, recipe=recipe))
    assert (bridge.node, bridge.format, bridge.why) == ("bridge", "bf16", "two casts cost more")
    assert "9.6e+05" in own.why


def test_the_tightest_tensors_come_first_before_and_after() -> None:
    before = tuple(span(f"t{i}", 2.0**i) for i in range(20))
    after = (*(span(f"t{i}", 1.0) for i in range(20)), span("new", 2.0**15.5))
    base = outcome(ranges=before, repaired_ranges=after)
    found = rooms(replace(base, recipe=exponents(t19=19)))
    assert [each.tensor for each in found[:6]] == ["t19", "t18", "t17", "t16", "new", "t15"]
    assert found[0].exponent == 19
    assert found[0].after is not None
    assert found[0].after.headroom > 15
    assert found[4].before is None
    assert len(found) <= 2 * ROOMS


def test_exponents_are_counted() -> None:
    assert groups([6, -12, 6]) == ((-12, 1, 50.0), (6, 2, 100.0))


def test_every_output_is_shown_under_every_way_of_computing_it() -> None:
    found = dict(view(outcome()).outputs)
    assert list(found) == ["image", "ids"]
    assert [each.label for each in found["image"]] == [
        "plain FP16",
        "repaired, compiled profile",
        "repaired, pessimistic profile",
        "repaired graph in FP32",
    ]


def test_rewrites_after_rescaling_follow_the_others() -> None:
    assert [each.by for each in view(outcome()).repairs.rows] == ["fuse-groupnorm", "rescale-eps"]
    assert view(outcome()).late == 1


def test_saturating_exits_and_the_way_to_the_answer_are_told() -> None:
    found = view(outcome())
    assert found.saturated.rows == tuple(sorted(outcome().recipe.saturated))
    assert [each.search for each in found.derivation.rows] == ["draft", "refine"]


def test_the_command_can_be_pasted_into_a_shell() -> None:
    assert view(outcome()).command == "fp16fix repair 'vae decoder.onnx' -o vae.plan --inputs latents/"


def test_the_second_verdict_in_a_line() -> None:
    assert judged(outcome().pessimistic) == "fails on 4 samples; worst output image: 41.3 dB"
