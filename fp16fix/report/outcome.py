"""``Outcome``: everything a repair found, did and proved, as versioned JSON; reports are renderings of it.

Numbers that JSON has no word for are the strings ``"inf"``, ``"-inf"`` and ``"nan"``. ``notes/outcome.md`` documents every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fp16fix.engines.compiled import Compiled
from fp16fix.half import BF16, Format
from fp16fix.hazards.hazard import Hazard
from fp16fix.passes.recipe import Recipe, Refusal
from fp16fix.ranges.range import Range
from fp16fix.report.document import Document
from fp16fix.search.trial import Trial
from fp16fix.verdict.condition import Bounded, Condition
from fp16fix.verdict.verdict import Figures, Part, Verdict

VERSION = 4
"""Of the JSON; raised when a key changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The file that was repaired."""

    path: str
    digest: str
    """SHA-256 of the file and its external data."""
    opset: int
    nodes: int
    simplified: bool = True
    """It was read through onnxsim, as whoever replays the recipe must."""
    notes: tuple[str, ...] = ()
    """What loading had to say."""


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """The inputs everything rests on."""

    source: str
    digest: str
    count: int
    calibration: int
    held_out: int
    made_up: bool
    """No real inputs were given: the verdict is only as good as that."""
    shared: bool
    """One sample served both calibration and verdict."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disposition:
    """How a hazard ended."""

    hazard: Hazard
    end: str
    """``repaired``, ``rescaled``, ``pinned``, ``harmless``, ``refused`` or ``gone`` (another repair took its cause away)."""
    by: str
    """Rule, exponent or island; or the proof or reason in a sentence."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The typed graph in numbers."""

    float_nodes: int
    fp32_nodes: int
    bf16_nodes: int
    casts: int
    border_muls: int
    """Power-of-two multiplications at FP32 inputs or outputs."""
    muls_added: int
    """Run-time multiplications by powers of two that exponents needed, borders included."""
    flops_total: float
    flops_fp32: float
    bytes_total: float
    """Activation traffic of one sample, in bytes, each tensor counted once for every read and write."""
    bytes_fp32: float
    island_cost_bytes: int
    """Cost of the islands under the stated model (see ``repair.islands``)."""


@dataclass(frozen=True, slots=True)
class Along:
    """One node on the way through the graph."""

    node: str
    op: str
    tensor: str
    before_db: float | None
    """SQNR of all in the base there; −inf with new non-finite values; None where it was not measured."""
    after_db: float | None
    """SQNR after repair."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one output was held to; None is no bound."""

    output: str
    sqnr_db: float | None
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    unit: str = ""
    """What ``max_abs`` is counted in; empty where nobody said."""


