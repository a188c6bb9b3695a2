"""``python -m fp16fix.zoo.child CONFIG RESULT``: repair one model of a zoo; a crash here takes nobody else along."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fp16fix.config import Config
from fp16fix.errors import Fp16fixError
from fp16fix.process.interrupts import terminable
from fp16fix.tasks.repair import repair


def main() -> int:
    """Exit code as the command line's; the error's text goes into the result file."""
    config = Config.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"), context={"folder": Path()})
    try:
        with terminable():
            outcome = repair(config, command=json.loads(sys.argv[3]))
    except Fp16fixError as error:
        Path(sys.argv[2]).write_text(json.dumps({"error": str(error)}), encoding="utf-8")
        return error.exit_code
    Path(sys.argv[2]).write_text(json.dumps({"outcome": outcome.files["outcome"]}), encoding="utf-8")
    return 0 if outcome.verified else 1


if __name__ == "__main__":
    sys.exit(main())
