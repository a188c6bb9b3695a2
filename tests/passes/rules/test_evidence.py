"""Every rule in the table keeps its promise on its own evidence: a new rule is tested by existing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp16fix.errors import ReplayError
from fp16fix.passes.recipe import Edit, Promise
from fp16fix.passes.rewrite.rule import Rule
from fp16fix.passes.rewrite.rules import answers_builder, rules, shown_in
from fp16fix.passes.rewrite.rules import rule as rule_named

from .evidence import evidence_of, proposed, repaired, run, samples, strictly, worst_db, worst_gap

MOVED = 1e-5
"""What FP32 results may move, of an output's largest magnitude; nothing at all where the promise is EXACT."""
ILL_DB, WELL_DB = 45.0, 50.0
"""Strict SQNR under which an example counts as ill, and over which it counts as cured."""

FIRES = [pytest.param(each, text, id=f"{each.name}-{index}") for each in rules() for index, text in enumerate(each.fires)]
DECLINES = [pytest.param(each, text, id=f"{each.name}-{index}") for each in rules() for index, text in enumerate(each.declines)]


@pytest.mark.parametrize(("rule", "text"), FIRES)
def test_rule_cures_what_it_fires_on(rule: Rule, text: str) -> None:
    evidence = evidence_of(text)
    repairs = proposed(rule, evidence)
    assert repairs, "it must propose a repair"
    feeds, numerics = samples(evidence.model), shown_in(rule)
    truth, ill = run(evidence.model, feeds), strictly(evidence.model, feeds, numerics)
    model = repaired(rule, evidence, repairs)
    after, cured = run(model, feeds), strictly(model, feeds, numerics)
    assert worst_gap(truth, after) <= MOVED, "the FP32 function moved"
    if all(repair.promise is Promise.EXACT for repair in repairs):
        assert worst_gap(truth, after) == 0.0, "the promise is EXACT"
    assert worst_db(truth, cured) >= WELL_DB, "strict FP16 must be right afterwards"
    if answers_builder(rule):
        left = [each for each in rule.propose(replace(evidence, model=model)) if isinstance(each, Edit)]
        assert left == [], "what ends builders must be gone"
    else:
        assert worst_db(truth, ill) < ILL_DB, "it must be ill before"


@pytest.mark.parametrize(("rule", "text"), FIRES)
def test_repair_keeps_interface_and_names_its_nodes(rule: Rule, text: str) -> None:
    evidence = evidence_of(text)
    nodes, tensors = set(evidence.model.node_map()), set(evidence.model.tensors())
    repairs = proposed(rule, evidence)
    model = repaired(rule, evidence, repairs)
    assert [t.name for t in model.graph.inputs] == [t.name for t in evidence.model.graph.inputs]
    assert [t.name for t in model.graph.outputs] == [t.name for t in evidence.model.graph.outputs]
    assert set(evidence.model.tensors()) == tensors, "propose must not edit the model"
    for repair in repairs:
        assert repair.by == rule.name
        assert {repair.node, *repair.covers} <= nodes
        assert repair.covers
        assert repair.because


@pytest.mark.parametrize(("rule", "text"), FIRES)
def test_repair_is_gone_once_applied(rule: Rule, text: str) -> None:
    """Applied again, a repair must say that the model does not hold what it names, or find it still and do it again."""
    evidence = evidence_of(text)
    repairs = proposed(rule, evidence)
    model = repaired(rule, evidence, repairs)
    before = sorted((node.op, node.name) for node in model.nodes())
    gone = [repair for repair in repairs if repair.node not in model.node_map()]
    for repair in gone:
        with pytest.raises(ReplayError):
            rule.apply(model, repair)
    assert sorted((node.op, node.name) for node in model.nodes()) == before, "a failing repair must not leave half an edit"


@pytest.mark.parametrize(("rule", "text"), DECLINES)
def test_rule_declines_a_near_miss(rule: Rule, text: str) -> None:
    assert proposed(rule, evidence_of(text)) == []


@pytest.mark.parametrize("rule", [pytest.param(each, id=each.name) for each in rules()])
def test_rule_has_evidence_of_both_kinds(rule: Rule) -> None:
    assert rule.fires
    assert rule.declines
    assert rule_named(rule.name) is rule


@pytest.mark.parametrize("rule", [pytest.param(each, id=each.name) for each in rules()])
def test_repair_of_a_strange_node_is_an_error(rule: Rule) -> None:
    model = evidence_of(rule.declines[0]).model
    with pytest.raises(ReplayError):
        rule.apply(model, Edit(rule.name, "no/such/node", rule.promise))


def test_rules_are_ordered_and_named_apart() -> None:
    found = [(each.order, each.name) for each in rules()]
    assert found == sorted(found)
    assert len({name for _, name in found}) == len(found)


def test_unknown_rule_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ReplayError, match="layernorm"):
        rule_named("no-such-rule")
