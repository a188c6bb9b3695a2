"""What a child said and how it ended → its result, or the error that names signal, stage, last messages and ONNX nodes."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any

from fp16fix.errors import BackendMissingError, BuildError, ConfigError, Fp16fixError

LAST_WORDS = 6
"""Messages repeated in an error."""
MEANINGS = {"SIGSEGV": "segmentation fault", "SIGABRT": "abort", "SIGKILL": "killed, most likely by the system for want of memory"}
ERRORS: dict[str, type[Fp16fixError]] = {each.__name__: each for each in (BuildError, BackendMissingError, ConfigError)}
"""What a child may report by name."""


class BuildStoppedError(BuildError):
    """The child ended without a result, or the parser or builder refused.

    Attributes:
        reason: ``refused``, ``crash``, ``timeout`` or ``memory``.
        stage: ``load``, ``parse``, ``build``, ``write`` or ``prove``.
        nodes: ONNX nodes the library named, or that are known to bring this down; may be empty.
        gist: what happened in one line, without the library's last words.
    """

    reason: str = "refused"
    gist: str = ""
    stage: str = ""
    nodes: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[object, ...]:
        return stopped, (self.what, self.where, self.hint, self.reason, self.stage, self.nodes, self.gist)


def stopped(what: str, where: str, hint: str, reason: str, stage: str, nodes: tuple[str, ...], gist: str = "") -> BuildStoppedError:
    """A ``BuildStoppedError`` with its facts."""
    error = BuildStoppedError(what, where=where, hint=hint)
    error.reason, error.stage, error.nodes, error.gist = reason, stage, nodes, gist or what
    return error


@dataclass(slots=True)
class Story:
    """What the child has said so far."""

    stage: str = "load"
    messages: list[str] = field(default_factory=list)
    """The library's errors and warnings, oldest first."""
    suspects: tuple[str, ...] = ()
    """Nodes parsed into layers that are known to crash builders."""
    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None


def judge(where: str, story: Story, code: int, noise: str) -> dict[str, Any]:
    """The result, or the error that says how the child ended."""
    if story.result is not None and code == 0:
        return story.result
    if story.failure is not None:
        failure = story.failure
        kind = ERRORS.get(failure["kind"], BuildError)
        if kind is not BuildError:
            raise kind(failure["what"], where=where, hint=failure["hint"])
        raise stopped(failure["what"], where, failure["hint"], "refused", story.stage, tuple(failure["nodes"]))
    raise crash(where, story, code, noise)


def crash(where: str, story: Story, code: int, noise: str) -> BuildStoppedError:
    """Name the signal, the stage, the last messages, and the nodes known to bring builders down."""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"
    meaning = f" ({MEANINGS[name]})" if name in MEANINGS else ""
    gist = f"the TensorRT process died in stage {story.stage!r}: {name}{meaning}"
    hint = "nothing was written; this is a fault inside TensorRT, another version or backend may not have it"
    if name == "SIGKILL":
        hint = "nothing was written; free memory, or lower workspace_mib or optimization_level"
    elif story.suspects:
        nodes = ", ".join(story.suspects[:5])
        hint = (
            f"the graph has Attention nodes, which are known to crash this builder ({nodes}): decompose them into MatMul, Softmax, MatMul"
        )
    return stopped(f"{gist}{last_words(story, noise)}", where, hint, "crash", story.stage, story.suspects, gist)


def last_words(story: Story, noise: str = "") -> str:
    """The library's last messages, or the end of what it wrote on its error stream, as a tail for an error."""
    said = story.messages[-LAST_WORDS:] or noise.strip().splitlines()[-LAST_WORDS:]
    return "; its last words:\n    " + "\n    ".join(said) if said else "; it had said nothing"
