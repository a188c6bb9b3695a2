"""What people hold: the Python API, the command line, patterns that select nodes."""

from __future__ import annotations

from tools.mutate.fault import Fault

CALLS, MODULES = ("tests/api/test_calls.py",), ("tests/api/test_modules.py",)
SELECTING, RUNTIME = ("tests/passes/test_selecting.py",), ("tests/graph/test_runtime.py",)
MANNERS, DIVIDE = ("tests/test_manners.py",), ("tests/inputs/test_divide.py",)

FAULTS = (
    Fault(
        "scratch-in-the-outcome",
        "api/calls.py",
        "    found = retold(noted if kept else replace(noted, files={}), given.names)",
        "    found = noted if kept else replace(noted, files={})",
        CALLS,
        "an outcome names files of a folder that is gone",
    ),
    Fault(
        "scratch-in-errors",
        "api/staging.py",
        "(each.replace(here, there) for each in (error.what, error.where, error.hint))",
        "(error.what, error.where, error.hint)",
        CALLS,
        "an error speaks of files that nobody gave",
    ),
    Fault(
        "labels-taken-for-inputs",
        "inputs/memory.py",
        "    if not len(names) - optional <= len(parts) <= len(names):",
        "    if len(names) - optional > len(parts):",
        CALLS,
        "what a loader yields beside the inputs is dropped in silence",
    ),
    Fault(
        "wrong-export-repaired",
        "api/calls.py",
        "    if not framework.verified:",
        "    if framework.worst is None:",
        MODULES,
        "a graph is verified against an export that never was right",
    ),
    Fault(
        "deepest-key-meant",
        "config/faults.py",
        'key=lambda dotted: -dotted.count(".")',
        'key=lambda dotted: dotted.count(".")',
        CALLS,
        "a typo is answered with the bound of one output instead of all",
    ),
    Fault(
        "libraries-print-into-results",
        "console/manner.py",
        "    os.dup2(2, 1)\n",
        "",
        MANNERS,
        "what a solver prints breaks the JSON",
    ),
    Fault(
        "dry-run-writes",
        "tasks/preview.py",
        'update={"journal": None}',
        "update={}",
        MANNERS,
        "a dry run leaves a journal behind",
    ),
    Fault(
        "summaries-cut",
        "cli/app.py",
        "short_help=said, ",
        "",
        MANNERS,
        "the help ends in the middle of a sentence",
    ),
    Fault(
        "uneven-batch-cut",
        "inputs/divide.py",
        "    if shape[0] % rows:",
        "    if shape[0] < rows:",
        DIVIDE,
        "the last rows of a file are dropped in silence",
    ),
    Fault(
        "bomb-split",
        "inputs/divide.py",
        "        if cut.count > LIMIT or declared[each.name].elements > LARGEST:",
        "        if cut.count < 0:",
        ("tests/inputs/test_declared.py",),
        "an archive of a hundred kilobytes becomes a million samples",
    ),
    Fault(
        "pattern-of-nothing",
        "passes/selecting.py",
        "    if found:\n        return found\n    said",
        "    if not found or found:\n        return found\n    said",
        SELECTING,
        "a pin with a typo pins nothing",
    ),
    Fault(
        "bracket-in-a-name",
        "passes/design.py",
        "name == pattern or fnmatchcase(name, pattern)",
        "fnmatchcase(name, pattern)",
        SELECTING,
        "a node called dec[0] cannot be pinned by its name",
    ),
    Fault(
        "cuda-rounds-the-reference",
        "graph/runtime.py",
        'WITHOUT_TF32 = {"use_tf32": "0"}',
        "WITHOUT_TF32: dict[str, str] = {}",
        RUNTIME,
        "FP32 on the GPU is TF32, and so is what everything is held against",
    ),
    Fault(
        "opset-not-replayed",
        "report/replay.py",
        "    loaded = raise_opset(loaded, facts.opset)\n",
        "",
        RUNTIME,
        "a graph that was raised to another opset cannot be made again",
    ),
)
