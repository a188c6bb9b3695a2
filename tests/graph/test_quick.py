"""What is made quickly is what onnx-graphsurgeon makes: field for field, so that an update of it is noticed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx_graphsurgeon.ir.tensor import LazyValues

from fp16fix.graph import quick
from fp16fix.graph.model import graphs_under

VALUES = np.arange(3, dtype=np.float32)


def described(value: Any) -> Any:
    """Fields by name, with links as names and list's own fields beside them."""
    if type(value).__name__ == "SynchronizedList":
        return (type(value).__name__, [each.name for each in value], value.field_name, value.parent_obj.name)
    return value


def fields(made: Any) -> dict[str, Any]:
    return {key: described(value) for key, value in vars(made).items()}


def test_tensors_have_the_fields_that_onnx_graphsurgeon_gives_them() -> None:
    wanted = gs.Variable("x", np.dtype(np.float16), [1, "n"]), gs.Variable("s", None, None, "sequence_type"), gs.Variable.empty()
    made = quick.variable("x", np.dtype(np.float16), [1, "n"]), quick.variable("s", kind="sequence_type"), quick.variable("")
    assert [fields(each) for each in made] == [fields(each) for each in wanted]
    constants = quick.constant("w", VALUES), gs.Constant("w", VALUES)
    assert [type(each) for each in (*made, constants[0])] == [type(each) for each in (*wanted, constants[1])]
    assert fields(constants[0]) == fields(constants[1])
    assert constants[0].shape == (3,)
    assert constants[0].export_dtype == np.float32


def test_a_node_is_linked_both_ways_as_onnx_graphsurgeon_links_it() -> None:
    def made(variable: Any, node: Any) -> list[Any]:
        x, y = variable("x"), variable("y")
        found = node("Mul", "m", attrs={"a": 1}, inputs=[x, x], outputs=[y], domain="d")
        return [x, y, found, *x.outputs, *y.inputs]

    quickly, slowly = made(quick.variable, quick.node), made(gs.Variable, gs.Node)
    assert [fields(each) for each in quickly] == [fields(each) for each in slowly]
    x, y, found, *_ = quickly
    z = quick.variable("z")
    found.inputs[1] = z
    assert (x.outputs, z.outputs, y.inputs) == ([found], [found], [found])
    found.inputs.clear()
    assert (x.outputs, z.outputs) == ([], [])
    assert fields(quick.node("Op", "n"))["attrs"] == {}


def test_a_node_takes_whatever_yields_tensors() -> None:
    tensors = [quick.variable("a"), quick.variable("b")]
    made = quick.node("Add", "n", inputs=iter(tensors), outputs=(each for each in [quick.variable("c")]))
    assert [each.name for each in (*made.inputs, *made.outputs)] == ["a", "b", "c"]
    assert all(each.outputs == [made] for each in tensors)


def nested() -> gs.Graph:
    """An If whose branches read what is around them, hide a name of it, hold a weight of their own and hand out what is outside."""
    x, flag = gs.Variable("x", np.dtype(np.float32), [3]), gs.Variable("flag", np.dtype(np.bool_), [])
    weight, y, z = gs.Constant("w", VALUES), gs.Variable("y", np.dtype(np.float32), [3]), gs.Variable("z", np.dtype(np.float32), [3])
    own, sequence = gs.Variable("y", np.dtype(np.float32), [3]), gs.Variable("q", np.dtype(np.float32), None, "sequence_type")
    then = gs.Graph(
        [
            gs.Node("Add", "t", inputs=[x, gs.Constant("v", VALUES)], outputs=[own]),
            gs.Node("SequenceConstruct", "u", inputs=[own], outputs=[sequence]),
        ],
        outputs=[own],
        name="then",
    )
    other = gs.Graph([gs.Node("Clip", "c", inputs=[y, gs.Variable.empty(), weight], outputs=[gs.Variable("k")])], outputs=[y], name="else")
    nodes = [
        gs.Node("Mul", "m", inputs=[x, weight], outputs=[y]),
        gs.Node("If", "i", {"then_branch": then, "else_branch": other}, [flag], [z]),
        gs.Node("Own", "o", {"alpha": 0.5}, [z], [gs.Variable("r")], domain="my.ops"),
    ]
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("my.ops", 2)]
    return gs.Graph(nodes, [x, flag], [z, y], name="g", doc_string="said", opset=17, import_domains=imports, ir_version=8)


def test_a_copy_is_the_same_model_and_shares_nothing_but_values() -> None:
    graph = nested()
    before = gs.export_onnx(graph).SerializeToString()
    copy = quick.copied(graph)
    assert gs.export_onnx(copy).SerializeToString() == before
    own = [
        {id(each) for graph in graphs_under(every) for node in graph.nodes for each in (node, *node.inputs, *node.outputs)}
        for every in (graph, copy)
    ]
    assert not own[0] & own[1]
    assert copy.tensors()["w"].values is VALUES
    for each in (*copy.inputs, *copy.outputs):
        each.name = f"other/{each.name}"
    copy.nodes[0].attrs["more"] = 1
    copy.nodes.pop()
    assert gs.export_onnx(graph).SerializeToString() == before


def test_bodies_read_the_copies_of_what_is_around_them_and_own_what_they_make() -> None:
    graph = nested()
    copy = quick.copied(graph)
    x, y = copy.inputs[0], copy.nodes[0].outputs[0]
    then, other = copy.nodes[1].attrs.values()
    assert then.nodes[0].inputs[0] is x
    assert then.nodes[0].outputs[0] is not y, "a body's own tensor hides the one outside"
    assert then.outputs[0] is then.nodes[0].outputs[0]
    assert other.nodes[0].inputs[0] is y
    assert other.outputs[0] is y
    assert sorted(each.name for each in y.outputs) == ["c"]
    assert then.nodes[1].outputs[0].type == "sequence_type", "onnx-graphsurgeon forgets it"


def test_a_body_copied_alone_reads_what_it_is_given() -> None:
    then = nested().nodes[1].attrs["then_branch"]
    given = gs.Variable("x", np.dtype(np.float32), [3])
    copy = quick.copied(then, {"x": given, "y": gs.Variable("y")})
    assert copy.nodes[0].inputs[0] is given
    assert copy.nodes[0].outputs[0].outputs == [copy.nodes[1]]


@pytest.mark.parametrize("element", [onnx.TensorProto.FLOAT, onnx.TensorProto.INT64])
def test_values_that_nobody_has_read_stay_unread_in_a_copy(element: int) -> None:
    proto = onnx.helper.make_tensor("w", element, [2], [1, 2])
    graph = gs.Graph([gs.Node("Neg", "n", inputs=[gs.Constant("w", LazyValues(proto))], outputs=[gs.Variable("y")])])
    copy = quick.copied(graph).nodes[0].inputs[0]
    assert isinstance(copy._values, LazyValues)
    assert copy.values.tolist() == [1, 2]


def test_a_type_that_was_said_of_former_values_is_not_said_of_the_copy() -> None:
    graph = gs.Graph([gs.Node("Neg", "n", inputs=[gs.Constant("w", VALUES, export_dtype=np.float16)], outputs=[gs.Variable("y")])])
    copied = quick.copied(graph).nodes[0].inputs[0]
    copied.values = VALUES.astype(np.float64)
    assert copied.export_dtype == np.float64
