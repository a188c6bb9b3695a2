"""Two graphs side by side: shadow, births, shares, proofs that a hazard has no effect."""

from __future__ import annotations

from tools.mutate.fault import Change, Fault

HARMLESS, SHADOW, BIRTHS, SHARE = (f"trace/{name}.py" for name in ("harmless", "shadow", "births", "share"))
OF_HARMLESS, OF_SHADOW = ("tests/trace/test_harmless.py",), ("tests/trace/test_shadow.py",)
OF_BIRTHS = ("tests/trace/test_births.py", "tests/location/test_locate.py")
DECIBELS, STAYS = "error.damage_db >= HEALED_DB and ", "            if not stays_healed(tensor, nodes, errors, others):\n"

FAULTS = (
    Fault(
        "proofs-cut-short",
        HARMLESS,
        "        if batch and held + size(hazard) > AT_ONCE:\n            yield batch\n",
        "        if batch and held + size(hazard) > AT_ONCE:\n",
        OF_HARMLESS,
        "of many hazards only the last are proven harmless, and the others are pinned",
    ),
    Fault(
        "proofs-of-what-passes",
        "search/draft.py",
        "presumed(evidence.hazards) if calm else",
        "dict(evidence.proofs) if calm else",
        ("tests/search/test_answer.py",),
        "a model that is right in FP16 waits for proofs that nobody needs",
    ),
    Fault(
        "coarse-presumed-at-fault",
        HARMLESS,
        "dict.fromkeys([*shown, *coarse_at(hazards, over)], PASSES)",
        "dict.fromkeys(shown, PASSES)",
        ("tests/search/test_answer.py",),
        "an exponential that overflows without effect is pinned for being coarse",
    ),
    Fault("healed-whatever-the-decibels", HARMLESS, DECIBELS, "", OF_HARMLESS, "an error of many small elements is called harmless"),
    Fault(
        "healed-whatever-the-elements",
        HARMLESS,
        " and error.off <= HEALED_OFF",
        "",
        OF_HARMLESS,
        "beside a massive channel all others may be wrong",
    ),
    Fault(
        "healed-whatever-follows",
        HARMLESS,
        STAYS,
        "            if False:\n",
        OF_HARMLESS,
        "a zero where 0.004 was is acquitted before it is multiplied by 2000",
    ),
    Fault(
        "healed-without-guards",
        HARMLESS,
        DECIBELS,
        "",
        OF_HARMLESS,
        "everything is harmless",
        also=(Change(HARMLESS, "error.off <= HEALED_OFF", "True"), Change(HARMLESS, STAYS, "            if False:\n")),
    ),
    Fault(
        "unhealed-at-the-output",
        HARMLESS,
        "        if tensor.name in finals or not tensor.outputs:\n            return None\n",
        "        if tensor.name in finals or not tensor.outputs:\n            continue\n",
        OF_HARMLESS,
        "an error that reaches one output is acquitted by another path",
    ),
    Fault(
        "literals-acquitted",
        HARMLESS,
        "frozenset({Kind.OVERFLOW, Kind.VANISH, Kind.CANCEL})",
        "frozenset(Kind)",
        ("tests/trace/test_harmless.py", "tests/hazards/test_diagnose.py"),
        "a mask's literal is acquitted by samples without padding",
    ),
    Fault(
        "others-errors-blamed",
        HARMLESS,
        " and consumer.name not in others]",
        "]",
        OF_HARMLESS,
        "a hazard is kept for what another does behind it",
    ),
    Fault(
        "cone-ends-soon",
        HARMLESS,
        "    for _ in range(DEPTH):\n",
        "    for _ in range(1):\n",
        OF_HARMLESS,
        "nothing that heals two operators on is acquitted",
    ),
    Fault(
        "exponents-not-handed-on",
        SHADOW,
        "Pair(name, name, twin, exponents.get(name, 0))",
        "Pair(name, name, twin)",
        OF_SHADOW,
        "every rescaled tensor looks wrong in the report",
    ),
    Fault(
        "exponents-upside-down",
        SHADOW,
        "np.asarray(2.0**pair.exponent, np.float32)",
        "np.asarray(2.0**-pair.exponent, np.float32)",
        OF_SHADOW,
        "every rescaled tensor looks wrong in the report",
    ),
    Fault(
        "lost-values-uncounted",
        SHADOW,
        "return -math.inf if self.nonfinite else self.sqnr_db",
        "return self.sqnr_db",
        ("tests/trace/test_shadow.py", "tests/trace/test_births.py", "tests/trace/test_harmless.py"),
        "a tensor of infinities is as good as its finite rest",
    ),
    Fault(
        "same-infinity-is-lost",
        SHADOW,
        'probes.emit("Or", [kept, same], BOOL)',
        "kept",
        OF_SHADOW,
        "masks of −inf look wrong in the report",
    ),
    Fault(
        "births-on-strict-inputs",
        BIRTHS,
        "            redirect(twin, tensor if tensor.name in self.unstorable else exact)\n",
        "            pass\n",
        OF_BIRTHS,
        "a fault hides behind an earlier one",
    ),
    Fault(
        "births-blame-the-fed",
        BIRTHS,
        "inside - out < least_db",
        "CEILING_DB - out < least_db",
        OF_BIRTHS,
        "whoever reads a bad tensor is accused",
    ),
    Fault(
        "switches-all-on",
        SHARE,
        "np.asarray(name in wanted)",
        "np.asarray(True)",
        OF_BIRTHS,
        "every node's share is that of all",
    ),
)
