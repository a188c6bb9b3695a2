"""``Config``: every key that YAML or a flag may set, with its type, default and meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StrictInt,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from fp16fix.config.urls import is_url
from fp16fix.errors import ConfigError
from fp16fix.half import BF16, FORMATS, FP16, Format, Wide
from fp16fix.inputs.shapes import dims_from_text, disorder


def _number(value: object) -> object:
    """Strings and booleans are no numbers, though pydantic would take them."""
    if isinstance(value, (bool, str)):
        raise PydanticCustomError("number", "Input should be a number")
    return value


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Relative to the YAML's folder; flags carry no folder and stay relative to the working directory."""
    folder: Path = (info.context or {}).get("folder", Path())
    return path if is_url(path) else folder / path.expanduser()


def _resolve_spec(spec: str, info: ValidationInfo) -> str:
    """A path, or ``path.py:function``."""
    file, colon, function = spec.rpartition(":")
    is_code = bool(colon) and file.endswith(".py")
    return f"{_resolve(Path(file), info)}:{function}" if is_code else str(_resolve(Path(spec), info))


def _resolve_metric(spec: str, info: ValidationInfo) -> str:
    """A metric's name, or ``path.py:name``."""
    return _resolve_spec(spec, info) if re.fullmatch(r".+\.py:\w+", spec) else spec


def _use(value: object) -> object:
    """A name alone is short for ``{metric: name}``."""
    return {"metric": value} if isinstance(value, str) else value


def _code(spec: str) -> str:
    if not re.fullmatch(r".+\.py:\w+", spec):
        raise PydanticCustomError("code", "Input should be file.py:function")
    return spec


def _dims(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)  # YAML reads the shape of a one-dimensional input as a number
    try:
        return dims_from_text(value) if isinstance(value, str) else value
    except ConfigError as error:
        raise PydanticCustomError("dims", "{what}", {"what": error.what}) from error


def _pattern(text: str) -> str:
    """A regular expression must be one."""
    try:
        re.compile(text.removeprefix("re:") if text.startswith("re:") else "")
    except re.error as error:
        raise PydanticCustomError("pattern", "Input should be a regular expression after re: ({why})", {"why": str(error)}) from error
    return text


def _target(value: str) -> str:
    name = value.lower().replace("_", "")
    if not re.fullmatch(r"sm\d{2,3}", name):
        raise PydanticCustomError("target", "Input should be a compute capability like sm89")
    return name


def _command(value: str) -> str:
    if "{model}" not in value:
        raise PydanticCustomError("command", "Input should be a command that holds {model}, the candidate's path")
    return value


class OrAlso:
    """In the JSON Schema, what a ``BeforeValidator`` takes besides."""

    def __init__(self, *others: JsonSchemaValue) -> None:
        self.others = others

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core), *self.others]}


