"""Runs inside AutoCast's own environment: a JSON list of jobs on stdin → AutoCast's output files, and one JSON line for each job.

A job is ``{"model": …, "calibration": folder of .npz, "output": …}``; its line is ``{"output": …, "seconds": …, "error": …}``.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time

autocast = importlib.import_module("modelopt.onnx.autocast.__main__").main
"""By name: the environment that checks this repository's types does not have it."""


def convert(job: dict[str, str]) -> dict[str, str | float]:
    """One model, with the command line that NVIDIA's migration guide names."""
    began = time.perf_counter()
    arguments = ["--onnx_path", job["model"], "--output_path", job["output"], "--calibration_data", job["calibration"]]
    error = ""
    try:
        autocast([*arguments, "--keep_io_types", "--log_level", "CRITICAL"])
    except (Exception, SystemExit) as failure:  # noqa: BLE001 - whatever ends it is the result
        # Some of its errors are addresses, which differ from run to run.
        words = re.sub(r"\d{9,}", "…", " ".join(str(failure).split()))[:200]
        error = f"{type(failure).__name__}: {words}"
    return {"output": job["output"], "seconds": round(time.perf_counter() - began, 2), "error": error}


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        print(json.dumps(convert(each)), flush=True)
