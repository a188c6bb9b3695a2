"""Graphs that ended a repair once, and what must survive them."""

from __future__ import annotations

from tools.mutate.fault import Fault

LOWER, CLASSES, ENDURE = "graph/lower.py", "passes/rescale/classes.py", "trace/endure.py"
OF_ODD, OF_LOWER = "tests/odd/test_odd.py::test_it_is_repaired", ("tests/passes/test_lower.py",)
OF_SHADOW, OF_ISOLATION = ("tests/trace/test_shadow.py",), ("tests/tasks/test_isolation.py",)

FAULTS = (
    Fault(
        "checker-is-a-gate",
        "graph/load.py",
        "        refuse_unloadable(path, proto, why)\n",
        "        raise ModelError(why)\n",
        (f"{OF_ODD}[disorderly]",),
        "a graph that runs is refused",
    ),
    Fault(
        "nodes-unsorted",
        "graph/admit.py",
        "        if sort(graph):\n",
        "        if False:\n",
        ("tests/graph/test_admit.py",),
        "the order of nodes ends all",
    ),
    Fault(
        "qdq-optimiser-runs",
        "graph/session.py",
        '    options.add_session_config_entry("session.disable_quant_qdq", "1")\n',
        "",
        ("tests/graph/test_admit.py::test_quantised_graphs_run_as_they_are_written",),
        "a quantised graph ends the process",
    ),
    Fault(
        "cast-behind-dequantised",
        LOWER,
        "        if dequantizes(node) and (fed := self.fed(node)):\n            return fed\n",
        "",
        OF_LOWER,
        "a Cast stands between a DequantizeLinear and its product, and no integers are multiplied",
    ),
    Fault(
        "quantised-input-rounded",
        LOWER,
        "            element = self.held.get(id(node.inputs[0]), element)\n",
        "            pass\n",
        OF_LOWER,
        "an input is rounded to FP16 before it is quantised, and steps flip",
    ),
    Fault(
        "mul-behind-dequantised",
        CLASSES,
        "or element in self.dequantised or",
        "or",
        ("tests/passes/test_scales.py::test_no_mul_stands_behind_a_dequantiser",),
        "a Mul stands between a DequantizeLinear and what it feeds",
    ),
    Fault(
        "failing-twin-ends-all",
        ENDURE,
        "            if not found:",
        "            if True:",
        OF_SHADOW,
        "a wrong index is an error",
    ),
    Fault(
        "lying-rule-stands",
        "passes/changes.py",
        "        if not new or not self.sound.fault(self.model):\n",
        "        if True:\n",
        OF_ISOLATION,
        "a rewrite that changes the function stands",
    ),
    Fault(
        "lost-values-are-close",
        "passes/sound.py",
        "        return -math.inf\n",
        "        return math.inf\n",
        ("tests/passes/test_sound.py",),
        "a rewrite that makes NaN stands",
    ),
    Fault(
        "bodies-without-shapes",
        "ranges/measure.py",
        "*inner.shapes_of(found).items()",
        "",
        ("tests/ranges/test_measure.py::test_shapes_inside_bodies_are_those_of_the_run",),
        "rules and costs know no sizes inside a Loop",
    ),
    Fault(
        "two-opsets-in-one-graph",
        "trace/shadow.py",
        "    opset = max(PROBING, host.opset, guest.opset)\n",
        "    opset = PROBING\n",
        OF_SHADOW,
        "nodes of a newer opset do not load beside the user's",
    ),
    Fault(
        "endless-loop",
        "strict/rounds.py",
        "max(LEAST, MULTIPLE * rounds)",
        "10**6",
        ("tests/strict/test_rounds.py",),
        "a Loop that FP16 never ends holds the repair up",
    ),
    Fault(
        "endless-loop-verified",
        "strict/rounds.py",
        "self.last.name = guard(self.node.name)",
        "self.last.inputs[1] = self.edit.constant('zero', np.asarray(0))",
        ("tests/strict/test_rounds.py",),
        "a product whose values are right by the time it is stopped is verified, and hangs",
    ),
    Fault(
        "endless-loop-unnamed",
        "passes/evidence.py",
        ", *endless(model, typed, samples, config.threads))",
        ",)",
        ("tests/trace/test_endless.py",),
        "a Loop that never ends in FP16 is no hazard",
    ),
    Fault(
        "nothing-saturated",
        "passes/place/placement.py",
        "if 0 not in shapes[name]]",
        "if shapes[name] is not None]",
        (f"{OF_ODD}[nothing-given]",),
        "an input without elements costs a Clip in FP32",
    ),
)
