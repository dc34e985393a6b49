"""How the make_*.py lay down what they compute: folders of test/golden, one for each case, on the tiny models of fixtures/."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file

import reference as ref

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden"


def base_folder(model: str) -> Path:
    return GOLDEN / "fixtures" / model


def load_base(model: str) -> torch.nn.Module:
    return ref.load(base_folder(model))


def batch_of(model: str) -> ref.Batch:
    return ref.Batch.read(base_folder(model) / "batch.json")


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What trains, as it stands, by its names in the adapter's file."""
    return {name: parameter.detach().clone() for name, parameter in ref.adapter_parameters(model).items()}


def named_gradients(gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"grad.{name}": gradient for name, gradient in gradients.items()}


def save_adapter(adapted: PeftModel, model: str, folder: Path, indent: int | None = 1, **options) -> None:
    """PEFT's own save_pretrained, without what differs from run to run or from machine to machine."""
    adapted.save_pretrained(folder, **options)
    (folder / "README.md").unlink()
    clean_config(folder, model, indent)


def clean_config(folder: Path, model: str, indent: int | None = 1) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": f"fixtures/{model}"}
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])  # PEFT writes a set: its order is not reproducible
    path.write_text(json.dumps(config, indent=indent) + "\n")


def load_adapter(model: str, folder: Path, **options) -> PeftModel:
    return PeftModel.from_pretrained(load_base(model), folder, **options).eval()


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def write_expected(folder: Path, tensors: dict[str, torch.Tensor], facts: dict) -> None:
    """expected.safetensors and expected.json."""
    save_tensors(folder / "expected.safetensors", tensors)
    ref.write_json(folder / "expected.json", {"versions": ref.versions()} | facts)


def main(root: str, cases: Iterable[str], make: Callable[[str, Path, int], None]) -> None:
    """The command line of a make_*.py: `make(name, folder, seed)` fills an empty folder, which then takes the place of
    test/golden/<root>/<name>."""
    names = list(cases)
    parser = argparse.ArgumentParser(description=f"Make test/golden/{root}.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which ones: {', '.join(names)} (default: all)")
    args = parser.parse_args()
    unknown = set(args.cases) - set(names)
    if unknown:
        parser.error(f"no case called {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    ref.be_deterministic()
    target = GOLDEN / root
    target.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        if args.cases and name not in args.cases:
            continue
        with tempfile.TemporaryDirectory(dir=target, prefix=".new-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            make(name, folder, seed)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(target / name, ignore_errors=True)
            folder.rename(target / name)
        print(f"{name}: {size / 1000:.0f} kB")
