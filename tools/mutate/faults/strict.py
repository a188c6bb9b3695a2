"""Strict emulation and its profiles."""

from __future__ import annotations

from tools.mutate.fault import Fault

EMULATE, STEPS, PESSIMISTIC = "strict/emulate.py", "strict/steps.py", "strict/profiles/pessimistic.py"
JITTER, VERIFY, OF_JITTER = "strict/jitter.py", "tasks/verify.py", ("tests/strict/test_jitter.py",)
OF_EMULATE, OF_STEPS = ("tests/strict/test_emulate.py",), ("tests/strict/test_insides.py",)

FAULTS = (
    Fault(
        "results-not-rounded",
        "graph/edit.py",
        'attrs={"to": element}, inputs=[tensor], outputs=[narrow])',
        'attrs={"to": FP32.onnx}, inputs=[tensor], outputs=[narrow])',
        OF_EMULATE,
        "nothing is rounded, everything is verified",
    ),
    Fault(
        "inputs-not-rounded",
        EMULATE,
        "                    ordered += self.round_input(tensor)\n",
        "                    pass\n",
        OF_EMULATE,
        "an FP16 interface is judged on FP32 inputs",
    ),
    Fault(
        "old-clip-not-rounded",
        EMULATE,
        'node.op == "Clip" and "min" in node.attrs',
        "False",
        OF_EMULATE,
        "the bound of a Clip that an attribute holds is never rounded",
    ),
    Fault(
        "selection-of-wide-not-rounded",
        EMULATE,
        "return all(id(t) in self.low for t",
        "return all(True for t",
        OF_EMULATE,
        "what is picked from FP32 operands is stored unrounded",
        survives="ONNX types what these operators pick like their operands, so that an FP16 result has FP16 operands (Clip's attributes apart)",
    ),
    Fault("steps-not-written", EMULATE, "    spread(copy, assumed.one_step)\n", "", OF_STEPS, "operators of several layers round once"),
    Fault("gemm-alpha-after-all", STEPS, "    if alpha != 1.0:\n", "    if False:\n", OF_STEPS, "a Gemm's alpha is lost"),
    Fault(
        "square-stored-wide",
        STEPS,
        'step.op("Mul", step.x, step.x)',
        'step.op("Abs", step.x)',
        OF_STEPS,
        "squares inside a sum never overflow",
    ),
    Fault(
        "logsumexp-unshifted",
        STEPS,
        'step.op("Exp", step.op("Sub", step.x, shift))',
        'step.op("Exp", step.x)',
        OF_STEPS,
        "the emulated operator overflows where the engine's does not",
    ),
    Fault(
        "pessimistic-sums-unbounded",
        PESSIMISTIC,
        "np.asarray(FP16.largest, np.float32)",
        "np.asarray(FP32.largest, np.float32)",
        OF_EMULATE,
        "the pessimistic profile grants FP32 accumulators",
    ),
    Fault(
        "pessimistic-signs-cancel",
        PESSIMISTIC,
        'emit("Abs", [node.inputs[index]])',
        "node.inputs[index]",
        OF_EMULATE,
        "sums that overflow in another order pass",
    ),
    Fault(
        "pessimistic-means-not-sums",
        PESSIMISTIC,
        "    if node.op in AVERAGES:\n",
        "    if False:\n",
        OF_EMULATE,
        "the sum inside a mean never overflows",
    ),
    Fault(
        "jitter-all-one-way",
        JITTER,
        "number(2.0 * amplitude)",
        "number(0.0)",
        OF_JITTER,
        "another kernel's rounding is a scale, which a norm takes out again",
    ),
    Fault("jitter-alike-for-all-seeds", JITTER, '#{seed}"', '"', OF_JITTER, "three seeds are one"),
    Fault(
        "verify-not-shaken",
        VERIFY,
        "if on else config.profile, jitter=config.jitter",
        "if on else config.profile, jitter=0",
        ("tests/oracles/test_emulator.py",),
        "verify is milder than repair about the same file",
    ),
    Fault(
        "verify-not-on-blends",
        VERIFY,
        "            oracle.blend(half_of_blends(config, part))\n",
        "            pass\n",
        ("tests/oracles/test_emulator.py",),
        "verify passes what repair would not",
    ),
    Fault(
        "verify-without-share",
        VERIFY,
        "reasons=(*verdict.reasons, why)) if why else verdict",
        "reasons=(*verdict.reasons, why)) if False else verdict",
        ("tests/oracles/test_emulator.py",),
        "an FP32 file is verified as an FP16 one",
    ),
)
