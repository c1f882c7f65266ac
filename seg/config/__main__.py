"""`python -m seg.config`: writes the JSON schema by which editors complete and check configurations."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from seg.config.tree import Config
from seg.data.files.storage import write_bytes
from seg.errors import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the JSON schema of the configuration."""
    parser = argparse.ArgumentParser(prog="python -m seg.config", description=main.__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("configs/schema.json"), help="default: %(default)s")
    args = parser.parse_args(argv)

    def write() -> None:
        write_bytes(args.out, (json.dumps(Config.model_json_schema(), indent=1) + "\n").encode())

    return run_command(write)


if __name__ == "__main__":
    sys.exit(main())
