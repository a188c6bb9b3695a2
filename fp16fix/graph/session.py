"""ONNX Runtime sessions over a ``Model``: weights are lent by reference, so a session costs no copy of them and no 2 GiB limit applies."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from onnx_graphsurgeon.ir.tensor import LazyValues

from fp16fix.errors import ModelError
from fp16fix.graph import runtime, safe
from fp16fix.graph.export import exported
from fp16fix.graph.lean import lean
from fp16fix.graph.model import Model, element_type, is_tensor, numpy_type
from fp16fix.graph.operators import operator
from fp16fix.graph.protos import bodies_of
from fp16fix.graph.random import random_nodes, seeded
from fp16fix.graph.stretches import Stretch, stretches
from fp16fix.process.family import cores
from fp16fix.process.memory import CIRCLES

STAND_IN = "weights"
"""Where a proto says that weights are which a session is lent."""
OWN_FILE = re.compile(r"Load model from \S+ failed:")
"""What ONNX Runtime says of a file that was made for a session; it is gone by then."""
LACKING = "operators outside ONNX and com.microsoft need kernels (--ort-library x.so) or Python that computes them (--stand-in)"
"""What to do where ONNX Runtime lacks an operator."""
EMBEDDED = 1024
"""Bytes up to which an initializer travels inside the proto; shape operands must, for shape inference."""
LENT = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
"""Types of weights that are lent by reference."""
BIG = 1 << 20
"""Bytes past which other types are, too: no operand that decides a shape has a million."""
HEAVY = 1 << 27
"""Bytes of weights past which a session holds none of its own: ONNX Runtime copies what it is lent, and packs it once more.

