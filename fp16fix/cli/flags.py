"""Flags → dotted config keys: the flags that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fp16fix.errors import ConfigError
from fp16fix.inputs.shapes import gather_profiles, parse_shape

if TYPE_CHECKING:
    from fp16fix.config import Config

Model = Annotated[Path | None, typer.Argument(help="ONNX model; may also stand in the YAML as `model:`", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="x.plan for an engine, x.onnx for the repaired graph", show_default=False)
]
Inputs = Annotated[
    str | None,
    typer.Option(
        "-i", "--inputs", help="samples: folder of .npz, one .npz or .npy, Polygraphy JSON, or file.py:function", show_default=False
    ),
]
YamlConfig = Annotated[Path | None, typer.Option("-c", "--config", help="YAML with anything flags can say; flags win", show_default=False)]
Shape = Annotated[
    list[str] | None, typer.Option("--shape", help="settle free dimensions: name:1x3x224x224 (repeatable)", show_default=False)
]
Box = Annotated[
    list[str] | None,
    typer.Option("--box", help="instead of samples: prove that no input within name:low,high overflows (repeatable)", show_default=False),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="what nodes compute in that are on no island: fp16 or bf16 [fp16]", show_default=False)
]
Io = Annotated[str | None, typer.Option("--io", help="type of float inputs and outputs: fp32, or that of --precision", show_default=False)]
WideFormat = Annotated[str | None, typer.Option("--wide", help="what islands compute in: fp32, bf16 or auto", show_default=False)]
Headroom = Annotated[float | None, typer.Option("--headroom", help="octaves to leave above what calibration saw [2]", show_default=False)]
OnlyExact = Annotated[bool | None, typer.Option("--only-exact", help="no repair that alters the FP32 function", show_default=False)]
Pin = Annotated[
    list[str] | None, typer.Option("--pin", help="nodes that stay FP32: glob, re:expression or op:Softmax (repeatable)", show_default=False)
]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="nodes that are FP16 whatever is found, likewise (repeatable)", show_default=False)
]
Opset = Annotated[int | None, typer.Option("--opset", help="raise the graph to this opset first", show_default=False)]
OrtLibrary = Annotated[
    list[Path] | None,
    typer.Option("--ort-library", help="shared library with ONNX Runtime kernels of custom operators (repeatable)", show_default=False),
]
StandIn = Annotated[
    list[str] | None,
    typer.Option("--stand-in", help="compute an operator in Python: domain::Op=file.py:function (repeatable)", show_default=False),
]
Device = Annotated[
    str | None, typer.Option("--device", help="where ONNX Runtime measures and emulates: cpu or cuda [cpu]", show_default=False)
]
Tolerance = Annotated[
    float | None,
    typer.Option("--sqnr", help="least SQNR of every output against FP32, dB [50; with --precision bf16 32]", show_default=False),
]
MaxAbs = Annotated[float | None, typer.Option("--max-abs", help="largest |error| of every output, in its own unit", show_default=False)]
MaxRel = Annotated[
    float | None, typer.Option("--max-rel", help="largest |error| of every output over its largest value in FP32", show_default=False)
]
Cosine = Annotated[float | None, typer.Option("--cosine", help="least cosine similarity of every output", show_default=False)]
Numerics = Annotated[
    str | None,
    typer.Option("--numerics", help="insides of operators: compiled, compiled-tf32, accumulate or pessimistic", show_default=False),
]
StrictSums = Annotated[
    bool | None, typer.Option("--strict-accumulation", help="not verified unless it holds where products add in FP16", show_default=False)
]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads, 0 for all [0]", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else")]
Target = Annotated[
    list[str] | None, typer.Option("--target", help="compute capability for TensorRT-RTX: sm89,sm120 (repeatable)", show_default=False)
]
Backend = Annotated[str | None, typer.Option("--backend", help="auto, rtx, strong or weak", show_default=False)]
ShapeProfile = Annotated[
    list[str] | None,
    typer.Option(
        "--profile", help="dynamic input: name:min,opt,max as 1x3x224x224,4x3x224x224,8x3x224x224 (repeatable)", show_default=False
    ),
]
Timeout = Annotated[float | None, typer.Option("--timeout", help="seconds an engine build may take [1800]", show_default=False)]
Workspace = Annotated[int | None, typer.Option("--workspace", help="builder scratch memory, MiB", show_default=False)]
Level = Annotated[int | None, typer.Option("--optimization-level", help="builder optimisation level, 0 to 5", show_default=False)]
NoTf32 = Annotated[bool | None, typer.Option("--no-tf32", help="FP32 layers without TF32", show_default=False)]
Plugin = Annotated[
    list[Path] | None, typer.Option("--plugin", help="shared library with TensorRT plugins (repeatable)", show_default=False)
]
Simplify = Annotated[bool | None, typer.Option("--simplify/--no-simplify", help="run onnxsim first", show_default=False)]
Keep = Annotated[bool | None, typer.Option("--keep-unverified", help="write x.unverified.plan when the verdict fails", show_default=False)]
Fast = Annotated[
    bool | None, typer.Option("--fast", help="leave out figures that decide nothing; the verdict is the same", show_default=False)
]
HeldOut = Annotated[float | None, typer.Option("--held-out", help="share of the samples kept for the verdict [0.5]", show_default=False)]


Journal = Annotated[
    Path | None, typer.Option("--journal", help="remember every measurement here; a rerun goes on where it stopped", show_default=False)
]
Budget = Annotated[float | None, typer.Option("--budget", help="seconds that searching may measure", show_default=False)]
Repeats = Annotated[int | None, typer.Option("--repeats", help="runs of each candidate, to notice a flaky oracle [1]", show_default=False)]


Set = Annotated[list[str] | None, typer.Option("--set", help="any YAML key: --set build.strip_plan=true (repeatable)", show_default=False)]


def config_from(yaml: Path | None, settings: Sequence[str] | None = None, **flags: Any) -> Config:
    """The config of a command: YAML, then ``--set``, then the flags that were given.

    Raises:
        ConfigError: a key, flag or value that means nothing.
    """
    # Help and completion need no schema, and pydantic takes most of their time.
    from fp16fix.config import Config, load_config, merged

    base = load_config(yaml) if yaml is not None else Config()
    given = dict(setting(text) for text in settings or ())
    given |= {dotted(key): value for key, value in flags.items() if value is not None and value != []}
    return merged(base, given) if given else base


def setting(text: str) -> tuple[str, Any]:
    """``build.refit=true`` → key and value, the value read as YAML.

    Raises:
        ConfigError: no ``=``, or a value that is not YAML.
    """
    from fp16fix.config.file import value_of

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"expected key=value, found {text!r}", where="--set", hint="--set build.optimization_level=5")
    return key.strip(), value_of(value, f"--set {key}")


def dotted(key: str) -> str:
    """``build__targets`` → ``build.targets``; ``json`` stays."""
    return key.replace("__", ".")


def shapes(flags: Sequence[str] | None) -> dict[str, tuple[int, ...]] | None:
    """``--shape`` flags."""
    return dict(parse_shape(text) for text in flags) if flags else None


def stand_ins(flags: Sequence[str] | None) -> dict[str, str] | None:
    """``--stand-in`` flags.

    Raises:
        ConfigError: one that is no operator with a function.
    """
    pairs = [text.partition("=") for text in flags or ()]
    for op, equals, code in pairs:
        if not (op and equals and code):
            hint = "--stand-in my.domain::MyOp=ops.py:my_op"
            raise ConfigError(f"expected domain::Op=file.py:function, found {op + equals + code!r}", where="--stand-in", hint=hint)
    return {op: code for op, _, code in pairs} or None


def box(flags: Sequence[str] | None) -> dict[str, list[float]] | None:
    """``--box`` flags.

    Raises:
        ConfigError: one that is no name with two numbers.
    """
    return dict(_interval(text) for text in flags) if flags else None


def _interval(text: str) -> tuple[str, list[float]]:
    name, _, ends = text.rpartition(":")
    try:
        low, high = (float(end) for end in ends.split(","))
    except ValueError:
        raise ConfigError(f"expected name:low,high, found {text!r}", where="--box", hint="--box image:0,1") from None
    return name, [low, high]


def targets(flags: Sequence[str] | None) -> list[str] | None:
    """``--target sm89,sm120`` flags."""
    return [part.strip() for text in flags for part in text.split(",") if part.strip()] if flags else None


def profiles(flags: Sequence[str] | None) -> list[dict[str, dict[str, Sequence[int]]]] | None:
    """``--profile`` flags as the ``build.profiles`` key takes them."""
    if not flags:
        return None
    return [{name: {"min": p.min, "opt": p.opt, "max": p.max} for name, p in profile.items()} for profile in gather_profiles(flags)]
