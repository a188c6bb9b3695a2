"""``redirect``: readers everywhere, only some of them, and the outputs of graphs."""

from __future__ import annotations

import onnx_graphsurgeon as gs
import pytest

from fp16fix.graph.edit import Editor, edited, editor_of, graphs_of, node_of, redirect, rounding_of
from fp16fix.graph.load import inline_constants, model_from_proto
from fp16fix.graph.model import Model, bodies, element_type
from fp16fix.graph.opset import raise_in_place
from fp16fix.graph.widen import widen
from fp16fix.half import BF16, FP16, FP32
from fp16fix.passes.apply import carry_out
from fp16fix.passes.recipe import Edit, Promise
from tests.models import proto

BRANCHES = """g (float[2] x, bool c) => (float[2] y, float[2] a) {
    a = Neg (x)
    b = Add (a, a)
    y = If (c) <
        then_branch = t () => (float[2] p) { p = Mul (a, b) },
        else_branch = e () => (float[2] q) { q = Abs (b) }>
}"""


def parts(text: str = BRANCHES, *, widened: bool = True) -> tuple[Model, dict[str, gs.Node], dict[str, gs.Tensor]]:
    found = model_from_proto(proto(text), widened=widened)
    return found, {node.op: node for node in found.nodes()}, found.tensors()


def names(node: gs.Node) -> list[str]:
    return [tensor.name for tensor in node.inputs]


def test_every_reader_is_redirected_in_every_place_and_in_bodies() -> None:
    _, nodes, tensors = parts()
    redirect(tensors["a"], tensors["x"])
    assert names(nodes["Add"]) == ["x", "x"]
    assert names(nodes["Mul"]) == ["x", "b"]
    assert names(nodes["Abs"]) == ["b"]
    assert [tensor.name for tensor in nodes["Neg"].outputs] == ["a"], "the producer stays"
    assert tensors["a"].outputs == []


def test_only_the_readers_that_are_named() -> None:
    found, nodes, tensors = parts()
    redirect(tensors["a"], tensors["x"], readers=[nodes["Mul"], nodes["Abs"]])
    assert names(nodes["Add"]) == ["a", "a"]
    assert names(nodes["Mul"]) == ["x", "b"]
    assert names(nodes["Abs"]) == ["b"], "it did not read what was redirected"
    assert [tensor.name for tensor in found.graph.outputs] == ["y", "a"]


def test_outputs_of_graphs_on_request() -> None:
    found, _, tensors = parts()
    held = found.graph.outputs
    redirect(tensors["a"], tensors["b"], outputs_of=[found.graph])
    assert found.graph.outputs is held
    assert [tensor.name for tensor in held] == ["y", "b"]


def hands_out(found: Model, tensor: gs.Tensor) -> gs.Graph:
    """The else branch, made to hand out a tensor of the graph around it."""
    body = bodies(next(node for node in found.nodes() if node.op == "If"))["else_branch"]
    body.outputs[:] = [tensor]
    return body


def test_a_body_that_hands_out_a_cast_hands_out_what_was_cast() -> None:
    text = BRANCHES.replace("b = Add (a, a)", "b = Cast <to = 1> (a)").replace("float[2] a) {", "float[2] z) { z = Neg (x)")
    found, _, tensors = parts(text, widened=False)
    body = hands_out(found, tensors["b"])
    widen(found)
    assert body.outputs[0] is tensors["a"]


def test_a_body_that_hands_out_a_literal_hands_out_the_initializer() -> None:
    found, nodes, tensors = parts()
    literal = gs.Constant("b/value", tensors["x"].dtype.type([1.0, 2.0]))
    nodes["Add"].op, nodes["Add"].attrs = "Constant", {"value": literal}
    nodes["Add"].inputs.clear()
    body = hands_out(found, tensors["b"])
    inline_constants(found.graph)
    assert isinstance(body.outputs[0], gs.Constant)
    assert body.outputs[0].name == "b"


def test_a_rounding_is_two_casts_that_are_found_again() -> None:
    found, _, tensors = parts()
    edit = Editor(found)
    nodes, rounded = edit.rounding(tensors["a"], FP16.onnx)
    assert [(node.op, node.attrs["to"]) for node in nodes] == [("Cast", FP16.onnx), ("Cast", FP32.onnx)]
    assert [element_type(node.outputs[0]) for node in nodes] == [FP16.onnx, FP32.onnx]
    assert nodes[0].inputs[0] is tensors["a"]
    assert nodes[1].outputs[0] is rounded
    pair = rounding_of(rounded)
    assert pair is not None
    assert [id(node) for node in pair] == [id(node) for node in nodes]
    assert [rounding_of(tensor) for tensor in (nodes[0].outputs[0], tensors["x"], tensors["b"])] == [None, None, None]


