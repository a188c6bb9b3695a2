from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from fp16fix.engines import BuildOptions, BuildStoppedError, build, check_pins, choose, parse_profiles
from fp16fix.engines import flavour as backends
from fp16fix.engines.backend import RTX, STRONG, Flavour
from fp16fix.errors import BackendError, BackendMissingError, BuildError, ConfigError
from tests.engines import tiny

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".onnx")


@needs_rtx
class TestRealBuilds:
    def test_a_plan_appears_whole_with_its_story(self, tmp_path: Path) -> None:
        told: list[tuple[str, float]] = []
        built = build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", progress=lambda stage, done: told.append((stage, done)))
        assert left_in(tmp_path) == ["x.plan"]
        assert built.plan.stat().st_size == built.plan_bytes > 10_000
        assert (built.backend, built.targets) == ("rtx", ("sm80", "sm86", "sm89", "sm120"))
        assert built.backend_version == RTX.version()
        assert built.parse_s > 0
        assert built.build_s > 0
        assert built.peak_mib > 50
        assert built.warnings == ()
        stages = [stage for stage, _ in told]
        assert list(dict.fromkeys(stages)) == ["load", "parse", "build", "write"]
        fractions = [done for stage, done in told if stage == "build"]
        assert fractions == sorted(fractions)
        assert len(fractions) > 5
        assert max(fractions) <= 1

    def test_the_proof_says_what_each_node_runs_in(self, tmp_path: Path) -> None:
        found = choose(BuildOptions()).check(tiny.write(tmp_path, tiny.RICH), BuildOptions()).proof
        types = {node: each.dtypes for node, each in found.by_node().items()}
        assert types["div"] == types["then"] == types["else"] == types["if"] == ("fp16",)
        assert types["softmax"] == ("fp32",)
        assert types["bf"] == ("bf16",)
        # The parser widens these insides by itself; the emulator's table says the same.
        assert types["l2"] == ("fp32",)
        assert types["rms"] == ("fp16", "fp32")
        assert found.source == "network"
        assert found.fp16_layers == 4
        assert check_pins(found, {"softmax": "fp32", "bf": "bf16"}, tuple(types)) == ()
        assert check_pins(found, {"div": "fp32"}, tuple(types)) == ("node 'div' is pinned to fp32 and has layers in fp16",)

    def test_targets_change_the_plan(self, tmp_path: Path) -> None:
        path = tiny.write(tmp_path, tiny.GOOD)
        ada = build(path, tmp_path / "ada.plan", BuildOptions(targets=("sm89",)))
        blackwell = build(path, tmp_path / "blackwell.plan", BuildOptions(targets=("sm120",)))
        assert ada.targets == ("sm89",)
        assert ada.plan.read_bytes() != blackwell.plan.read_bytes()

    def test_an_unknown_target_names_those_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no target sm90 in TensorRT-RTX") as caught:
            build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", BuildOptions(targets=("sm90",)))
        assert "sm120" in caught.value.hint
        assert left_in(tmp_path) == []

    def test_options_reach_the_builder(self, tmp_path: Path) -> None:
        options = BuildOptions(
            optimization_level=2, workspace_mib=64, tf32=False, log_severity="info", timing_cache=str(tmp_path / "t.cache")
        )
        built = build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", options)
        assert "timing_cache is ignored: TensorRT-RTX times no tactics" in built.warnings
        assert any("Engine generation completed" in warning for warning in built.warnings)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (BuildOptions(hardware_compatible="ampere_plus"), "no hardware compatibility levels"),
            (BuildOptions(plugins=("absent.so",)), "'absent.so' does not exist"),
        ],
    )
    def test_an_option_that_cannot_be_honoured_is_an_error(self, tmp_path: Path, options: BuildOptions, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", dataclasses.replace(options, backend="rtx"))

    def test_dynamic_inputs_without_a_profile_print_the_flags(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="2 inputs are dynamic") as caught:
            build(tiny.write(tmp_path, tiny.DYNAMIC), tmp_path / "x.plan")
        flags = [word for word in caught.value.hint.split() if ":" in word]
        assert flags == ["x:1x4,1x4,8x4", "k:1x1,1x1,8x8"]
        built = build(tmp_path / "model.onnx", tmp_path / "x.plan", BuildOptions(profiles=parse_profiles(flags)))
        assert built.plan.exists()

    def test_several_profiles(self, tmp_path: Path) -> None:
        profiles = parse_profiles(["x:1x4,1x4,2x4", "k:1x1,1x8,2x8", "x:4x4,8x4,8x4", "k:4x1,8x8,8x64"])
        assert build(tiny.write(tmp_path, tiny.DYNAMIC), tmp_path / "x.plan", BuildOptions(profiles=profiles)).plan_bytes > 0

    def test_a_parser_error_names_the_node_in_the_parsers_words(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError, match=r"SUM must have same input types.*Half and Float") as caught:
            build(tiny.write(tmp_path, tiny.MIXED), tmp_path / "x.plan")
        assert (caught.value.reason, caught.value.stage, caught.value.nodes) == ("refused", "parse", ("sum",))
        assert "node 'sum' (Add)" in str(caught.value)
        # The follow-up noise of a machine without a driver is not a reason.
        assert "cudaError" not in str(caught.value)

    def test_every_parser_error_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError) as caught:
            build(tiny.write(tmp_path, tiny.UNKNOWN), tmp_path / "x.plan")
        assert caught.value.nodes == ("one", "two")
        assert "node 'one' (Frobnicate)" in caught.value.what
        assert caught.value.what.count("Plugin not found") == 2

    def test_a_segfault_is_an_error_with_a_name(self, tmp_path: Path) -> None:
        (tmp_path / "x.plan").write_text("an older plan")
        with pytest.raises(BuildStoppedError, match="SIGSEGV") as caught:
            build(tiny.write(tmp_path, tiny.SELF_ATTENTION), tmp_path / "x.plan")
        assert (caught.value.reason, caught.value.stage, caught.value.nodes) == ("crash", "build", ("attn",))
        assert "decompose" in caught.value.hint
        assert (tmp_path / "x.plan").read_text() == "an older plan"
        assert left_in(tmp_path) == ["x.plan"]

    def test_a_builder_refusal_names_the_node(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError, match="not supported by a dedicated kernel") as caught:
            build(tiny.write(tmp_path, tiny.WIDE_ATTENTION), tmp_path / "x.plan")
        assert (caught.value.reason, caught.value.stage, caught.value.nodes) == ("refused", "build", ("attn",))

    def test_time_runs_out(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError, match=r"no result after 0\.01 s") as caught:
            build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", BuildOptions(timeout_s=0.01))
        assert caught.value.reason == "timeout"
        assert left_in(tmp_path) == []

    @pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
    def test_memory_runs_out(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError, match="over the limit of 5 MiB") as caught:
            build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "x.plan", BuildOptions(memory_mib=5))
        assert caught.value.reason == "memory"
        assert left_in(tmp_path) == []

    def test_ctrl_c_leaves_nothing(self, tmp_path: Path) -> None:
        def interrupt(stage: str, done: float) -> None:
            if stage == "build" and done > 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(tiny.convolutions(tmp_path), tmp_path / "x.plan", progress=interrupt)
        assert left_in(tmp_path) == []

    def test_status_works_here(self) -> None:
        found = RTX.status()
        assert (found.installed, found.works, found.why) == (True, True, "")
        assert found.version


