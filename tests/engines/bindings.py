"""The real Python bindings of other TensorRT versions, importable with no TensorRT: beside stub libraries that return null.

The bindings' wheels are on PyPI, the libraries they link to are not. What they need of those is a handful of symbols; with stubs
for them they import and show every class, member, enum and docstring of their version, which is all that these tests look at.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WHEELS = {
    "8.6.1": "tensorrt-bindings",
    "10.0.1": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
"""Version → PyPI name: the oldest we serve, the first and the last of 10, one amid, the newest."""

STUB = """
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getInferLibVersion(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
/* 8.x also links its Caffe and UFF parsers, by C++ names. */
void *uff(void) __asm__("_ZN11nvuffparser15createUffParserEv");
void *uff(void) { return 0; }
void field(void) __asm__("_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi");
void field(void) {}
void *caffe(void) __asm__("_ZN14nvcaffeparser117createCaffeParserEv");
void *caffe(void) { return 0; }
void done(void) __asm__("_ZN14nvcaffeparser123shutdownProtobufLibraryEv");
void done(void) {}
"""
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")


@dataclass(frozen=True)
class Bindings:
    """One unpacked wheel with stubs in its ``lib`` folder."""

    version: str
    folder: Path

    def ask(self, script: str, *arguments: str) -> Any:
        """Run a test script of this folder in a process that has these bindings; what it prints last, as JSON."""
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name(script)), *arguments],
            env={**os.environ, "LD_LIBRARY_PATH": str(self.folder / "lib"), "PYTHONPATH": os.pathsep.join([str(self.folder), str(root)])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])


def prepare(version: str, cache: Path) -> Bindings:
    """Download, unpack and stub one version, once; skips the test if pip cannot download it or there is no C compiler."""
    final = cache / f"{version}-py{sys.version_info.major}{sys.version_info.minor}"
    if not final.is_dir():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to build stub libraries with")
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            folder = Path(scratch) / "bindings"
            unpack(version, Path(scratch), folder)
            stub(compiler, folder / "lib", version.split(".", maxsplit=1)[0])
            try:
                folder.rename(final)
            except OSError:
                assert final.is_dir()  # another worker was faster
    return Bindings(version, final)


def unpack(version: str, scratch: Path, folder: Path) -> None:
    """The wheel's files."""
    wanted = f"{WHEELS[version]}=={version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), wanted]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip cannot download {wanted}: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def stub(compiler: str, folder: Path, major: str) -> None:
    """The libraries the bindings link to."""
    folder.mkdir()
    source = folder / "stub.c"
    source.write_text(STUB)
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(folder / name), f"-Wl,-soname,{name}", str(source)], check=True)
