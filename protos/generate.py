#!/usr/bin/env python3
"""Makes `protos/gen` from the .proto files, or with --check compares what is committed with what would be made.

The compiler is pinned (deploy/lock/protogen.txt) and lives in an environment of its own, build/protogen, because it
is deliberately older than the runtime: code that it makes is accepted by a wider range of runtimes.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS, GENERATED = ROOT / "protos", ROOT / "protos" / "gen"
LOCK = ROOT / "deploy" / "lock" / "protogen.txt"
ENVIRONMENT = ROOT / "build" / "protogen"


def compiler() -> Path:
    """Path of the pinned compiler's python; installs it once for every state of its lock file."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "lock.txt"
    if not (stamp.exists() and stamp.read_bytes() == LOCK.read_bytes()):
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", LOCK], check=True)
        shutil.copyfile(LOCK, stamp)
    return python


def generate(into: Path) -> None:
    """Writes all generated files, with `py.typed` and the leaves' `__init__.py`, below `into`."""
    ours = sorted(path.relative_to(PROTOS) for path in (PROTOS / "yikatong").rglob("*.proto"))
    vendored = [Path("buf/validate/validate.proto")]
    # mypy-protobuf's plugin is found through PATH, in the compiler's own environment.
    python = compiler()
    command = [
        python, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{PROTOS / 'vendor'}",
        f"--plugin=protoc-gen-mypy={python.parent / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={python.parent / 'protoc-gen-mypy_grpc'}",
        f"--python_out={into}", f"--mypy_out=quiet:{into}",
    ]  # fmt: skip
    subprocess.run([*command, *vendored], check=True, cwd=ROOT)
    subprocess.run(
        [*command, f"--grpc_python_out={into}", f"--mypy_grpc_out=quiet:{into}", *ours], check=True, cwd=ROOT
    )
    for leaf in {into / path.parent for path in [*ours, *vendored]}:
        (leaf / "__init__.py").touch()
    for portion in ("buf", "yikatong/api"):
        (into / portion / "py.typed").touch()


def files(below: Path) -> set[Path]:
    return {path.relative_to(below) for path in below.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "gen"  # the temporary folder itself is for its owner only, and copytree keeps that
        fresh.mkdir()
        generate(fresh)
        if "--check" in sys.argv[1:]:
            drifted = sorted(
                path
                for path in files(fresh) | files(GENERATED)
                if not ((fresh / path).exists() and (GENERATED / path).exists())
                or not filecmp.cmp(fresh / path, GENERATED / path, shallow=False)
            )
            for path in drifted:
                print(f"{path}: differs from what the protos make; run python protos/generate.py", file=sys.stderr)
            return 1 if drifted else 0
        shutil.rmtree(GENERATED, ignore_errors=True)
        shutil.copytree(fresh, GENERATED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