class TestInputs:
    def test_a_missing_model(self, tmp_path: Path) -> None:
        flavour = Flavour("rtx", "json", (), "", "")
        with pytest.raises(BuildError, match="no such ONNX file"):
            flavour.build(tmp_path / "absent.onnx", tmp_path / "x.plan", BuildOptions())

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        flavour = Flavour("rtx", "json", (), "", "")
        with pytest.raises(ConfigError, match="folder for the plan does not exist"):
            flavour.build(tiny.write(tmp_path, tiny.GOOD), tmp_path / "absent" / "x.plan", BuildOptions())


class TestChoice:
    """Which backend ``auto`` means, for each combination of what is installed."""

    @staticmethod
    def installed(monkeypatch: pytest.MonkeyPatch, *, rtx: bool, tensorrt: str) -> None:
        there = {"tensorrt_rtx": rtx, "tensorrt": bool(tensorrt)}
        monkeypatch.setattr(Flavour, "importable", lambda self: there[self.module])
        monkeypatch.setattr(Flavour, "version", lambda self: "1.7.1" if self.module == "tensorrt_rtx" else tensorrt)

    @pytest.mark.parametrize(
        ("rtx", "tensorrt", "options", "chosen"),
        [
            (True, "", BuildOptions(), "rtx"),
            (True, "10.13.3", BuildOptions(), "rtx"),
            (False, "10.13.3", BuildOptions(), "strong"),
            (False, "11.4.0", BuildOptions(), "strong"),
            (False, "8.6.1", BuildOptions(), "weak"),
            (True, "10.13.3", BuildOptions(hardware_compatible="ampere_plus"), "strong"),
            (True, "10.13.3", BuildOptions(pins=(("a", "fp32"),)), "weak"),
            (True, "10.13.3", BuildOptions(backend="strong"), "strong"),
            (True, "10.13.3", BuildOptions(backend="weak"), "weak"),
        ],
    )
    def test_choose(self, monkeypatch: pytest.MonkeyPatch, rtx: bool, tensorrt: str, options: BuildOptions, chosen: str) -> None:
        self.installed(monkeypatch, rtx=rtx, tensorrt=tensorrt)
        assert choose(options).name == chosen

    def test_nothing_installed_prints_the_pip_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed(monkeypatch, rtx=False, tensorrt="")
        with pytest.raises(BackendMissingError) as caught:
            choose(BuildOptions())
        assert "pip install 'fp16fix[rtx]'" in caught.value.hint
        assert "pip install 'fp16fix[tensorrt]'" in caught.value.hint

    def test_named_and_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed(monkeypatch, rtx=True, tensorrt="")
        with pytest.raises(BackendMissingError, match="'strong' needs the Python module 'tensorrt'"):
            choose(BuildOptions(backend="strong"))

    def test_weak_on_11_names_the_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed(monkeypatch, rtx=True, tensorrt="11.4.0.106")
        with pytest.raises(BackendError, match="no weak typing") as caught:
            choose(BuildOptions(backend="weak"))
        assert "--backend strong" in caught.value.hint

    def test_strong_on_8_is_too_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed(monkeypatch, rtx=False, tensorrt="8.6.1")
        with pytest.raises(BackendMissingError, match="too old"):
            choose(BuildOptions(backend="strong"))

    def test_a_missing_module_is_a_status(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed(monkeypatch, rtx=False, tensorrt="")
        found = STRONG.status()
        assert (found.installed, found.works) == (False, False)
        assert "pip install" in found.how_to_install

    def test_a_flavour_that_does_not_load_is_a_status(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: object) -> None:
            raise BackendMissingError("libnvinfer.so.10: cannot open shared object file")

        self.installed(monkeypatch, rtx=False, tensorrt="10.13.3")
        monkeypatch.setattr(backends, "supervise", fails)
        found = STRONG.status()
        assert (found.installed, found.works) == (True, False)
        assert "libnvinfer" in found.why
