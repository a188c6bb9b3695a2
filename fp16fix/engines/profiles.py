"""Optimisation profiles against the model's inputs before anything runs, against the samples, and corner by corner in the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from fp16fix.config import Config
from fp16fix.config.sections import ShapeRange
from fp16fix.engines import OptimizationProfile, covering
from fp16fix.engines.options import Dims, EngineInput, check_profiles
from fp16fix.errors import ConfigError, ModelError, absent, first_line
from fp16fix.graph.names import name_nodes
from fp16fix.graph.opaque import cut
from fp16fix.graph.outline import outlined
from fp16fix.inputs.load import load as load_samples
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.shapes import text_from_dims
from fp16fix.inputs.signature import Input, dimension, with_dims
from fp16fix.inputs.span import extent, shapes_of
from fp16fix.passes.evidence import Arrays

Sample = Mapping[str, np.ndarray]


def declared(path: Path) -> tuple[Input, ...]:
    """The inputs an ONNX file declares.

    Raises:
        ModelError: no such file, or not ONNX.
    """
    return inputs_of(unweighted(path))


def fed(path: Path) -> tuple[Input, ...]:
    """What samples hold: the inputs, and what an operator gives that nothing here computes. Raises as ``declared``."""
    proto = unweighted(path)
    name_nodes(proto)
    recorded = cut(proto, {}).recorded
    return tuple(replace(each, given_by=recorded.get(each.name, "")) for each in inputs_of(proto))


def unweighted(path: Path) -> onnx.ModelProto:
    """An ONNX file, weights where they lie. Raises as ``declared``."""
    if not path.is_file():
        raise ModelError(absent(path), where=str(path), hint="give the path of an .onnx file")
    try:
        return outlined(path)
    except Exception as error:  # protobuf and OS errors share no base class
        raise ModelError(f"not a readable ONNX file ({first_line(error)})", where=str(path), hint="export the model again") from error


def inputs_of(proto: onnx.ModelProto) -> tuple[Input, ...]:
    """Those that no initializer settles."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return tuple(input_of(value) for value in proto.graph.input if value.name not in weights)


def input_of(value: onnx.ValueInfoProto) -> Input:
    """One declared input."""
    tensor = value.type.tensor_type
    dims = (d.dim_value if d.WhichOneof("value") == "dim_value" else d.dim_param for d in tensor.shape.dim)
    return Input(value.name, tensor.elem_type, tuple(map(dimension, dims)), ranked=tensor.HasField("shape"))


def settled(config: Config) -> Config:
    """The config of an engine build with all that its profiles and ``shapes`` say of each other, or an error before any analysis.

    ``shapes`` that settle every dynamic dimension stand for a profile of just these shapes; samples in files give one where there is no
    other; a profile's ``opt`` shapes are those of made-up samples.

    Raises:
        ModelError: no such file, or not ONNX.
        ConfigError: a dynamic input without a profile (with the flags to add), a profile that does not fit the inputs, a sample in a file
            that no profile covers.
    """
    inputs = declared(config.model or Path())
    profiles = profiles_of(config)
    if not profiles and config.shapes:
        fixed = {each.name: numbers(each) for each in with_dims(inputs, config.shapes)}
        if any(dynamic(each) for each in inputs) and not any(-1 in shape for shape in fixed.values()):
            config = with_profile(config, {each.name: fixed[each.name] for each in inputs if dynamic(each)})
    if not profiles_of(config) and in_files(config) and any(dynamic(each) for each in inputs):
        config = with_profiles(config, seen_shapes(inputs, Arrays(given_samples(config))))
    refuse_unfit(config, inputs)
    if config.inputs is None and not config.shapes and profiles:
        return config.model_copy(update={"shapes": {name: opt for name, (_, opt, _) in plain(profiles[0], inputs).items()}})
    if config.inputs is not None and in_files(config):
        refuse_uncovered(config, Arrays(given_samples(config)))
    return config


def given_samples(config: Config) -> Samples:
    """Those in files. Raises as ``inputs.load``."""
    return load_samples(config.inputs or "", fed(config.model or Path()), config.shapes)


