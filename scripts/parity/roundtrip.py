#!/usr/bin/env python3
"""Files in the other direction: lowrank loads and writes the adapter of each golden fixture, and PEFT computes with that.

    npm run build && .venv/bin/python scripts/parity/roundtrip.py                  # all
    npm run build && .venv/bin/python scripts/parity/roundtrip.py fixtures-options # one folder of test/golden

The logits have to be those that expected.safetensors has; of LoRA's options, what trains has to be the same too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

import fixtures as fx
import reference as ref
from make_prefix_fixtures import WithoutVirtual

# What expected.safetensors calls the logits of adapter/.
LOGITS = {
    "fixtures": "adapted_logits",
    "fixtures-methods": "adapted_logits",
    "fixtures-options": "adapted_logits",
    "fixtures-init": "trained_logits",
    "fixtures-adalora": "trained_logits",
    "fixtures-prefix": "logits",
}

REWRITE = """
import { mkdir } from 'node:fs/promises';
import { loadAdapterFolder, writeAdapterFolder } from './dist/methods/files.js';
import { openModel } from './dist/models/base.js';
const [base, from, to] = process.argv.slice(1);
const adapter = await loadAdapterFolder(from, await openModel(base));
await mkdir(to);
await writeAdapterFolder(to, adapter, base);
"""

# All of the change: in a LoRA of the rank that it has.
CONVERT = """
import { convert } from './dist/index.js';
const [base, from, to] = process.argv.slice(1);
await convert(from, to, { to: 'lora', base, energy: 1 });
"""
# PEFT 0.21.2 passes over what an adapter has of MLPs beside experts.
NOT_READ = ("qwen3_moe-steps",)
LORA = ("dora", "hira", "miss", "vera")


def written(script: str, model: str, adapter: Path, scratch: Path, **options) -> torch.nn.Module:
    """PEFT's model of what a script writes of an adapter."""
    ours = scratch / "adapter"
    command = ["node", "--input-type=module", "-e", script, fx.base_folder(model), adapter, ours]
    subprocess.run(command, cwd=fx.ROOT, check=True)
    return fx.load_adapter(model, ours, **options)


def check_lora(name: str, folder: Path) -> None:
    """A LoRA of what another method changes."""
    facts, expected = json.loads((folder / "expected.json").read_text()), load_file(folder / "expected.safetensors")
    with tempfile.TemporaryDirectory() as scratch:
        loaded = written(CONVERT, facts["base"], folder / "adapter", Path(scratch))
    assert loaded.peft_config["default"].peft_type == "LORA"
    error = ref.relative_error(ref.logits_of(loaded, fx.batch_of(facts["base"])), expected["adapted_logits"])
    assert error < 1e-5, f"{name} as a LoRA: {error}"
    print(f"{name}: the LoRA that lowrank made of it is the same to PEFT ({error:.1e})")


def check(root: str, folder: Path) -> None:
    facts = json.loads((folder / "expected.json").read_text())
    model, expected = facts.get("base", folder.name), load_file(folder / "expected.safetensors")
    with tempfile.TemporaryDirectory() as scratch:
        options = {"is_trainable": root == "fixtures-options"}
        loaded = written(REWRITE, model, folder / "adapter", Path(scratch), **options)
    if root == "fixtures-options":
        names = {key.removeprefix("grad.") for key in expected if key.startswith("grad.")}
        trained = ref.adapter_parameters(loaded).keys()
        assert trained == names, trained ^ names
    computing: torch.nn.Module = WithoutVirtual(loaded) if root == "fixtures-prefix" else loaded
    error = ref.relative_error(ref.logits_of(computing, fx.batch_of(model)), expected[LOGITS[root]])
    assert error < 1e-5, f"{root}/{folder.name}: {error}"
    print(f"{root}/{folder.name}: what lowrank wrote is the same to PEFT ({error:.1e})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Check with PEFT what lowrank writes.")
    parser.add_argument("roots", nargs="*", metavar="ROOT", help="which folders of test/golden (default: all)")
    args = parser.parse_args()
    if unknown := set(args.roots) - set(LOGITS):
        parser.error(f"no folder called {', '.join(sorted(unknown))}; known: {', '.join(LOGITS)}")
    ref.be_deterministic()
    warnings.filterwarnings("ignore", module="peft")
    for root in args.roots or LOGITS:
        for folder in sorted((fx.GOLDEN / root).iterdir()):
            if folder.name in NOT_READ:
                continue
            check(root, folder)
            if root == "fixtures-methods" and folder.name.split("-")[1].startswith(LORA):
                check_lora(folder.name, folder)


if __name__ == "__main__":
    main()
