"""What comes from outside and what is left behind: weights beside a model, headers, delivery, signals, the terminal."""

from __future__ import annotations

from tools.mutate.fault import Change, Fault

EXTERNAL, EXCHANGE, DELIVERY = "graph/external.py", "graph/exchange.py", "report/delivery.py"
OF_EXTERNAL, OF_EXCHANGE, OF_DELIVERY = (
    (f"tests/{name}.py",) for name in ("graph/test_external", "graph/test_exchange", "report/test_delivery")
)
OF_INPUTS, OF_PROCESS, OF_TERMINAL = (f"tests/{name}.py" for name in ("inputs/test_declared", "test_process", "test_terminal"))
OF_SAMPLES = ("tests/inputs/test_load.py",)

FAULTS = (
    Fault(
        "fast-informs",
        "tasks/repair.py",
        "return delivered if config.fast else told(",
        "return told(",
        ("tests/tasks/test_isolation.py",),
        "who asks for speed waits for figures that decide nothing",
    ),
    Fault(
        "weights-from-anywhere",
        EXTERNAL,
        "        if inside and path.is_file():",
        "        if path.is_file():",
        OF_EXTERNAL,
        "a model reads any file of the machine into its product",
    ),
    Fault(
        "attribute-weights-from-the-working-directory",
        EXTERNAL,
        '            if attribute.HasField("t"):\n                yield attribute.t\n',
        "",
        OF_EXTERNAL,
        "a Constant's weights are taken from wherever the command is run",
    ),
    Fault(
        "weights-cut-off",
        EXTERNAL,
        "    if offset + length > held:",
        "    if offset > held:",
        OF_EXTERNAL,
        "a file that is cut off ends in a traceback",
    ),
    Fault(
        "header-believed",
        "inputs/declared.py",
        "found.size > left",
        "False",
        (OF_INPUTS,),
        "a header of a hundred bytes takes terabytes",
    ),
    Fault(
        "bomb-unpacked",
        "inputs/files.py",
        "            admit({name: each.declared for name, each in found.items()})\n",
        "",
        (OF_INPUTS,),
        "an archive is unpacked before anybody asks whether it fits",
    ),
    Fault(
        "made-without-end",
        "inputs/made.py",
        "        if math.prod(shape) > LARGEST:",
        "        if not shape:",
        (OF_INPUTS,),
        "inputs of 10¹⁰ elements are made up",
    ),
    Fault(
        "half-a-delivery",
        EXCHANGE,
        "                back.source.replace(back.target)",
        "                pass",
        OF_EXCHANGE,
        "a disk that is full leaves a plan beside another run's outcome",
    ),
    Fault(
        "outcome-there-too-early",
        EXCHANGE,
        "            if moves and moves[-1].target.exists():",
        "            if not moves:",
        OF_EXCHANGE,
        "a crash in the middle leaves an outcome that speaks of another plan",
    ),
    Fault(
        "old-product-left",
        DELIVERY,
        "    return [path for path in dict.fromkeys([*former(products.outcome), *stands]) if path not in targets]",
        "    return []",
        OF_DELIVERY,
        "a failing rerun leaves the former plan beside its own outcome",
    ),
    Fault(
        "foreign-graph-overwritten",
        DELIVERY,
        "(path in ours or not path.exists())",
        "True",
        OF_DELIVERY,
        "-o x.plan replaces a graph that somebody else made",
    ),
    Fault(
        "generations-mixed",
        "graph/save.py",
        'name = f"{path.name}.{digest[:DIGITS]}{DATA}"',
        'name = f"{path.name}.{0:016x}{DATA}"',
        ("tests/graph/test_save.py", *OF_DELIVERY),
        "a crash between two renames pairs a graph with another's weights",
    ),
    Fault(
        "working-directory-imported",
        "process/children.py",
        '"-P", "-m"',
        '"-m"',
        (OF_PROCESS,),
        "a file yaml.py beside the model is run",
    ),
    Fault(
        "terminate-kills",
        "process/interrupts.py",
        "    before = signal.signal(signal.SIGTERM, stop)",
        "    before = signal.getsignal(signal.SIGTERM)",
        (OF_PROCESS,),
        "SIGTERM leaves scratch files and children behind",
    ),
    Fault(
        "escapes-on-the-terminal",
        "console/text.py",
        "line = manner(), visible(text)",
        "line = manner(), text",
        (OF_TERMINAL,),
        "a node's name sets the terminal's title",
    ),
    Fault(
        "optimisers-read-the-hole",
        "graph/session.py",
        "        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL\n        options.add_session",
        "        options.add_session",
        ("tests/graph/test_session.py",),
        "weights of a heavy model are folded as zeros",
    ),
    Fault(
        "end-without-tidying",
        "cli/survive.py",
        "    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter calls at its end\n",
        "",
        ("tests/tasks/test_isolation.py",),
        "folders of temporary files are left behind",
    ),
    Fault(
        "end-without-flushing",
        "cli/survive.py",
        "            stream.flush()\n",
        "            pass\n",
        ("tests/tasks/test_isolation.py",),
        "what is printed into a pipe is lost",
    ),
    Fault(
        "samples-held-by-place",
        "inputs/sample.py",
        "id(entry) in self._samples:",
        "self._samples:",
        OF_SAMPLES,
        "every sample is the first",
        also=(Change("inputs/sample.py", "return self._samples[id(entry)][1]", "return next(iter(self._samples.values()))[1]"),),
    ),
    Fault(
        "samples-held-for-ever",
        "inputs/sample.py",
        "while self._bytes > HELD:",
        "while False:",
        OF_SAMPLES,
        "memory grows with the number of samples",
    ),
    Fault(
        "samples-anybodys",
        "inputs/sample.py",
        "view.flags.writeable = False",
        "pass",
        OF_SAMPLES,
        "whoever writes to an input changes it for all graphs that run afterwards",
    ),
)