def seen_shapes(inputs: Sequence[Input], samples: Arrays) -> dict[str, ShapeRange]:
    """The profile of what samples show of dynamic inputs: smallest and largest of each dimension, and the shape that comes most often."""
    found = shapes_of(samples)
    shown = {each.name: extent(found[each.name]) for each in inputs if dynamic(each) and each.name in found}
    return {name: ShapeRange(min=low, opt=most, max=high) for name, (low, most, high) in shown.items()}


def in_files(config: Config) -> bool:
    """Whether the samples are there already; others are made up or come out of a function, once."""
    return config.inputs is not None and ".py:" not in config.inputs


def refuse_unfit(config: Config, inputs: Sequence[Input]) -> None:
    """ConfigError unless the profiles fit the inputs, as far as that is known before parsing."""
    check_profiles([plain(profile, inputs) for profile in profiles_of(config)], [EngineInput(each.name, numbers(each)) for each in inputs])


def profiles_of(config: Config) -> tuple[OptimizationProfile, ...]:
    """The config's profiles as the builder takes them."""
    return tuple({name: (r.min, r.opt, r.max) for name, r in profile.items()} for profile in config.build.profiles)


def with_profile(config: Config, shapes: Mapping[str, Dims]) -> Config:
    """The config with one profile of exactly these shapes."""
    return with_profiles(config, {name: ShapeRange(min=dims, opt=dims, max=dims) for name, dims in shapes.items()})


def with_profiles(config: Config, profile: dict[str, ShapeRange]) -> Config:
    """The config with this profile alone."""
    return config.model_copy(update={"build": config.build.model_copy(update={"profiles": (profile,)})})


def numbers(given: Input) -> Dims:
    """Its shape, −1 where free."""
    return tuple(dim if isinstance(dim, int) else -1 for dim in given.shape)


def dynamic(given: Input) -> bool:
    """Whether any dimension is free."""
    return -1 in numbers(given)


def may_hold_shape(given: Input) -> bool:
    """A static list of integers: its values may decide shapes, which only TensorRT's parser knows, so a profile may bound values."""
    return given.element in {onnx.TensorProto.INT32, onnx.TensorProto.INT64} and len(given.shape) <= 1 and not dynamic(given)


def plain(profile: OptimizationProfile, inputs: Sequence[Input]) -> OptimizationProfile:
    """A profile without the inputs of which only the parser can tell what is bounded."""
    held = {each.name for each in inputs if may_hold_shape(each)}
    return {name: shapes for name, shapes in profile.items() if name not in held}


def measures(sample: Sample, inputs: Sequence[Input]) -> dict[str, Dims]:
    """What a profile bounds of a sample: shapes, or values where those decide shapes."""
    held = {each.name for each in inputs if may_hold_shape(each)}
    return {
        name: tuple(int(value) for value in array.reshape(-1)) if name in held else tuple(array.shape) for name, array in sample.items()
    }


def refuse_uncovered(config: Config, samples: Arrays) -> None:
    """Every sample must be one the engine can run.

    Raises:
        ConfigError: a sample that no profile covers, with its shapes and every profile's bounds.
    """
    profiles = profiles_of(config)
    if not profiles:
        return
    inputs = declared(config.model or Path())
    for sample in samples.samples:
        found = measures(sample.arrays, inputs)
        if covering(profiles, found) is None:
            bounded = {name for profile in profiles for name in profile}
            shapes = ", ".join(f"{name} {text_from_dims(dims)}" for name, dims in found.items() if name in bounded)
            raise ConfigError(
                f"sample {sample.name!r} has {shapes}, which no optimisation profile covers: " + "; ".join(map(bounds, profiles)),
                where="build.profiles",
                hint="widen a profile, add one (--profile), or leave the sample out",
            )


def bounds(profile: OptimizationProfile) -> str:
    """``x 1x3 to 8x3``."""
    return ", ".join(f"{name} {text_from_dims(low)} to {text_from_dims(high)}" for name, (low, _, high) in sorted(profile.items()))
