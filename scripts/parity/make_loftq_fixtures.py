#!/usr/bin/env python3
"""Makes test/golden/fixtures-loftq: what PEFT computes with LoRA that starts at what quantizing took from the base.

    .venv/bin/python scripts/parity/make_loftq_fixtures.py

Each case is a folder <model>-<iterations>:
    start.safetensors      A and B as PEFT starts them, by the names in adapter_model.safetensors, and as base.<layer> the
                           weights that the quantized base stands for
    expected.safetensors   start_logits, trained_logits [B, S, V] (zero at the padding)
    expected.json          PEFT's options, iterations, the recipe and losses of 20 AdamW steps, versions
The model and the batch are those of fixtures/<model>. PEFT's loftq_init runs as it is but for three things: on the CPU,
with double quantization (its own constant is off; the base here is QLoRA's), and A and B divided by the scale that the
adapter has, which PEFT leaves out. Needs bitsandbytes. Runs in a few seconds.
"""

from __future__ import annotations

import inspect
import math
import shutil
import tempfile
from pathlib import Path

import bitsandbytes.functional as bnb
import peft.tuners.lora.layer as lora_layer
import peft.utils.loftq_utils as loftq_utils
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

import reference as ref

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
FIXTURES = GOLDEN / "fixtures-loftq"

OPTIONS = {"r": 4, "lora_alpha": 4, "target_modules": "all-linear"}
CASES = [
    ("qwen2", 1, OPTIONS),
    ("qwen2", 5, OPTIONS | {"lora_alpha": 12}),
    ("smollm2", 2, OPTIONS | {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"k_proj": 2}}),
]
RECIPE = ref.RECIPE | {"learning_rate": 5e-3}


def dequantized_nf4(weight: torch.Tensor) -> torch.Tensor:
    """The weights that NF4 with double quantization stands for; the 8-bit codes of its scales are the nearest ones, as in
    bitsandbytes' CUDA kernels (see quant_goldens.py). Flat, since its CPU kernel dequantizes wrongly what has blocks over
    the ends of rows."""
    codes, single = bnb.quantize_4bit(weight.flatten(), blocksize=64, quant_type="nf4")
    offset = single.absmax.mean()
    rest = single.absmax - offset
    _, nested = bnb.quantize_blockwise(rest, blocksize=256)
    whole = len(rest) // 256 * 256
    factors = (1.0 / nested.absmax).repeat_interleave(256)[:whole]
    scaled = torch.cat([rest[:whole] * factors, rest[whole:] / nested.absmax[-1]])
    nearest = torch.bucketize(scaled, (nested.code[:-1] + nested.code[1:]) / 2).to(torch.uint8)
    single.absmax = bnb.dequantize_blockwise(nearest, nested) + offset
    return bnb.dequantize_4bit(codes, single).reshape(weight.shape)


def patched_loftq_init():
    """PEFT's function on the CPU, and with dequantized_nf4 in the place of its quantizer."""
    source = inspect.getsource(loftq_utils.loftq_init)
    first = source.index("        if num_bits == 4:\n            qweight")
    last = source.index("        res = weight - dequantized_weight")
    source = source[:first] + "        dequantized_weight = dequantized_nf4(res)\n" + source[last:]
    names = vars(loftq_utils) | {"dequantized_nf4": dequantized_nf4}
    exec(source.replace('else "cuda"', 'else "cpu"'), names)
    return names["loftq_init"]


def make(model: str, iterations: int, options: dict, folder: Path) -> None:
    batch = ref.Batch.read(GOLDEN / "fixtures" / model / "batch.json")
    base = ref.load(GOLDEN / "fixtures" / model)
    base_logits = ref.logits_of(base, batch)
    config = LoraConfig(**options, task_type="CAUSAL_LM")
    # Given to LoraConfig itself it asks for scipy, which nothing of this needs.
    config.init_lora_weights = "loftq"
    config.loftq_config = {"loftq_bits": 4, "loftq_iter": iterations}
    adapted = get_peft_model(base, config).eval()
    start = {}
    for name, module in adapted.named_modules():
        if not isinstance(module, lora_layer.Linear):
            continue
        root = math.sqrt(module.scaling["default"])
        for part in (module.lora_A, module.lora_B):
            part["default"].weight.data /= root
        start["base." + name.removeprefix("base_model.model.")] = module.get_base_layer().weight.detach().clone()
    start |= {key: value.detach().clone() for key, value in ref.adapter_parameters(adapted).items()}
    expected = {"start_logits": ref.logits_of(adapted, batch)}
    with adapted.disable_adapter():
        without = ref.relative_error(ref.logits_of(adapted, batch), base_logits)
    error = ref.relative_error(expected["start_logits"], base_logits)
    assert error < 0.9 * without, f"{error} is no nearer than {without}"
    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    expected["trained_logits"] = ref.logits_of(adapted, batch)

    save_file({key: tensor.contiguous() for key, tensor in start.items()}, folder / "start.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in expected.items()}, folder / "expected.safetensors")
    ref.write_json(
        folder / "expected.json",
        {
            "versions": ref.versions(),
            "base": model,
            "options": options,
            "iterations": iterations,
            "loss": log["losses"][0],
            "recipe": RECIPE,
            **log,
        },
    )


def main() -> None:
    ref.be_deterministic()
    lora_layer.loftq_init = patched_loftq_init()
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for model, iterations, options in CASES:
        name = f"{model}-{iterations}"
        with tempfile.TemporaryDirectory(dir=FIXTURES, prefix=".new-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            make(model, iterations, options, folder)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(FIXTURES / name, ignore_errors=True)
            folder.rename(FIXTURES / name)
        print(f"{name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
