"""YAML and flags in; one frozen config out, or one error that names every fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fp16fix.cli.flags import setting
from fp16fix.config import Bounds, Build, Config, ShapeRange, load_config, load_zoo, merged
from fp16fix.config.file import merge
from fp16fix.config.load import keys
from fp16fix.errors import ConfigError
from fp16fix.half import BF16, Wide

ROOT = Path(__file__).parents[1]


def write(tmp_path: Path, text: str, name: str = "a.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def fails(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_bf16_has_a_bound_of_its_own_that_counts_as_not_set(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, "precision: bf16\ntolerance: {max_abs: 2, outputs: {boxes: {max_abs: 1}, logits: {sqnr_db: 45}}}\n")
    )
    assert config.narrow is BF16
    assert [config.tolerance.of(name).sqnr_db for name in ("any", "boxes", "logits")] == [32.0, 32.0, 45.0]
    assert config.tolerance.of("boxes").max_abs == 1
    assert merged(config, {"precision": "fp16"}).tolerance.of("any").sqnr_db == 50.0, "it was never written"
    assert merged(config, {"tolerance.sqnr_db": 50.0}).tolerance.of("any").sqnr_db == 50.0
    assert merged(config, {"tolerance.sqnr_db": None}).tolerance.of("any").sqnr_db is None
    assert config.holds_to_its_own_bound
    assert not Config().holds_to_its_own_bound
    zoo = load_zoo(write(tmp_path, "{models: [a.onnx, {model: b.onnx, precision: bf16}], defaults: {io: fp32}}", "zoo.yaml"))
    assert [entry.tolerance.of("any").sqnr_db for entry in zoo.models] == [50.0, 32.0]


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "# nothing but a comment\n"))
    assert config == Config()
    assert (config.headroom, config.held_out, config.threads, config.made) == (2.0, 0.5, 0, 8)
    assert (config.io, config.wide, config.profile) == ("fp32", Wide.AUTO, "compiled")
    assert config.tolerance.of("any") == Bounds(sqnr_db=50.0, max_abs=None, max_rel=None, cosine=None)
    assert (config.build.backend, config.build.tf32, config.build.timeout_s, config.search.builds) == ("auto", None, 1800.0, 3)


@pytest.mark.parametrize(("io", "told"), [("fp32", None), ("fp16", "fp16")])
def test_an_fp32_interface_keeps_what_the_file_has(io: str, told: str | None) -> None:
    assert Config.model_validate({"io": io}).interface == told


def test_a_section_with_every_key_commented_out_is_its_default(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "build:\n  # tf32: false\nsearch:\n")).build == Build()


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 1


def test_relative_paths_start_from_the_yaml(tmp_path: Path) -> None:
    text = """
    {model: m.onnx, output: /abs/x.plan, inputs: "calib.py:samples", reference: ref, module: "net.py:build", engine: e, fp32_engine: /f.plan,
     build: {timing_cache: t.cache, plugins: [a.so, /b.so]}}
    """
    config = load_config(write(tmp_path, text))
    assert config.model == tmp_path / "m.onnx"
    assert config.output == Path("/abs/x.plan")
    assert config.inputs == f"{tmp_path / 'calib.py'}:samples"
    assert config.reference == tmp_path / "ref"
    assert config.module == f"{tmp_path / 'net.py'}:build"
    assert config.engine == tmp_path / "e"
    assert config.fp32_engine == Path("/f.plan")
    assert config.build.timing_cache == tmp_path / "t.cache"
    assert config.build.plugins == (tmp_path / "a.so", Path("/b.so"))
    assert load_config(write(tmp_path, "inputs: samples/")).inputs == str(tmp_path / "samples")


def test_home_is_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_config(write(tmp_path, "model: ~/m.onnx")).model == tmp_path / "home" / "m.onnx"


def test_shapes_as_text_or_list(tmp_path: Path) -> None:
    profiles = "[{x: {min: 1, opt: '4', max: [8]}}]"
    config = load_config(write(tmp_path, f"{{shapes: {{x: 1x3x224x224, y: [2, 0]}}, build: {{profiles: {profiles}}}}}"))
    assert config.shapes == {"x": (1, 3, 224, 224), "y": (2, 0)}
    assert config.build.profiles == ({"x": ShapeRange(min=(1,), opt=(4,), max=(8,))},)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("5.", 5.0), ("2", 2.0), ("1E+2", 100.0)])
def test_numbers_as_people_write_them(tmp_path: Path, text: str, value: float) -> None:
    assert load_config(write(tmp_path, f"tolerance: {{max_abs: {text}}}")).tolerance.max_abs == value


def test_every_fault_is_reported_with_its_path(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        headrom: 1
        wide: fp64
        pin: norm*
        only_exact: 1
        seed: 1.5
        held_out: 1
        inputs: 3
        shapes: {x: 1xtwo}
        tolerance: {max_abs: "0.1", outputs: {boxes: {sqnr: 40}}}
        build: {targets: [sm89, hopper], profiles: [{x: {min: 4x3, opt: 1x3, max: 8x3}}, {y: {min: 1x3, opt: 1x3}}]}
        search: {check: judge.py, builds: -1}
        """,
    )
    message = fails(path)
    assert message.startswith(f"{path}: 15 faults\n")
    for line in (
        "headrom: unknown key; did you mean 'headroom'?",
        "wide: expected 'auto', 'fp32' or 'bf16', found 'fp64'",
        "pin: expected a list, found 'norm*'",
        "only_exact: expected true or false, found 1",
        "seed: expected a whole number, found 1.5",
        "held_out: expected less than 1, found 1",
        "inputs: expected text, found 3",
        "shapes.x: expected dimensions like 1x3x224x224, found '1xtwo'",
        "tolerance.max_abs: expected a number, found '0.1'",
        "tolerance.outputs.boxes.sqnr: unknown key; did you mean 'tolerance.outputs.boxes.sqnr_db'?",
        "build.targets[1]: expected a compute capability like sm89, found 'hopper'",
        "build.profiles[0].x: min ≤ opt ≤ max does not hold on axis 0: 4, 1, 8",
        "build.profiles[1].y.max: is missing",
        "search.check: expected a command that holds {model}, the candidate's path, found 'judge.py'",
        "search.builds: expected greater than or equal to 0, found -1",
    ):
        assert f"\n  {line}" in message, line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("workspace_mib: 4", "workspace_mib: unknown key; did you mean 'build.workspace_mib'?"),
        ("build: {zzz: 4}", "legal here: backend, capability"),
        ("build: {profiles: [{x: {min: '1', opt: '1', max: '1', maxx: '1'}}]}", "did you mean 'build.profiles[0].x.max'?"),
        ("build: 3", "build: expected a mapping of keys, found 3"),
        ("pin:", "pin: expected a list, found nothing"),
        ("io: fp32\nseed: 1\nio: fp16", "a.yaml:3: key 'io' stands twice"),
        ("build:\n  tf32: true\n  tf32: true", "a.yaml:3: key 'tf32' stands twice"),
        ("- a", "expected keys and values, found a list"),
        ("a: [", "a.yaml:1: "),
        ("headroom: .inf", "headroom: expected a finite number, found inf"),
        ("headroom: -1", "headroom: expected greater than or equal to 0, found -1"),
        ("only_exact: 'yes'", "only_exact: expected true or false, found 'yes'"),
        ("shapes: {x: [1, -2]}", "shapes.x[1]: expected greater than or equal to 0, found -2"),
        ("true: 1", "True: unknown key"),
    ],
)
def test_one_fault(tmp_path: Path, text: str, says: str) -> None:
    assert says in fails(write(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    assert "No such file" in fails(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00bad")
    assert str(tmp_path / "b.yaml") in fails(tmp_path / "b.yaml")


def test_merge_keys_are_no_duplicates(tmp_path: Path) -> None:
    text = "build:\n  profiles:\n    - x: &shape {min: '1', opt: '2', max: '3'}\n      y: {<<: *shape, max: '4'}\n"
    assert load_config(write(tmp_path, text)).build.profiles[0]["y"] == ShapeRange(min=(1,), opt=(2,), max=(4,))


def test_tolerance_of_an_output_keeps_what_it_does_not_say(tmp_path: Path) -> None:
    tolerance = load_config(write(tmp_path, "tolerance: {sqnr_db: 60, cosine: 0.9, outputs: {b: {cosine: null, max_abs: 1}}}")).tolerance
    assert tolerance.of("b") == Bounds(sqnr_db=60.0, max_abs=1.0, cosine=None)
    assert tolerance.of("other") == Bounds(sqnr_db=60.0, cosine=0.9)


def test_flags_win(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, "{model: m.onnx, seed: 3, pin: [a], shapes: {x: '1', y: '2'}, tolerance: {max_abs: 1, outputs: {b: {max_abs: 2}}}}")
    )
    flags = {
        "seed": 4,
        "pin": ["b"],
        "shapes": {"y": (3,)},
        "tolerance.max_abs": None,
        "build.tf32": False,
        "output": "x.plan",
        "json": True,
    }
    both = merged(config, flags)
    assert both.model == tmp_path / "m.onnx"
    assert (both.seed, both.pin, both.shapes, both.build.tf32, both.json_) == (4, ("b",), {"x": (1,), "y": (3,)}, False, True)
    assert both.output == Path("x.plan")
    assert both.tolerance.of("b") == Bounds(sqnr_db=50.0, max_abs=2.0)
    assert both.tolerance.max_abs is None
    assert config.seed == 3
    assert merged(config, {}) == config


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"build.tf23": True}, "flags: build.tf23: unknown key; did you mean 'build.tf32'?"),
        ({"model.x": 1}, "flags: model: expected"),
        ({"seed": "4"}, "flags: seed: expected a whole number, found '4'"),
    ],
)
def test_flags_that_mean_nothing(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merged(Config(), flags)
    assert says in str(caught.value)


TREES: Any = st.recursive(st.integers(), lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3), max_leaves=8)