AMPERE = 80
"""Compute capability from which tensor cores know BF16 (CUDA documentation)."""
MOST = 2**31 - 1
"""What a count may be: libraries take it as a C int."""
MOST_THREADS = 1024
"""ONNX Runtime starts as many as it is told."""
MOST_MADE = 4096
"""Samples to make up; as many as a function may yield (``inputs.function.LIMIT``)."""
LONGEST_S = 1e9
"""Thirty years; the system's clocks end at some hundred."""
OCTAVES = 64.0
"""Room to leave: FP16 has 40 octaves in all."""
Place = Annotated[Path, AfterValidator(_resolve)]
Dims = Annotated[
    tuple[Annotated[StrictInt, Field(ge=0, lt=2**63)], ...],
    BeforeValidator(_dims),
    OrAlso({"type": "string", "pattern": r"^\d+(x\d+)*$"}, {"type": "integer", "minimum": 0}),
]
Count = Annotated[StrictInt, Field(ge=0, le=MOST)]
Positive = Annotated[StrictInt, Field(gt=0, le=MOST)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Amount = Annotated[Number, Field(ge=0)]
Decibels = Annotated[Number, Field(ge=-1000, le=1000)]
Octaves = Annotated[Number, Field(ge=0, le=OCTAVES)]
Seconds = Annotated[Number, Field(gt=0, le=LONGEST_S)]
Text = Annotated[str, Field(min_length=1)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
TEXT: JsonSchemaValue = {"type": "string", "minLength": 1}


class Section(BaseModel):
    """Frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _nothing(cls, raw: object) -> object:
        """A section whose every key is commented out reads as nothing."""
        return {} if raw is None else raw

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What reads as nothing is legal there, too."""
        found = handler.resolve_ref_schema(handler(core))
        return {**found, "type": ["object", "null"]}


SQNR_DB = 50.0
"""Least SQNR unless somebody says otherwise: 0.3 % of the signal."""
BF16_SQNR_DB = round(SQNR_DB - BF16.coarseness_db)
"""The same where BF16 is the base: its rounding alone leaves 53 to 59 dB of a tensor, FP16's 71 to 77."""


class Bounds(Section):
    """What the figures of one output are held to; None is no bound."""

    sqnr_db: Decibels | None = SQNR_DB
    """Least signal-to-noise ratio against FP32, in dB (0.3 % of the signal, the least that detection heads take without moving a box).
    With ``precision: bf16`` it is 32 unless it is given: 2.5 % of the signal, as BF16 rounds eight times as coarsely."""
    max_abs: Amount | None = None
    """Largest |reference − output|."""
    max_rel: Amount | None = None
    """Largest |reference − output| over the largest |reference|."""
    cosine: Annotated[Number, Field(ge=-1, le=1)] | None = None
    """Least cosine similarity."""
    unit: Text | None = None
    """What ``max_abs`` is counted in, ``px`` or ``m``: tables and comparisons of batches then say that figure, not decibels."""


class MetricUse(Section):
    """A metric, and what else stands here given to it by keyword: ``{metric: box-corners, output: boxes, limit: 0.5}``."""

    model_config = ConfigDict(extra="allow")

    metric: Annotated[Text, AfterValidator(_resolve_metric)]
    """Its name, or ``file.py:name``: a class with ``add`` and ``result``, or a function of all reference and all candidate outputs."""

    @property
    def parameters(self) -> dict[str, Any]:
        """By keyword."""
        return dict(self.model_extra or {})


class Tolerance(Bounds):
    """Bounds for every output, and others for some by name."""

    outputs: dict[str, Bounds] = {}
    """By output name; a key left out there keeps the bound for all."""
    metrics: tuple[Annotated[MetricUse, BeforeValidator(_use), OrAlso(TEXT)], ...] = ()
    """The task's own measures, which a verdict must pass too: ``box-corners``, ``box-iou``, ``top1``, one of another package (entry points
    of ``fp16fix.metrics``), or ``file.py:name``."""

    def of(self, output: str) -> Bounds:
        """The bounds of one output."""
        own = self.outputs.get(output)
        return Bounds(**(self.model_dump(exclude={"outputs", "metrics"}) | (own.model_dump(exclude_unset=True) if own is not None else {})))


class ShapeRange(Section):
    """One input in one optimisation profile."""

    min: Dims
    """The smallest shape the engine takes."""
    opt: Dims
    """The shape the engine is tuned for."""
    max: Dims
    """The largest shape the engine takes."""

    @model_validator(mode="after")
    def _ordered(self) -> ShapeRange:
        if fault := disorder(self.min, self.opt, self.max):
            raise PydanticCustomError("profile", "{fault}", {"fault": fault})
        return self


class Build(Section):
    """How the engine is built."""

    backend: Text = "auto"
    """``auto``, or a flavour: ``rtx``, ``strong``, ``weak``."""
    targets: tuple[Annotated[str, AfterValidator(_target)], ...] = ()
    """Compute capabilities (sm89, …) for TensorRT-RTX; empty leaves the choice to the backend."""
    profiles: tuple[dict[str, ShapeRange], ...] = ()
    """Optimisation profiles: input name → min, opt, max."""
    workspace_mib: Positive | None = None
    """Most memory that a kernel may take for itself; None is TensorRT's default."""
    optimization_level: Annotated[StrictInt, Field(ge=0, le=5)] | None = None
    """TensorRT's builder optimisation level; None is TensorRT's default."""
    timing_cache: Place | None = None
    """Where kernels' timings are kept between builds, so that the next one is faster and picks the same kernels."""
    version_compatible: StrictBool = False
    """An engine that later versions of TensorRT run, too."""
    hardware_compatible: StrictBool = False
    """An engine that other GPUs run, too (Ampere and newer)."""
    refit: StrictBool = False
    """Weights can be exchanged in the engine."""
    strip_plan: StrictBool = False
    """The engine is written without its weights, to be refitted before it runs."""
    tf32: StrictBool | None = None
    """Whether FP32 products may round their operands to TF32 (TensorRT's own default). None: on only where the verdict holds with it."""
    plugins: tuple[Place, ...] = ()
    """Shared libraries with TensorRT plugins of the model's custom operators."""
    capability: Literal["standard", "safety", "dla_standalone"] = "standard"
    """What the engine must run under: TensorRT itself, its safety runtime, or DLA alone."""
    compare: StrictBool = False
    """Build all-FP16 and FP32 too, and say what each moves: what the repair costs."""
    timeout_s: Seconds = 1800.0
    """Limit of the building process: past it, the build is stopped and has failed."""
    memory_mib: Positive | None = None
    """Limit of the building process; None is no limit."""


class Search(Section):
    """How hard to look for a better recipe."""

    margin_db: Annotated[Decibels, Field(ge=0)] = 6.0
    """What a search wants above the tolerance, so that the next sample of the same kind is right too: half the error."""
    minimise: StrictBool = False
    """Shrink the islands even when the verdict passes."""
    budget_s: Seconds | None = None
    """What all searching may measure; None is no limit, but two minutes for refining a recipe that fails its verdict."""
    journal: Place | None = None
    """Remembers every measurement on disk: a search that was killed goes on where it stopped."""
    repeats: Positive = 1
    """How often each candidate is measured; 2 or more notices an oracle that contradicts itself."""
    builds: Count = 3
    """Engine builds a repair may take."""
    oracle: Text = "strict"
    """What ``locate`` asks for the least that must be FP32: ``strict`` (the emulator), ``tensorrt`` (engines built and run on this
    machine's GPU), or one that another package adds."""
    calls: Positive | None = None
    """How often ``locate`` may ask it; None is no limit."""
    check: Annotated[Text, AfterValidator(_command)] | None = None
    """Oracle by exit code, as in ``git bisect run``: a command that holds ``{model}``."""


class Config(Section):
    """Everything that flags can say."""

    model: Place | None = None
    """The ONNX file."""
    output: Place | None = None
    """``.plan`` or ``.onnx``."""
    inputs: Annotated[Text, AfterValidator(_resolve_spec)] | None = None
    """Samples: folder, file, or ``file.py:function``; None makes them up."""
    made: Annotated[Positive, Field(le=MOST_MADE)] = 8
    """How many samples to make up without ``inputs``."""
    shapes: dict[str, Dims] = {}
    """Free dimensions settled, by input name: ``1x3x224x224`` or a list."""
    box: dict[str, tuple[Number, Number]] = {}
    """``diagnose`` alone: the least and the largest value of each input, for a proof that needs no samples."""
    reference: Place | None = None
    """Outputs of the framework the model came from, for triage: a folder of ``.npz``, one a sample."""
    module: Annotated[Text, AfterValidator(_code), AfterValidator(_resolve_spec)] | None = None
    """``file.py:function`` that returns the torch.nn.Module the model came from: a reference, and what autocast makes of it."""
    engine: Place | None = None
    """The FP16 engine that is wrong, for triage: a folder of ``.npz`` with what it gave, or a plan to run on the GPU of this machine."""
    fp32_engine: Place | None = None
    """The same for an FP32 engine: is that right?"""
    precision: Literal["fp16", "bf16"] = "fp16"
    """What every node computes in that is on no island. ``bf16`` has FP32's range and 8 significant bits instead of 11, for models whose
    values leave FP16 everywhere: nothing is rescaled, islands are FP32, and ``tolerance.sqnr_db`` is 32 unless it is given."""
    io: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Type of float inputs and outputs: ``fp32``, or that of ``precision``."""
    wide: Wide = Wide.AUTO
    """What an island may compute in."""
    headroom: Octaves = 2.0
    """Octaves left above what calibration saw."""
    headroom_down: Octaves = 2.0
    """Octaves by which quieter inputs may be, where a logarithm, a root or a division reads small values: below what calibration saw."""
    only_exact: StrictBool = False
    """No repair that alters the FP32 function."""
    pin: tuple[Pattern, ...] = ()
    """Nodes that stay wide: a name or a glob (``/decoder/*``), ``re:`` and a regular expression found in the name, ``op:`` and an operator
    (``op:Softmax``, ``op:Reduce*``). One that matches no node is an error."""
    allow: tuple[Pattern, ...] = ()
    """Nodes that are FP16 whatever their hazards, selected likewise."""
    opset: Annotated[StrictInt, Field(ge=7, le=100)] | None = None
    """The opset that the graph is raised to before anything else; what a rewrite needs may be newer. None leaves it as it is."""
    held_out: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Share of the samples kept for the verdict."""
    seed: Count = 0
    """Of made-up samples."""
    simplify: StrictBool = True
    """Run onnxsim first."""
    keep_unverified: StrictBool = False
    """Write ``x.unverified.plan`` when the verdict fails."""
    fast: StrictBool = False
    """Leave out what only informs: figures of all-FP16, of FP32 after the repair and of the profile that does not decide, and the error
    along the graph. The verdict is the same."""
    profile: Text = "compiled"
    """Assumption on what ops compute in inside: see notes/arithmetic.md."""
    tolerance: Tolerance = Tolerance()
    jitter: Count = 3
    """With how many seeds a verdict must survive another kernel's rounding (3 dB less than the tolerance); 0 does not try."""
    blends: Count = 16
    """On how many inputs blended from the samples a verdict must hold (3 dB less than the tolerance); half are made of those that searches
    ask, half of all. 0 does not try."""
    max_fp32_share: Annotated[Number, Field(ge=0, le=1)] = 0.5
    """Share of the FLOPs that may run in FP32: more is no FP16 engine, and not verified. 1 allows all."""
    strict_accumulation: StrictBool = False
    """A verdict that holds only where products accumulate in FP32 is none."""
    build: Build = Build()
    search: Search = Search()
    device: Literal["cpu", "cuda"] = "cpu"
    """Where ONNX Runtime measures and emulates; ``cuda`` needs an ONNX Runtime with its CUDA provider."""
    ort_libraries: tuple[Place, ...] = ()
    """Shared libraries that register kernels of custom operators with ONNX Runtime."""
    stand_ins: dict[str, Annotated[Text, AfterValidator(_code), AfterValidator(_resolve_spec)]] = {}
    """Operators that ONNX Runtime lacks, by ``domain::Op``, and what computes them: ``file.py:function`` takes arrays in the order of the
    node's inputs and its attributes by keyword, and returns its output, or a tuple of them."""
    threads: Annotated[Count, Field(le=MOST_THREADS)] = 0
    """0 uses every core."""
    json_: StrictBool = Field(default=False, alias="json")
    """Machine-readable output."""

    @model_validator(mode="after")
    def _of_one_base(self) -> Config:
        """Refuse what contradicts the base; give it its own default bound, which counts as not set."""
        if self.io not in ("fp32", self.precision):
            said = f"io: {self.io} needs precision: {self.io}; with precision: {self.precision} it is fp32 or {self.precision}"
            raise PydanticCustomError("base", "{said}", {"said": said})
        if self.narrow is BF16 and self.wide is Wide.BF16:
            said = "wide: bf16 makes no island where precision is bf16 already; leave it out, islands are FP32"
            raise PydanticCustomError("base", "{said}", {"said": said})
        old = [target for target in self.build.targets if int(target.removeprefix("sm")) < AMPERE]
        if self.narrow is BF16 and old:
            raise PydanticCustomError("base", "{said}", {"said": f"precision: bf16 needs sm80 or newer, and build.targets has {old[0]}"})
        if self.holds_to_its_own_bound:
            values = {**dict(self.tolerance), "sqnr_db": BF16_SQNR_DB}
            own = Tolerance.model_construct(_fields_set=self.tolerance.model_fields_set, **values)
            object.__setattr__(self, "tolerance", own)
        return self

    @property
    def narrow(self) -> Format:
        """``precision`` as a format."""
        return FORMATS[self.precision]

    @property
    def holds_to_its_own_bound(self) -> bool:
        """Whether nobody said what SQNR is enough, and the base has a default of its own."""
        return self.narrow is BF16 and "sqnr_db" not in self.tolerance.model_fields_set

    @property
    def interface(self) -> str | None:
        """What ``lower`` is told of float inputs and outputs: the narrow type, or None for what the user's file has."""
        return None if self.io == "fp32" else self.io


def refuse_other_base(config: Config, what: str) -> None:
    """Say that something is about FP16 alone.

    Raises:
        ConfigError: the base is another one.
    """
    if config.narrow is not FP16:
        hint = f"leave precision: {config.precision} out there"
        raise ConfigError(f"{what} is about FP16 alone, and precision is {config.precision}", where="precision", hint=hint)