BERT-base takes as long either way, for what is not packed need not be packed when a session opens; with copies its peak is 600 MiB higher.
"""
LONG, WINDOW = 8000, 200
"""Nodes of what is opened as one; see ``graph.stretches``."""
PARALLEL = 4
"""Threads of each stretch, at most: what has thousands of nodes mostly has small tensors."""
CROSSING = 256
"""Tensors that cross a border, where more is gained by it than the time to hand them over."""
CARRIED = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.BOOL,
)
"""Types of what may go from one to the next."""
TABLE = 64 << 20
"""Bytes past which a weight that is only looked up in is shared with a session, not lent."""
LENT_IF_BIG = (
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.DOUBLE,
)
"""Types that NumPy and ONNX Runtime both know by the same bytes."""

UNDOING = ["ConstantFolding", "FuseFp16InitializerToFp32NodeTransformer"]
"""Optimisers that widen FP16 weights for good; the second refuses a graph in which a body reads one (ONNX Runtime 1.32)."""
BREAKING = "EliminateIdentity"
"""Optimiser that leaves a Mul reading what it took away, where that is a norm over two divisors (ONNX Runtime 1.32)."""

WHOLE = Stretch(gs.Graph(), (), (), ())
"""Of a graph that is opened as one nothing is carried."""

ort.set_default_logger_severity(4)
# Where whoever imported ONNX Runtime first had not said so; fp16fix says it before (ORT_DISABLE_TELEMETRY).
ort.disable_telemetry_events()


class Session:
    """A compiled FP32 graph; ``run`` maps a sample to named outputs.

    Random operators draw the same numbers in every session that runs the same samples in the same order (see ``graph.random``).
    FP16 arithmetic is never left to ONNX Runtime: its CPU provider computes FP16 nodes in FP32 (see ``fp16fix.strict``).
    """

    def __init__(self, model: Model, *, threads: int = 0, optimise: bool = False, arena: bool = True, inner: Iterable[str] = ()) -> None:
        """Compile ``model``.

        Args:
            model: FP32 graph.
            threads: 0 for all cores.
            optimise: let ONNX Runtime fuse. It pays off for an FP32 graph that runs as it is; where every tensor is rounded or looked at,
                there is nothing to fuse, and looking for it takes longer than many runs.
            arena: keep freed memory for the next tensor, and packed copies of weights; faster, and its peak is higher.
            inner: tensors of the main graph that ``run`` may be asked for, beside the outputs; each is held for as long as a run takes.

        Raises:
            ModelError: ONNX Runtime refuses the graph.
        """

        def options(threads: int = threads) -> ort.SessionOptions:
            found = options_for(optimise=optimise)
            found.intra_op_num_threads = threads
            found.enable_cpu_mem_arena = arena
            # The default order may leave probes to the end and so keep every tensor alive; this one follows the node list.
            found.execution_order = ort.ExecutionOrder.PRIORITY_BASED
            if not arena:
                # Packed copies of the weights pay off over many runs; a second set of them does not fit everywhere.
                found.add_session_config_entry("session.disable_prepacking", "1")
            return found

        self.name = model.name
        self.outputs: tuple[str, ...] = tuple(output.name for output in model.graph.outputs)
        self.inner: tuple[str, ...] = tuple(name for name in inner if name not in self.outputs)
        self._whole: Callable[[], list[Part]] | None = None
        """Opens as one what was opened in parts."""
        parted = parts(model, self.inner)
        if parted:
            self._whole = lambda: [Part(WHOLE, *light(model, self.inner), options)]
        try:
            # Threads are each part's own, and parts run one after another.
            few = partial(options, min(threads or PARALLEL, PARALLEL, cores()))
            self._parts = [Part(*part, few) for part in parted] or [Part(WHOLE, *light(model, self.inner), options)]
        except Exception as error:
            if self._whole is None:
                raise unloadable(error, model.name) from error
            self._undivided()

    def run(self, sample: Mapping[str, np.ndarray], *, whole: bool = False) -> dict[str, Any]:
        """Outputs by name; of the ``whole``, what is ``inner``, too.

        Raises:
            ModelError: the graph fails on this sample (a shape that does not fit, an index out of range).
        """
        names = list(dict.fromkeys([*self.outputs, *(self.inner if whole else ())]))
        wanted, values = set(names), dict[str, Any](sample)
        try:
            for part in self._parts:
                values |= part.run(values, wanted)
        except Exception as error:
            if self._whole is not None:
                # A Scan that wants shapes, a rank that is not as declared; or it fails as one, too, and says so.
                self._undivided()
                return self.run(sample, whole=whole)
            runtime.raise_failures()
            shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in sample.items())
            raise ModelError(f"the graph fails on a sample ({shapes}): {str(error).strip()[:600]}", where=self.name) from error
        runtime.raise_failures()
        # What runs once in parts does so again; and the graph need not be held any more.
        self._whole = None
        return {name: values[name] for name in names}

    def _undivided(self) -> None:
        """From now on as one. Raises ModelError: ONNX Runtime refuses the graph."""
        assert self._whole is not None
        opened_, self._whole = self._whole, None
        try:
            self._parts = opened_()
        except Exception as error:
            raise unloadable(error, self.name) from error


class Part:
    """A graph, or a stretch of one, compiled."""

    def __init__(
        self, stretch: Stretch, proto: onnx.ModelProto, weights: Mapping[str, np.ndarray], options: Callable[[], ort.SessionOptions]
    ) -> None:
        """Raises whatever ONNX Runtime raises."""
        # Folding the Casts of big FP16 weights would undo the point of keeping them small.
        disabled = UNDOING if any(array.dtype == np.float16 for array in weights.values()) else []
        try:
            self._session = opened(proto, weights, options(), disabled)
        except Exception:  # noqa: BLE001 - ONNX Runtime raises what it likes; without what breaks sound graphs it tells what is wrong
            self._session = opened(proto, weights, options(), [*disabled, BREAKING], filed=True)
        self._weights = weights
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._stretch = stretch

    def run(self, values: dict[str, Any], wanted: Collection[str]) -> dict[str, Any]:
        """What is wanted, or carried on, by name; of ``values`` what nobody reads any more is taken out."""
        names = [name for name in self._outputs if name in wanted or name in self._stretch.carried]
        found = self._session.run(names, {name: values[name] for name in self._inputs if name in values}) if names else []
        for name in self._stretch.spent:
            if name not in wanted:
                del values[name]
        return dict(zip(names, found, strict=True))


def unloadable(error: Exception, name: str) -> ModelError:
    """What is said of a graph that ONNX Runtime refuses."""
    said = OWN_FILE.sub("", str(error)).strip()[:600]
    return ModelError(f"ONNX Runtime does not load the graph: {said}", where=name, hint=LACKING)


def parts(model: Model, inner: Sequence[str]) -> list[tuple[Stretch, onnx.ModelProto, dict[str, np.ndarray]]]:
    """What sessions are opened with that together compute a long model; nothing where one does it.

    ONNX Runtime's time to open a graph grows with more than its length (140,000 nodes: 7 CPU-seconds, by 8,000: 4).
    """
    if len(model.graph.nodes) <= LONG or model.weight() > HEAVY or random_nodes(model):
        return []
    found = stretches(model.graph, LONG, WINDOW)
    if not are_apart(model, found):
        return []
    made, opened_ = {tensor.name for node in model.graph.nodes for tensor in node.outputs}, []
    for number, part in enumerate(found):
        own = {tensor.name for node in part.graph.nodes for tensor in node.outputs}
        # What no node makes, an input or a constant that is handed out, the last one hands on.
        given = [each for each in model.graph.outputs if each.name in own or (number == len(found) - 1 and each.name not in made)]
        read = {tensor.name for tensor in part.graph.inputs}
        part.graph.outputs = given
        part.graph.inputs += [each for each in given if each.name not in own | read and isinstance(each, gs.Variable)]
        proto, weights = light(Model(part.graph, model.name), [*part.carried, *(name for name in inner if name in own)])
        for value in proto.graph.input:
            if value.name in part.fed:
                # Sizes that are declared may be stale; without a rank a Scan does not run (ONNX Runtime 1.32).
                for dim in value.type.tensor_type.shape.dim:
                    dim.Clear()
        opened_.append((part, proto, weights))
    return opened_


def are_apart(model: Model, found: Sequence[Stretch]) -> bool:
    """Whether little goes from one stretch to the next, and nothing that NumPy cannot hold."""
    types = {tensor.name: element_type(tensor) for node in model.graph.nodes for tensor in node.outputs}
    crossing = [name for part in found for name in part.carried]
    return len(crossing) <= CROSSING * len(found) and all(types[name] in CARRIED for name in crossing)


def options_for(*, optimise: bool) -> ort.SessionOptions:
    """What every session is opened with; in safe mode nothing is optimised."""
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise and not safe.is_on() else level.ORT_DISABLE_ALL
    options.log_severity_level = 4
    # Quantised graphs are run as they are written: ONNX Runtime 1.32 ends the process in QDQPropagationTransformer where a DequantizeLinear
    # has few readers or is read by a body, and fusions into integer kernels would hide what is measured between Q and DQ.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Threads that wait for work without sleeping take the time of whatever else runs, and half of a pass over many small tensors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Planned for all tensors together, as is done in the first run, memory takes 140,000 nodes sixty times as long as the run itself.
    options.enable_mem_pattern = False
    runtime.equip(options)
    return options


def opened(
    proto: onnx.ModelProto,
    weights: Mapping[str, np.ndarray],
    options: ort.SessionOptions,
    disabled: Sequence[str] = (),
    *,
    filed: bool = False,
) -> ort.InferenceSession:
    """A session over a proto without its big weights, and these, which must outlive it. Raises whatever ONNX Runtime raises.

    ``filed``: from a file, with one beside it that stands for the weights; shape inference wants to see it where a branch reads one.
    """
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in weights.items()}
    heavy = is_heavy(weights.values())
    shared = set(values) if heavy else tables(proto, weights)
    lent = values.keys() - shared
    if lent:
        options.add_external_initializers(list(lent), [values[name] for name in lent])
    if not shared and not filed:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=runtime.providers(), disabled_optimizers=[*disabled])
    # Graphs are circles: of those that are done with, weights are held until somebody looks.
    CIRCLES.look()
    if heavy:
        # Shared values are used where they are, but optimisers would read the file that stands for them, which is a hole.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    for name in shared:
        options.add_initializer(name, values[name])
    with tempfile.TemporaryDirectory(prefix="fp16fix-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        with path.with_name(STAND_IN).open("wb") as hole:
            hole.truncate(max((array.nbytes for array in weights.values()), default=0))
        return ort.InferenceSession(str(path), options, providers=runtime.providers(), disabled_optimizers=[*disabled])


def tables(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> set[str]:
    """Big weights that are only looked up in, by what is no constant: no optimiser has a reason to read them, so they can be shared."""
    found = {name for name, array in weights.items() if array.nbytes > TABLE}
    found -= {output.name for output in proto.graph.output}
    fixed = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node if found else ():
        looks_up = operator(node.op_type).index == 1 and node.input[1] not in fixed
        found -= {*node.input[looks_up:], *(name for body in bodies_of([node]) for name in names_read(body))}
        fixed |= set(node.output if node.op_type == "Constant" else ())
    return found


def names_read(body: onnx.GraphProto) -> Iterator[str]:
    """Whatever the nodes of a body and of those in it read."""
    for node in body.node:
        yield from node.input
        for inner in bodies_of([node]):
            yield from names_read(inner)


def is_heavy(weights: Iterable[np.ndarray]) -> bool:
    """Whether another copy of these is one too many."""
    return sum(array.nbytes for array in weights) > HEAVY


def light(model: Model, inner: Iterable[str] = ()) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """What a session is opened with: the proto without big initializers, random operators seeded, stand-ins in their places; and these.

    The model is as it was. ``inner``: tensors that are outputs, too.
    """
    big = lent(model)
    stubs = {id(tensor): external_stub(tensor.name, element_type(tensor), tensor.values) for tensor in big}
    with seeded(model.nodes()):
        proto = lean(model.graph, stubs)
    known = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(inner) if name not in known)
    proto = runtime.stood_in(proto, lambda: {name: element_type(tensor) for name, tensor in model.tensors().items()})
    return proto, {tensor.name: np.ascontiguousarray(tensor.values) for tensor in big}


def parted(model: Model) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The whole proto with big initializers left out (declared external), and their values by name; the model is as it was."""
    big = lent(model)
    held = {tensor.name: tensor.values for tensor in big}
    try:
        for tensor in big:
            tensor.values = LazyValues(external_stub(tensor.name, element_type(tensor), held[tensor.name]))
        return proto_of(model), {name: np.ascontiguousarray(values) for name, values in held.items()}
    finally:
        for tensor in big:
            tensor.values = held[tensor.name]