@given(st.dictionaries(st.sampled_from("abc"), TREES), st.dictionaries(st.sampled_from("abc"), TREES))
def test_merging_twice_changes_nothing_more(below: dict[str, Any], above: dict[str, Any]) -> None:
    once = merge(below, above)
    assert merge(once, above) == once
    assert set(once) == set(below) | set(above)
    assert merge(below, {}) == below


def zoo(tmp_path: Path, text: str) -> Path:
    for name in ("b.onnx", "a.onnx", "sub/c.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return write(tmp_path, text, "zoo.yaml")


def test_zoo_patterns_defaults_and_exceptions(tmp_path: Path) -> None:
    folder = tmp_path / "odd [1]*"
    folder.mkdir()
    text = """
    defaults: {seed: 5, tolerance: {sqnr_db: 60}, build: {targets: [SM_89]}}
    models: ["*.onnx", {model: "**/c.onnx", tolerance: {max_abs: 1}}, {model: a.onnx, seed: 6}, missing.onnx]
    jobs: 3
    """
    found = load_zoo(zoo(folder, text))
    assert [config.model for config in found.models] == [folder / name for name in ("a.onnx", "b.onnx", "sub/c.onnx", "missing.onnx")]
    assert [config.seed for config in found.models] == [6, 5, 5, 5]
    assert found.models[2].tolerance.of("x") == Bounds(sqnr_db=60.0, max_abs=1.0)
    assert all(config.build.targets == ("sm89",) for config in found.models)
    assert (found.jobs, found.output_dir) == (3, folder / "out")


def test_zoo_with_absolute_patterns(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "m", tmp_path / "y"
    models.mkdir()
    elsewhere.mkdir()
    zoo(models, "")
    found = load_zoo(write(elsewhere, f"models: ['{models}/*.onnx']"))
    assert [config.model for config in found.models] == [models / "a.onnx", models / "b.onnx"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: ['x*.onnx']", "models[0]: '"),
        ("models: ['x*.onnx']", "matches no file"),
        ("models: []", "models: "),
        ("jobs: 1", "models: is missing"),
        (
            "{models: [a.onnx, {model: b.onnx, wide: fp64}], defaults: {sed: 1}}",
            "models[1].wide: expected 'auto', 'fp32' or 'bf16', found 'fp64'",
        ),
        ("{models: [a.onnx, {model: b.onnx, wide: fp64}], defaults: {sed: 1}}", "defaults.sed: unknown key; did you mean 'defaults.seed'?"),
        ("{models: [a.onnx, {seed: 1}]}", "models[1]: model is missing"),
        ("{models: [a.onnx], defaults: {output: x.plan}}", "model and output belong under models"),
        ("{models: [{model: '*.onnx', output: x.plan}]}", "2 models would share one output"),
        ("{models: [3]}", "models[0]: expected a mapping of keys, found 3"),
    ],
)
def test_zoo_faults(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_zoo(zoo(tmp_path, text))
    assert says in str(caught.value)


def test_detector_example_loads() -> None:
    config = load_config(ROOT / "configs/detector.yaml")
    assert config.model is not None
    assert config.model.resolve() == ROOT / "tests/demo/detector.onnx"
    assert Path(config.inputs or "").resolve() == ROOT / "tests/demo/samples"
    assert config.tolerance.of("boxes") == Bounds(sqnr_db=50.0, max_abs=0.25)
    assert config.build.profiles[0]["images"].max == (8, 3, 128, 128)


def test_encoder_example_loads() -> None:
    config = load_config(ROOT / "configs/encoder.yaml")
    assert config.shapes == {"input_ids": (2, 64)}
    assert [sorted(profile) for profile in config.build.profiles] == [["attention_mask", "input_ids", "token_type_ids"]] * 2
    assert config.search.minimise


def test_zoo_example_loads() -> None:
    found = load_zoo(ROOT / "configs/zoo.yaml")
    assert [config.io for config in found.models] == ["fp32", "fp16"]
    assert all(config.build.targets == ("sm89",) and config.tolerance.sqnr_db == 50.0 for config in found.models)


@pytest.mark.parametrize("name", ["detector", "encoder", "zoo"])
def test_examples_explain_themselves(name: str) -> None:
    lines = (ROOT / f"configs/{name}.yaml").read_text().splitlines()
    assert sum("#" in line for line in lines) >= len(lines) / 3


def test_every_key_says_what_it_means_or_is_named_so() -> None:
    legal = keys(Config)
    assert set(legal["build"]) >= {"backend", "targets", "profiles", "workspace_mib", "timing_cache", "refit", "strip_plan", "capability"}
    assert set(legal["tolerance"]["outputs"]["*"]) == {"sqnr_db", "max_abs", "max_rel", "cosine", "unit"}
    assert "json" in legal
    assert "json_" not in legal


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: " + "[" * 20_000, "nested too deep"),
        ("a: " + "{b: " * 20_000 + "}" * 20_000, "nested too deep"),
        ("headroom: 2020-99-99", "month must be in 1..12"),
        ("threads: !!int many", "number, date or tag that is none"),
        ("threads: !!int ''", "number, date or tag that is none"),
        ("threads: !!bool maybe", "number, date or tag that is none"),
        ("threads: !!timestamp today", "number, date or tag that is none"),
        ("threads: " + "9" * 6000, "number, date or tag that is none"),
        ("threads: 0x" + "f" * 6000, "past 64 bits"),
        ("threads: " + "9:" * 30 + "9", "past 64 bits"),
        ("pin: &me [*me]", "expected text, found a list"),
        ("threads: 4294967296", "threads: expected less than or equal to 1024"),
        ("made: 4097", "made: expected less than or equal to 4096"),
        ("seed: 2147483648", "seed: expected less than or equal to 2147483647"),
        ("headroom: 1.0e+300", "headroom: expected less than or equal to 64"),
        ("tolerance: {sqnr_db: 1.0e+300}", "sqnr_db: expected less than or equal to 1000"),
        ("build: {timeout_s: 1.0e+300}", "timeout_s: expected less than or equal to 1000000000"),
        ("shapes: {x: [99999999999999999999]}", "past 64 bits"),
    ],
)
def test_text_that_no_key_takes_is_a_sentence_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(tmp_path / "c.yaml")
    assert "c.yaml" in str(caught.value)


@pytest.mark.parametrize("value", ["[" * 20_000, "2020-99-99", "!!int x", "0x" + "f" * 6000])
def test_set_reads_as_strictly(value: str) -> None:
    with pytest.raises(ConfigError, match="--set headroom"):
        setting(f"headroom={value}")