def test_a_rounding_makes_what_it_is_asked_to_make() -> None:
    found, _, tensors = parts()
    nodes, rounded = Editor(found).rounding(tensors["a"], BF16.onnx, tensors["b"])
    assert rounded is tensors["b"]
    assert nodes[1].outputs[0] is rounded


def test_edits_in_turn_share_an_editor_and_no_names() -> None:
    model = model_from_proto(proto("g (float[2] x) => (float[2] y) { a = Neg (x) y = Abs (a) }"))
    other = model.copy()
    with edited(model):
        first = editor_of(model)
        assert editor_of(model) is first
        assert editor_of(other) is not editor_of(other), "another model is nobody's turn"
        assert [first.fresh("n"), editor_of(model).fresh("n"), editor_of(model).fresh("a")] == ["n", "n_2", "a_2"]
        with edited(other):
            assert editor_of(model) is not first
        assert editor_of(model) is first
    assert editor_of(model) is not first


def test_a_node_that_somebody_else_put_in_has_an_owner() -> None:
    model = model_from_proto(proto("g (float[2] x) => (float[2] y) { a = Neg (x) y = Abs (a) }"))
    edit = Editor(model)
    edit.before(model.graph.nodes[0], "Identity", "i", [model.graph.inputs[0]], [edit.variable("t", FP32.onnx)])
    own = gs.Node("Identity", "own", inputs=[model.graph.inputs[0]], outputs=[gs.Variable("u")])
    model.graph.nodes.append(own)
    assert edit.owner(own) is model.graph


def test_a_rule_that_edits_many_nodes_looks_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 12
    text = " ".join(f"a{k} = Abs (x{k}) e{k} = Add (a{k}, tiny) x{k + 1} = Div (x{k}, e{k})" for k in range(count))
    model = model_from_proto(proto(f"g (float[4] x0) => (float[4] x{count}) <float tiny = {{1e-12}}> {{ {text} }}"))
    made: list[Editor] = []
    plain = Editor.__init__

    def counted(self: Editor, model: Model) -> None:
        made.append(self)
        plain(self, model)

    monkeypatch.setattr(Editor, "__init__", counted)
    guards = [node.name for node in model.nodes() if node.op == "Add"]
    carry_out(model, [Edit("raise-eps", name, Promise.ALTERED, values=(("eps", 1e-3),)) for name in guards])
    assert len(made) == 1
    assert len({tensor.name for tensor in model.tensors().values() if isinstance(tensor, gs.Constant)}) == len(guards) == count


def test_raising_the_opset_amid_edits_takes_none_of_their_names_and_leaves_them_none_of_its_own() -> None:
    text = "g (float[2,3] x) => (float[2] y) { y = ReduceSum <axes = [1], keepdims = 0> (x) }"
    model = model_from_proto(proto(text, opset=11))
    with edited(model):
        edit = editor_of(model)
        raise_in_place(model, 13)
        made = [tensor.name for tensor in model.tensors().values() if isinstance(tensor, gs.Constant)]
        assert made, "axes are an initializer from opset 13 on"
        assert not {edit.fresh(name) for name in made} & {*made}


def test_a_node_is_found_as_the_graph_is_now() -> None:
    """The index of names is made once for many edits; nodes come and go meanwhile."""
    found, nodes, tensors = parts()
    with edited(found):
        edit = editor_of(found)
        assert node_of(found, nodes["Mul"].name) is nodes["Mul"], "in a body"
        made = edit.after(nodes["Add"], "Relu", "made", [tensors["b"]], [edit.variable("r", FP32.onnx)])
        assert node_of(found, "made") is made
        edit.remove(made)
        assert node_of(found, "made") is None
        assert [*graphs_of(found)] == [*found.graphs()]
    assert node_of(found, nodes["Abs"].name) is nodes["Abs"]
    assert node_of(found, "nobody") is None


def test_places_are_found_whatever_the_order_of_edits() -> None:
    found, nodes, _ = parts()
    edit = Editor(found)
    for op in ("If", "Neg", "Mul", "Add", "Abs"):
        graph = edit.owner(nodes[op])
        assert graph.nodes[edit.position(graph, nodes[op])] is nodes[op]
    edit.remove(nodes["Neg"])
    with pytest.raises(ValueError, match="is not in graph"):
        edit.position(found.graph, nodes["Neg"])