@dataclass(frozen=True, slots=True)
class Wired:
    """A node of the original main graph and its neighbours."""

    node: str
    op: str
    reads: tuple[str, ...]
    """Tensors that other nodes or the caller make; constants are left out."""
    makes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corner:
    """The smallest, likeliest or largest shapes of one optimisation profile, and how the samples of just these shapes did."""

    profile: int
    """From 1, as in the config."""
    at: str
    """``min``, ``opt``, ``max``, or several of them where they coincide."""
    shapes: dict[str, tuple[int, ...]]
    """By input; values instead of dimensions for an input whose values decide shapes."""
    samples: int
    """Held-out samples of these shapes; 0: nothing is known of this corner."""
    verdict: Verdict | None = None
    """Over those samples; None without any."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of one inference on the GPU, copies excluded; milliseconds."""

    engine: str
    """``repaired``, ``all-FP16`` (``all-BF16``) or ``FP32``."""
    median_ms: float
    p10_ms: float
    p90_ms: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What one engine's kernels move, read from its plan: what an inference takes that is bound by memory."""

    engine: str
    """``repaired``, ``all-FP16`` (``all-BF16``) or ``FP32``."""
    kernels: int
    crossing: dict[str, int]
    """Bytes that kernels read and write, by type, constants apart."""
    weights: dict[str, int]
    """Bytes of constants, by type."""
    float_products: int
    """Products that multiply FP32 operands: slow on top of what they move."""
    unsized: int
    """Tensors of dynamic size, which no bytes are counted for."""

    @property
    def bytes(self) -> int:
        """That an inference moves."""
        return sum(self.crossing.values()) + sum(self.weights.values())


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What was built."""

    status: str
    """``built, not executed``, ``executed`` or ``not built``."""
    path: str = ""
    backend: str = ""
    version: str = ""
    targets: tuple[str, ...] = ()
    parse_s: float = 0.0
    build_s: float = 0.0
    plan_bytes: int = 0
    fp16_layers: int = 0
    fp32_layers: int = 0
    problems: tuple[str, ...] = ()
    """Pins that did not hold, an FP16 engine without an FP16 layer, a corner of a profile that fails, an engine that does not run."""
    warnings: tuple[str, ...] = ()
    """The builder's, and what was done to get an engine at all."""
    verdict: Verdict | None = None
    """Of the engine itself on all samples, where it was executed; then this decides, not the emulator's."""
    corners: tuple[Corner, ...] = ()
    """Of every optimisation profile."""
    latency: tuple[Timing, ...] = ()
    """Measured in one run on the GPU of this machine; empty without one."""
    tf32: bool | None = None
    """Whether FP32 products may round their operands to TF32, in the engine or in any that is built from the graph; None: not decided."""
    costs: tuple[Cost, ...] = ()
    """Of the delivered engine, all-FP16 and FP32, where they were built to compare (``build.compare``, or a GPU)."""
    compiled: Compiled | None = None
    """What each node became after fusion, and what the plan moves; None where nothing was built."""
    int8_before: int | None = None
    """INT8 products in a plan of the quantised model as it was given, beside ``compiled.int8_products``; None where that was not built."""
    bf16_layers: int = 0
    """Beside ``fp16_layers`` and ``fp32_layers``."""

    def layers(self, narrow: Format) -> int:
        """Computing layers that write FP16 or BF16, as parsed."""
        return self.bf16_layers if narrow is BF16 else self.fp16_layers


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one repair."""

    tool: str
    """Version of fp16fix."""
    command: tuple[str, ...]
    """What reproduces this."""
    model: ModelFacts
    samples: SampleFacts
    versions: dict[str, str]
    hazards: tuple[Disposition, ...]
    recipe: Recipe
    refusals: tuple[Refusal, ...]
    verdict: Verdict
    pessimistic: Verdict
    """The same graph under the pessimistic profile: information, not a gate, unless that profile was asked for; of the worst sample."""
    before: tuple[Figures, ...]
    """All in the base, on all samples."""
    equivalence: tuple[Figures, ...]
    """The repaired graph in FP32 against the original in FP32: how far the repairs moved the function; of that sample, too."""
    counts: Counts
    along: tuple[Along, ...]
    """Error along the graph, in graph order."""
    ranges: tuple[Range, ...]
    """Of the original model, in graph order."""
    repaired_ranges: tuple[Range, ...]
    """Of the repaired FP32 graph: what the base has to hold now."""
    headroom: float
    """Octaves that were asked for."""
    engine: EngineFacts
    stages: dict[str, float]
    """Seconds by stage."""
    independent: bool = True
    """No search asked about the held-out samples; false where they failed at first and joined the search."""
    parts: tuple[Part, ...] = ()
    """The verdict's worst over the samples that a search saw, and over those held out."""
    derivation: tuple[Trial, ...] = ()
    """How the answer was found: every recipe that was tried, in order, and what it gave."""
    warnings: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """What was written, by kind."""
    wide_tensors: tuple[str, ...] = ()
    """Tensors that the repaired graph stores in FP32, or in BF16 where that is not the base: there, values past 65504 are at home."""
    conditions: tuple[Condition, ...] = ()
    """What must be so for the verdict to hold: products add in FP32. Empty: nothing beyond what plans show."""
    accumulate: Verdict | None = None
    """The second gate: the worst sample with the sums of products in FP16; None where it was not asked (nothing was verified)."""
    certificate: tuple[Bounded, ...] = ()
    """How far partial sums of products and sums can go on the judged samples, whatever their order; the furthest first."""
    asked: tuple[Asked, ...] = ()
    """What each output was held to, in the model's order."""
    graph: tuple[Wired, ...] = ()
    """The original main graph, in its order."""
    version: int = VERSION

    @property
    def narrow(self) -> Format:
        """What it was repaired for."""
        return self.recipe.narrow

    @property
    def decisive(self) -> Verdict:
        """The engine's own verdict where it was executed, else the emulator's."""
        return self.engine.verdict or self.verdict

    @property
    def verified(self) -> bool:
        """The verdict passes (the engine's own, if it was executed) and the engine, if any, is what was asked for."""
        return self.decisive.verified and not self.engine.problems


HINT = "give the x.outcome.json of a repair, or the x.locate.json of a locate"
DOCUMENT = Document(Outcome, "outcome", VERSION, HINT, again="repair again, or use the fp16fix that wrote it")
to_json, from_json, save, load = DOCUMENT.to_json, DOCUMENT.from_json, DOCUMENT.save, DOCUMENT.load
