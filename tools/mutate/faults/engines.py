"""Building, and what is proven of an engine."""

from __future__ import annotations

from tools.mutate.fault import Fault

PROOF, OPTIONS, STORY, SUPERVISE = (f"engines/{name}.py" for name in ("proof", "options", "story", "supervise"))
OF_PROOF, OF_OPTIONS, OF_STORY = ("tests/engines/test_proof.py",), ("tests/engines/test_options.py",), ("tests/engines/test_story.py",)
OF_BACKEND, OF_TASK, OF_WEAK = ("tests/engines/test_backend.py",), ("tests/tasks/test_engine.py",), ("tests/engines/test_weak.py",)

FAULTS = (
    Fault(
        "lost-pins-not-told",
        PROOF,
        "for node in proof.broken_pins]",
        "for node in ()]",
        OF_PROOF,
        "a pin that TensorRT dropped is not told",
    ),
    Fault("narrow-pins-not-told", PROOF, 'sorted(written - ({fmt, "fp32"}))', "[]", OF_PROOF, "an FP32 node that became FP16 is not told"),
    Fault("fp32-engine-not-told", PROOF, "and proof.fp16_layers == 0:", "and False:", OF_PROOF, "an FP32 engine is delivered as FP16"),
    Fault(
        "passive-layers-count",
        PROOF,
        "if layer.kind.upper() not in PASSIVE:",
        "if True:",
        OF_PROOF,
        "a cast proves that an engine computes in FP16",
    ),
    Fault(
        "profile-without-upper-bound",
        OPTIONS,
        "all(low <= dim <= high for dim, low, high in zip(shape, bounds[0], bounds[2], strict=True))",
        "all(low <= dim for dim, low, high in zip(shape, bounds[0], bounds[2], strict=True))",
        OF_OPTIONS,
        "a sample the engine cannot run is thought covered",
    ),
    Fault(
        "profile-order-unchecked",
        OPTIONS,
        "if not low <= likely <= high]",
        "if not low <= high]",
        OF_OPTIONS,
        "a profile whose opt is out of bounds reaches the builder",
    ),
    Fault(
        "options-dropped",
        OPTIONS,
        "return BuildOptions(**values)",
        "return BuildOptions(backend=values['backend'])",
        OF_OPTIONS,
        "what the user asked of the builder never reaches it",
    ),
    Fault(
        "targets-dropped",
        "engines/flavours/rtx.py",
        "self.targets = self.options.targets or TARGETS",
        "self.targets = TARGETS",
        OF_BACKEND,
        "--target does nothing",
    ),
    Fault(
        "death-after-result-ignored",
        STORY,
        "if story.result is not None and code == 0:",
        "if story.result is not None:",
        OF_STORY,
        "a plan of a process that crashed is delivered",
    ),
    Fault(
        "childs-errors-lose-their-kind",
        STORY,
        'ERRORS.get(failure["kind"], BuildError)',
        "BuildError",
        OF_STORY,
        "a wrong config exits as a broken backend",
    ),
    Fault(
        "childs-failure-swallowed",
        SUPERVISE,
        '        story.failure = event["failure"]\n',
        "        pass\n",
        ("tests/engines/test_supervise.py",),
        "the parser's own words are lost",
    ),
    Fault(
        "time-limit-ignored",
        SUPERVISE,
        "if story.result is None and spent_s > options.timeout_s:",
        "if False:",
        ("tests/engines/test_supervise.py",),
        "--timeout does nothing",
    ),
    Fault(
        "scratch-plan-left",
        SUPERVISE,
        "            target.unlink(missing_ok=True)\n",
        "            pass\n",
        ("tests/engines/test_supervise.py",),
        "a failed build leaves half a plan beside the destination",
    ),
    Fault(
        "weak-pins-half-set",
        "engines/flavours/weak.py",
        "        layer.set_output_type(at, dtype)\n",
        "        pass\n",
        OF_WEAK,
        "a pinned layer's result is narrowed as it leaves",
    ),
    Fault(
        "weak-pins-believed",
        "engines/flavours/weak.py",
        "if not holds(layers[index], types[fmt])}",
        "if False}",
        OF_WEAK,
        "pins are not read back",
    ),
    Fault(
        "failing-corner-forgiven",
        "tasks/engine.py",
        "if each.verdict is not None and not each.verdict.verified",
        "if False",
        OF_TASK,
        "a profile's largest shapes may be wrong",
    ),
    Fault(
        "ways-around-anything",
        "tasks/engine.py",
        "if isinstance(each, Edit) and each.node in error.nodes]",
        "if isinstance(each, Edit)]",
        OF_TASK,
        "every Attention is rewritten for one that ended the build",
    ),
    Fault(
        "corner-judged-by-all",
        "tasks/corners.py",
        "if len(chosen) == len(seen):",
        "if chosen:",
        ("tests/engines/test_profiles.py",),
        "a corner has the verdict of all samples",
    ),
)