def lent(model: Model) -> list[gs.Constant]:
    """The initializers of the main graph that stay out of protos."""
    return [tensor for tensor in model.graph.tensors().values() if isinstance(tensor, gs.Constant) and is_lent(tensor)]


def is_lent(tensor: gs.Constant) -> bool:
    """Whether an initializer stays out of protos: weights do, and whatever else is big."""
    element = element_type(tensor)
    return tensor.values.nbytes > (EMBEDDED if element in LENT else BIG) and element in (*LENT, *LENT_IF_BIG)


def external_stub(name: str, element: int, values: np.ndarray) -> onnx.TensorProto:
    """A tensor whose bytes are promised to be elsewhere; the session is given them under the same name."""
    stub = onnx.TensorProto(name=name, data_type=element, dims=values.shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", STAND_IN), ("offset", "0"), ("length", str(values.nbytes))):
        stub.external_data.add(key=key, value=value)
    return stub


def proto_of(model: Model) -> onnx.ModelProto:
    """The complete proto of a model, with its metadata."""
    proto = exported(model.graph)
    for key, value in model.metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def infer_types(model: Model) -> None:
    """Give every tensor its element type; what ONNX inference left open (contrib operators) is asked of ONNX Runtime.

    Raises:
        ModelError: some tensor's type cannot be known, so it cannot be said what rounding it suffers.
    """
    untyped = [t for t in model.tensors().values() if element_type(t) == 0 and isinstance(t, gs.Variable) and is_tensor(t)]
    if not untyped:
        return
    asked, others = types_by_runtime(model, [tensor.name for tensor in untyped])
    for tensor in untyped:
        if tensor.name in asked:
            tensor.dtype = numpy_type(asked[tensor.name])
        elif tensor.name in others:
            tensor.type = others[tensor.name]
    unknown = sorted(tensor.name for tensor in untyped if element_type(tensor) == 0 and is_tensor(tensor))
    if unknown:
        raise ModelError(
            f"the element type of {len(unknown)} tensors cannot be inferred, the first is {unknown[0]!r}",
            where=model.name,
            hint="add value_info for it, or name the domain's CPU implementation",
        )


def types_by_runtime(model: Model, names: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Element types of main-graph tensors, from a session that has them as outputs; and which are sequences or optionals."""
    produced = {output.name for node in model.graph.nodes for output in node.outputs}
    proto, weights = light(model, [name for name in names if name in produced])
    options = options_for(optimise=False)
    try:
        session = opened(proto, weights, options, filed=True)
    except Exception as error:
        raise unloadable(error, model.name) from error
    found, others = {}, {}
    for output in session.get_outputs():
        if not output.type.startswith("tensor("):
            others[output.name] = "sequence_type" if output.type.startswith("seq(") else "optional_type"
        words = output.type.removeprefix("tensor(").removesuffix(")")
        element = RUNTIME_TYPES.get(words, 0)
        if element:
            found[output.name] = element
    return found, others


RUNTIME_TYPES = {
    "float": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "double": onnx.TensorProto.DOUBLE,
    "int64": onnx.TensorProto.INT64,
    "int32": onnx.TensorProto.INT32,
    "int16": onnx.TensorProto.INT16,
    "int8": onnx.TensorProto.INT8,
    "uint64": onnx.TensorProto.UINT64,
    "uint32": onnx.TensorProto.UINT32,
    "uint16": onnx.TensorProto.UINT16,
    "uint8": onnx.TensorProto.UINT8,
    "bool": onnx.TensorProto.BOOL,
    "string": onnx.TensorProto.STRING,
}
