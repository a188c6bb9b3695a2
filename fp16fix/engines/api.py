"""Every TensorRT name this package touches, in one table: read when a flavour is loaded, and checked in the tests against real bindings.

An entry is ``Class.member`` or ``Class.method(arguments as we pass them)``. A name in ``OPTIONAL`` is asked for before it is used.
"""

from __future__ import annotations

import re
from typing import Any

BUILD = (
    "__version__",
    "init_libnvinfer_plugins(logger, namespace)",
    "ILogger.__init__()",
    "ILogger.log(severity, msg)",
    "Builder.__init__(logger)",
    "Builder.create_network(flags)",
    "Builder.create_builder_config()",
    "Builder.create_optimization_profile()",
    "Builder.build_serialized_network(network, config)",
    "Builder.get_plugin_registry()",
    "IPluginRegistry.load_library(plugin_path)",
    "OnnxParser.__init__(network, logger)",
    "OnnxParser.parse_from_file(model)",
    "OnnxParser.num_errors",
    "OnnxParser.get_error(index)",
    "ParserError.desc()",
    "ParserError.node()",
    "INetworkDefinition.num_layers",
    "INetworkDefinition.get_layer(index)",
    "INetworkDefinition.num_inputs",
    "INetworkDefinition.get_input(index)",
    "ILayer.type",
    "ILayer.name",
    "ILayer.metadata",
    "ILayer.num_inputs",
    "ILayer.num_outputs",
    "ILayer.get_input(index)",
    "ILayer.get_output(index)",
    "ITensor.name",
    "ITensor.shape",
    "ITensor.dtype",
    "ITensor.is_shape_tensor",
    "IBuilderConfig.profiling_verbosity",
    "IBuilderConfig.set_memory_pool_limit(pool, pool_size)",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.engine_capability",
    "IBuilderConfig.set_flag(flag)",
    "IBuilderConfig.clear_flag(flag)",
    "IBuilderConfig.plugins_to_serialize",
    "IBuilderConfig.add_optimization_profile(profile)",
    "IOptimizationProfile.set_shape(input, min, opt, max)",
    "IOptimizationProfile.set_shape_input(input, min, opt, max)",
    "ProfilingVerbosity.DETAILED",
    "MemoryPoolType.WORKSPACE",
    "EngineCapability.STANDARD",
    "EngineCapability.SAFETY",
    "EngineCapability.DLA_STANDALONE",
    "BuilderFlag.TF32",
    "BuilderFlag.REFIT",
    "BuilderFlag.VERSION_COMPATIBLE",
    "DataType.FLOAT",
    "DataType.HALF",
    "Runtime.__init__(logger)",
    "Runtime.deserialize_cuda_engine(serialized_engine)",
    "ICudaEngine.create_engine_inspector()",
    "EngineInspector.get_engine_information(format)",
    "LayerInformationFormat.JSON",
)
"""What every flavour needs to parse, build and inspect."""

TENSORRT = (
    "HardwareCompatibilityLevel.AMPERE_PLUS",
    "IBuilderConfig.hardware_compatibility_level",
    "IBuilderConfig.create_timing_cache(serialized_timing_cache)",
    "IBuilderConfig.set_timing_cache(cache, ignore_mismatch)",
    "IBuilderConfig.get_timing_cache()",
    "ITimingCache.serialize()",
)
"""TensorRT proper, typed either way."""

STRONG = ("NetworkDefinitionCreationFlag.STRONGLY_TYPED",)
"""TensorRT ≥ 9; TensorRT-RTX."""

RTX = (
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability(compute_capability, index)",
    "ComputeCapability.SM80",
    "ComputeCapability.SM86",
    "ComputeCapability.SM89",
    "ComputeCapability.SM120",
)

WEAK = (
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "BuilderFlag.FP16",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "ILayer.precision",
    "ILayer.precision_is_set",
    "ILayer.set_output_type(index, dtype)",
    "ILayer.output_type_is_set(index)",
    "ILayer.get_output_type(index)",
)
"""TensorRT 8.6 to 10; all of it gone from 11 except ``get_output_type``."""

EXECUTE = (
    "Runtime.__init__(logger)",
    "Runtime.deserialize_cuda_engine(serialized_engine)",
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.get_tensor_name(index)",
    "ICudaEngine.get_tensor_mode(name)",
    "ICudaEngine.get_tensor_dtype(name)",
    "ICudaEngine.get_tensor_location(name)",
    "TensorLocation.HOST",
    "ICudaEngine.num_optimization_profiles",
    "ICudaEngine.get_tensor_profile_shape(name, profile_index)",
    "ICudaEngine.create_execution_context()",
    "TensorIOMode.INPUT",
    "IExecutionContext.set_optimization_profile_async(profile_index, stream_handle)",
    "IExecutionContext.set_input_shape(name, shape)",
    "IExecutionContext.infer_shapes()",
    "IExecutionContext.get_tensor_shape(name)",
    "IExecutionContext.set_tensor_address(name, memory)",
    "IExecutionContext.execute_async_v3(stream_handle)",
    "IExecutionContext.set_output_allocator(name, output_allocator)",
    "IOutputAllocator.__init__()",
)
"""Running a plan with real buffers. What a subclass of IOutputAllocator defines is not to be found on the class itself."""

OPTIONAL = {
    "IProgressMonitor.phase_start(phase_name, parent_phase, num_steps)": "10",
    "IProgressMonitor.step_complete(phase_name, step)": "10",
    "IProgressMonitor.phase_finish(phase_name)": "10",
    "IBuilderConfig.progress_monitor": "10",
    "ParserError.node_name()": "10",
    "ParserError.node_operator()": "10",
    "OnnxParser.get_layer_output_tensor(name, i)": "10",
    "BuilderFlag.STRIP_PLAN": "10",
    "BuilderFlag.BF16": "10",
    "DataType.BF16": "10",
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": "10.9",
    "IDebugListener.process_debug_tensor(addr, location, type, shape, name, stream)": "10",
    "IExecutionContext.set_debug_listener(listener)": "10",
    "INetworkDefinition.mark_unfused_tensors_as_debug_tensors()": "10.12",
    "IExecutionContext.set_all_tensors_debug_state(flag)": "10",
    "IExecutionContext.unfused_tensors_debug_state": "10.12",
}
"""Name → the TensorRT version from which it is there; ``BuilderFlag.BF16`` left again with 11."""

NEEDS = {"rtx": (*BUILD, *STRONG, *RTX), "strong": (*BUILD, *TENSORRT, *STRONG), "weak": (*BUILD, *TENSORRT, *WEAK)}


def missing(trt: Any, needs: tuple[str, ...]) -> tuple[str, ...]:
    """The entries that ``trt`` has no member for; signatures are not looked at (bindings tell them only in docstrings)."""
    return tuple(need for need in needs if find(trt, need) is None)


def find(trt: Any, need: str) -> Any | None:
    """What an entry names, or None. A member whose value is None or that raises when read off the class counts as there."""
    found = trt
    for name in need.partition("(")[0].split("."):
        if name not in dir(found):
            return None
        found = getattr(found, name)
    return found


def arguments(need: str) -> tuple[str, ...] | None:
    """Argument names of a method entry, None for a member."""
    inside = re.fullmatch(r"[\w.]+\((.*)\)", need)
    return None if inside is None else tuple(filter(None, (name.strip() for name in inside.group(1).split(","))))
