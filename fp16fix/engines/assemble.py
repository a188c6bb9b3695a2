"""One parse and build with one TensorRT module: network, parser, builder config, plan bytes. Runs in the child process only.

``flavours`` say what each typing adds; everything here holds for TensorRT 8.6 to 11 and TensorRT-RTX alike.
"""

from __future__ import annotations

import importlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fp16fix.engines.api import NEEDS, missing
from fp16fix.engines.gpu import gpu_status
from fp16fix.engines.listen import DRIVERLESS, LibraryRefusal, Listener, logger, monitor
from fp16fix.engines.options import BuildOptions, EngineInput, check_profiles
from fp16fix.engines.proof import Proof, attention_nodes, inspector_layers, network_layers, proof_of
from fp16fix.engines.table import TableError, kernels
from fp16fix.errors import ConfigError


def load(module: str) -> Any:
    """Import a TensorRT module, its failure in its own words."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise LibraryRefusal(
            f"{module} is installed and does not import: {error}",
            kind="BackendMissingError",
            hint="reinstall it, its -libs package included",
        ) from error


UNREAD = "layer table not read"
"""How the warning begins that a plan was not proven after fusion."""


class Assembly:
    """Parse, then write; a subclass fills in the hooks ``creation_flags``, ``configure`` and ``pin``."""

    def __init__(self, trt: Any, flavour: str, options: BuildOptions, listener: Listener) -> None:
        """Create builder, network and parser.

        Raises:
            LibraryRefusal: the module lacks what the flavour needs, or the builder cannot be created (no driver, no GPU).
        """
        lacking = missing(trt, NEEDS[flavour])
        if lacking:
            what = f"{trt.__name__} {trt.__version__} lacks {', '.join(lacking[:5])}"
            raise LibraryRefusal(what, kind="BackendMissingError", hint="install a version between 10 and 11.4, or another --backend")
        self.trt = trt
        self.options = options
        self.listener = listener
        self.version = str(trt.__version__)
        self.targets: tuple[str, ...] = ()
        self.parse_s = self.build_s = 0.0
        self.plan_bytes = 0
        self.broken_pins: tuple[str, ...] = ()
        self.proof: Proof | None = None
        self.logger = logger(trt, listener)
        try:
            self.builder = trt.Builder(self.logger)
        except TypeError as error:  # what pybind11 raises when the C++ factory returned nothing
            words = "; ".join(listener.errors) or gpu_status().why or str(error)
            raise LibraryRefusal(
                f"TensorRT {self.version} cannot create a builder: {words}",
                hint="build on a machine with an NVIDIA GPU, or with --backend rtx",
            ) from error
        self.register_plugins()
        self.network = self.builder.create_network(self.creation_flags())
        self.parser = trt.OnnxParser(self.network, self.logger)

    def creation_flags(self) -> int:
        """Bits of ``NetworkDefinitionCreationFlag``."""
        raise NotImplementedError

    def configure(self, config: Any) -> None:
        """What the typing asks of the builder config."""
        raise NotImplementedError

    def pin(self) -> tuple[str, ...]:
        """Fix layer types in the parsed network; the nodes whose pins did not read back."""
        raise NotImplementedError

    def refuse_targets(self) -> None:
        """ConfigError, before anything is parsed, where the flavour cannot compile for a target that was asked for."""

    def register_plugins(self) -> None:
        """TensorRT's own plugins, then the user's libraries, before the parser looks for them."""
        self.trt.init_libnvinfer_plugins(self.logger, "")
        for library in self.options.plugins:
            if not Path(library).is_file():
                raise ConfigError(f"plugin library {library!r} does not exist", hint="--plugin takes the path of a shared library")
            if self.builder.get_plugin_registry().load_library(library) is None:
                self.listener.warn(f"plugin library {library!r} registered nothing new")

    def parse(self, path: Path) -> None:
        """Parse an ONNX file, pin, check profiles, and prove the network.

        Raises:
            LibraryRefusal: every parser error, in the parser's own words, with its node.
            ConfigError: profiles that do not fit the inputs.
        """
        self.refuse_targets()
        self.listener.stage("parse", 0.0)
        began = time.perf_counter()
        accepted = self.parser.parse_from_file(str(path))
        self.parse_s = time.perf_counter() - began
        if not accepted:
            raise self.refused()
        check_profiles(self.options.profiles, self.inputs())
        self.broken_pins = self.pin()
        self.mark_debug_tensors()
        layers = tuple(network_layers(self.network))
        self.proof = proof_of(layers, source="network", broken_pins=self.broken_pins)
        self.suspects = attention_nodes(layers)
        self.listener.emit({"suspects": list(self.suspects)})
        self.listener.stage("parse", 1.0)

    def mark_debug_tensors(self) -> None:
        """Debug tensors leave the fusion as it is, unlike extra outputs."""
        if not self.options.debug_tensors:
            return
        if not hasattr(self.network, "mark_unfused_tensors_as_debug_tensors"):
            raise ConfigError(f"TensorRT {self.version} cannot mark debug tensors", hint="it came with 10.12")
        self.network.mark_unfused_tensors_as_debug_tensors()

    def refused(self) -> LibraryRefusal:
        """All parser errors as one refusal."""
        errors = [self.parser.get_error(index) for index in range(self.parser.num_errors)]
        told, nodes = [], []
        for error in errors:
            name, operator = getattr(error, "node_name", lambda: "")(), getattr(error, "node_operator", lambda: "")()
            lines = [line.strip() for line in error.desc().splitlines() if not any(noise in line for noise in DRIVERLESS)]
            told.append(f"node {name or error.node()!r}{f' ({operator})' if operator else ''}: {' '.join(lines)}")
            nodes.append(name)
        words = "\n    ".join(told or self.listener.errors or ["no reason given"])
        return LibraryRefusal(f"TensorRT's parser refuses the graph:\n    {words}", nodes=tuple(filter(None, nodes)))

    def inputs(self) -> tuple[EngineInput, ...]:
        """The network's inputs; shape tensors are known only after parsing."""
        tensors = [self.network.get_input(index) for index in range(self.network.num_inputs)]
        return tuple(EngineInput(tensor.name, tuple(tensor.shape), bool(tensor.is_shape_tensor)) for tensor in tensors)

    def write(self, target: Path) -> None:
        """Build and write the plan, synced to disk.

        Raises:
            LibraryRefusal: the builder returned nothing; with its errors.
        """
        config = self.config()
        self.listener.stage("build", 0.0)
        began = time.perf_counter()
        plan = self.builder.build_serialized_network(self.network, config)
        self.build_s = time.perf_counter() - began
        if plan is None:
            raise self.failed()
        self.listener.stage("write", 0.0)
        with target.open("wb") as file:
            file.write(plan)
            file.flush()
            os.fsync(file.fileno())
        self.plan_bytes = target.stat().st_size
        self.keep_timing_cache(config)
        if gpu_status().present:
            self.inspect(plan)
        self.read_table()

    def failed(self) -> LibraryRefusal:
        """The builder's errors as a refusal, with the nodes they speak of."""
        if self.listener.cancelled.is_set():
            return LibraryRefusal("the build was cancelled")
        text = "\n    ".join(self.listener.errors[-8:]) or "no reason given"
        if "Attention operation was not supported" in text:
            nodes = self.suspects
            return LibraryRefusal(
                f"no engine for Attention {', '.join(nodes[:5])}:\n    {text}",
                hint="decompose Attention into MatMul, Softmax, MatMul",
                nodes=nodes,
            )
        known = self.proof.by_node() if self.proof else {}
        nodes = tuple(name for name in known if any(form in text for form in (f"[{name}]", f"[{name}...", f"...{name}]", f" {name}: ")))
        return LibraryRefusal(f"TensorRT's builder made no engine:\n    {text}", nodes=nodes)

    def config(self) -> Any:
        """A builder config with every option set, or warned about."""
        trt, options = self.trt, self.options
        config = self.builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if options.workspace_mib:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.capability != "standard":
            config.engine_capability = getattr(trt.EngineCapability, options.capability.upper())
        for flag, wanted in (
            ("VERSION_COMPATIBLE", options.version_compatible),
            ("REFIT", options.refit),
            ("STRIP_PLAN", options.strip_plan),
        ):
            if wanted and not hasattr(trt.BuilderFlag, flag):
                raise ConfigError(f"TensorRT {self.version} has no builder flag {flag}", hint="it came with 10")
            if wanted:
                config.set_flag(getattr(trt.BuilderFlag, flag))
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        if options.plugins:
            config.plugins_to_serialize = list(options.plugins)
        watcher = monitor(trt, self.listener)
        if watcher is not None:
            config.progress_monitor = watcher
            self.watcher = watcher  # the config holds no reference of its own in older bindings
        self.add_profiles(config)
        self.configure(config)
        return config

    def add_profiles(self, config: Any) -> None:
        """One IOptimizationProfile for each of the options'; checked against the inputs before."""
        shapes = {each.name: each for each in self.inputs()}
        for wanted in self.options.profiles:
            profile = self.builder.create_optimization_profile()
            for name, (low, likely, high) in sorted(wanted.items()):
                setter = profile.set_shape_input if shapes[name].holds_shape else profile.set_shape
                setter(name, low, likely, high)
            if config.add_optimization_profile(profile) < 0:
                raise LibraryRefusal(
                    f"TensorRT refuses the profile {dict(wanted)}: {'; '.join(self.listener.errors[-3:])}", kind="ConfigError"
                )

    def keep_timing_cache(self, config: Any) -> None:
        """Write the tactic timings back, where the flavour keeps any."""

    def inspect(self, plan: Any) -> None:
        """Replace the network's proof by the built engine's, if a GPU here can load it."""
        self.listener.stage("prove", 0.0)
        runtime = self.trt.Runtime(self.logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            self.listener.warn(f"the plan was not inspected: {gpu_status().devices[0]} cannot load it; the proof is the parsed network's")
            return
        text = engine.create_engine_inspector().get_engine_information(self.trt.LayerInformationFormat.JSON)
        layers = tuple(inspector_layers(text))
        if layers:
            self.proof = proof_of(layers, source="inspector", broken_pins=self.broken_pins)

    def read_table(self) -> None:
        """Add what the plan runs to the proof; where the builder's table is not read, that is a warning, for fusion may undo a pin."""
        assert self.proof is not None
        try:
            self.proof = replace(self.proof, kernels=kernels(self.listener.table))
        except TableError as error:
            self.listener.warn(
                f"{UNREAD}: {self.trt.__name__} {self.version} wrote its table of layers in another form, or none ({error}); what the "
                "compiled plan computes in is not known, only what was asked for"
            )

    def result(self) -> dict[str, Any]:
        """What the parent makes ``Built`` or ``Checked`` of."""
        assert self.proof is not None
        return {
            "version": self.version,
            "targets": list(self.targets),
            "parse_s": self.parse_s,
            "build_s": self.build_s,
            "plan_bytes": self.plan_bytes,
            "peak_mib": peak_mib(),
            "warnings": list(self.listener.warnings),
            "proof": self.proof.to_json(),
        }


def peak_mib() -> int:
    """Largest resident set of this process in MiB; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)
