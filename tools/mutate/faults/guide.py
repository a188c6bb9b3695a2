"""Searches that ask single inputs first, and what those say."""

from __future__ import annotations

from tools.mutate.fault import Fault

GUIDE, EMULATOR = "search/guide.py", "oracles/emulator.py"
OF_GUIDE, OF_EMULATOR = ("tests/search/test_guide.py",), ("tests/oracles/test_emulator.py",)

FAULTS = (
    Fault(
        "ends-not-judged",
        GUIDE,
        "                if guide.confirm(path[-1]):",
        "                if True:",
        OF_GUIDE,
        "what passes the inputs that refuted others is used, whatever the rest say",
    ),
    Fault(
        "what-no-input-refutes-believed",
        GUIDE,
        "guide.glance(names) and guide.confirm(names)",
        "guide.glance(names)",
        OF_GUIDE,
        "a metric over all samples, or a command, is not asked",
    ),
    Fault(
        "larger-after-smaller",
        GUIDE,
        "                    if sure is None or len(names) < len(sure):\n                        sure",
        "                    if True:\n                        sure",
        OF_GUIDE,
        "a search that is stopped late ends with more than it had found",
    ),
    Fault(
        "let-through-lost-with-the-budget",
        GUIDE,
        "if sure is None or len(names) < len(sure)]",
        "if sure is not None and len(names) < len(sure)]",
        OF_GUIDE,
        "a search that is stopped before its first verdict has found nothing",
    ),
    Fault(
        "not-watched-where-it-nearly-fails",
        GUIDE,
        "                    guide.watch(guide.recipe_of(names))\n",
        "",
        OF_GUIDE,
        "searches follow sets that are right by luck on one input",
    ),
    Fault(
        "margin-of-verdicts-alone",
        GUIDE,
        "return score.good is True and score.spare_db >= self.least_db",
        "return score.good is True",
        OF_GUIDE,
        "single inputs let through what lacks the margin",
    ),
    Fault(
        "alone-by-its-own-energy",
        EMULATOR,
        "return faultless.with_one(reference.names.index(probe.sample), run.comparison).figures()",
        "return run.comparison.figures()",
        OF_EMULATOR,
        "a nearly silent sample refutes what its verdict passes",
    ),
    Fault(
        "blends-of-two-are-one",
        "oracles/reference.py",
        'f"{name} ({self._named[name]})"',
        "name",
        OF_EMULATOR,
        "another blend of the same two samples is asked than the one that fails",
    ),
    Fault(
        "together-asked-of-one",
        "verdict/verdict.py",
        'return "" if self.least is None else self.least.sample',
        "return self.sample",
        OF_EMULATOR,
        "one sample is asked where only all together fail, and whole verdicts lead the search",
    ),
    Fault(
        "a-kind-measured-again",
        EMULATOR,
        "(key, profile, probe.seed or None), (), lambda: None)",
        '("", profile, probe.seed or None), (), lambda: None)',
        OF_EMULATOR,
        "what all samples of a kind said is measured once more for the verdict",
    ),
    Fault(
        "later-samples-not-measured-by",
        EMULATOR,
        "        self._forget()\n        self.own.extend(samples, names, tick)",
        "        self.own.extend(samples, names, tick)",
        OF_EMULATOR,
        "single inputs are judged as if there were no held-out samples",
    ),
    Fault(
        "drawn-anew-alone",
        EMULATOR,
        "nearest=() if self.strict.own.draws else nearest(verdict)",
        "nearest=nearest(verdict)",
        OF_GUIDE,
        "a random model is refuted by numbers that it did not draw",
    ),
    Fault(
        "nearest-not-journaled",
        "search/judge.py",
        'record.get("nearest", ())',
        "()",
        OF_GUIDE,
        "a search that goes on knows nothing to ask first",
    ),
)
