#!/usr/bin/env python3
"""Parity with PyTorch + PEFT on a real model, SmolLM2-135M.

    golden: what is committed in test/golden/smollm2/fixtures, so that a machine without Python can compare too.
        .venv/bin/python scripts/parity/live_smollm2.py golden --gguf .cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
      The adapter is not stored: it is FORMULA_ADAPTER below, exact in any language. For every A and B the golden holds
      the gradient's norm and a few of its elements.

    live: the whole of it, on what lowrank wrote.
        .venv/bin/python scripts/parity/live_smollm2.py live --model FOLDER --adapter FOLDER --batch FILE --out FOLDER
            [--gguf FILE] [--merged FOLDER]
      FOLDER of --model is lowrank's conversion of the GGUF to a Hugging Face folder, --adapter a PEFT folder that lowrank
      wrote, --merged lowrank's merge of the two. Writes into --out:
        expected.safetensors  logits [N, V] of the supervised rows, grad.<adapter key> for every A and B
        expected.json         loss, the recipe and losses of 20 AdamW steps, versions
        checks.json           relative errors of what is compared on this side:
          gguf_logits    --model against transformers' own reading of --gguf
          merged_logits  --merged, loaded by transformers, against PEFT's merge_and_unload
      Exits with 1 when a check is above its limit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import reference as ref

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden" / "smollm2" / "fixtures"
# The norm at which clipping bites in these 20 steps.
RECIPE = ref.RECIPE | {"learning_rate": 3e-4, "max_grad_norm": 0.5}
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LIMITS = {"gguf_logits": 1e-5, "merged_logits": 1e-4}

SAMPLES = 8  # elements kept of each gradient
LOGIT_ROWS = 4  # supervised rows of which logits are kept
LOGIT_STRIDE = 192  # every how many-th logit of them
NEW_TOKENS = 12

# FORMULA_ADAPTER: element i (row-major) of tensor t is hash(i, t) spread evenly over [-amplitude, amplitude), where
# t = 2 * (layer * 7 + module) for A and one more for B, modules in the order of reference.MODULES.
AMPLITUDE_A = 2.0**-5
AMPLITUDE_B = 2.0**-4

CHAT = "<|im_start|>user\nName three animals that live in the sea.<|im_end|>\n<|im_start|>assistant\n"

# Two examples of 64 and 53 tokens; the prompts are not supervised. The text was written for this file.
EXAMPLES = [
    (
        "Question: Why does bread rise when it is baked?\nAnswer:",
        " The yeast in the dough eats sugar and gives off carbon dioxide. The gas collects in small bubbles, and the"
        " gluten around them stretches like the skin of a balloon. In the heat of the oven the bubbles grow, the dough"
        " sets, and the loaf keeps its shape when it cools down.",
    ),
    (
        "Summarize: The ferry to the island was late again,",
        " and nobody on the pier was surprised. The captain blamed the wind, the baker blamed the captain, and the"
        " children, who had no school until it came, blamed no one at all. In the end everyone was glad to wait.",
    ),
]
ROW_TOKENS = (64, 53)


def hash32(values: torch.Tensor) -> torch.Tensor:
    """A 32-bit integer hash (xorshift-multiply, "lowbias32") of int64 values below 2^32."""
    mask = 0xFFFFFFFF
    values = values ^ (values >> 16)
    values = (values * 0x7FEB352D) & mask
    values = values ^ (values >> 15)
    values = (values * 0x846CA68B) & mask
    return values ^ (values >> 16)


def formula_values(tensor: int, shape: torch.Size, amplitude: float) -> torch.Tensor:
    """Exact: an integer of 32 bits times a power of two, rounded once to float32."""
    index = torch.arange(shape.numel(), dtype=torch.int64)
    hashed = hash32(index ^ ((tensor * 0x9E3779B9) & 0xFFFFFFFF))
    return ((hashed - 2**31).double() * (amplitude * 2.0**-31)).float().view(shape)


def adapter_keys(layers: int) -> list[str]:
    """The adapter's tensors in the order of their numbers in FORMULA_ADAPTER."""
    sites = (f"base_model.model.model.layers.{layer}.{module}" for layer in range(layers) for module in ref.MODULES)
    return [f"{site}.lora_{side}.weight" for site in sites for side in "AB"]


def formula_adapter(model: torch.nn.Module) -> PeftModel:
    adapted = get_peft_model(model, LoraConfig(**LORA)).eval()
    parameters = ref.adapter_parameters(adapted)
    keys = adapter_keys(model.config.num_hidden_layers)
    assert set(keys) == set(parameters)
    with torch.no_grad():
        for number, key in enumerate(keys):
            amplitude = AMPLITUDE_B if ".lora_B." in key else AMPLITUDE_A
            parameters[key].copy_(formula_values(number, parameters[key].shape, amplitude))
    return adapted


def load_gguf(path: Path) -> torch.nn.Module:
    return ref.load(path.parent, gguf_file=path.name)


def load_tokenizer(gguf: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)


def golden_batch(tokenizer: PreTrainedTokenizerBase) -> ref.Batch:
    prompts = [tokenizer(prompt).input_ids for prompt, _ in EXAMPLES]
    completions = [tokenizer(completion).input_ids for _, completion in EXAMPLES]
    examples = [(p + c)[:size] for p, c, size in zip(prompts, completions, ROW_TOKENS, strict=True)]
    assert [len(example) for example in examples] == list(ROW_TOKENS)
    return ref.Batch.of(examples, [len(prompt) for prompt in prompts], pad=tokenizer.pad_token_id)


def supervised_logits(model: torch.nn.Module, batch: ref.Batch) -> torch.Tensor:
    """[N, V]"""
    return ref.logits_of(model, batch).flatten(0, 1)[batch.rows]


def golden(args: argparse.Namespace) -> int:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    base = load_gguf(args.gguf)
    tokenizer = load_tokenizer(args.gguf)
    batch = golden_batch(tokenizer)
    prompt = tokenizer(CHAT).input_ids
    greedy = {"prompt": prompt}
    greedy["base_tokens"], greedy["base_smallest_lead"] = ref.greedy(base, prompt, NEW_TOKENS)
    base_log_probs = supervised_logits(base, batch).log_softmax(-1).gather(1, batch.next_ids[:, None])

    model = formula_adapter(base)
    greedy["tokens"], greedy["smallest_lead"] = ref.greedy(model, prompt, NEW_TOKENS)
    logits = supervised_logits(model, batch)
    loss, gradients = ref.gradients_of(model, batch)
    ordered = [gradients[key].flatten() for key in adapter_keys(base.config.num_hidden_layers)]
    tensors = {
        "base_log_probs": base_log_probs[:, 0],
        "log_probs": logits.log_softmax(-1).gather(1, batch.next_ids[:, None])[:, 0],
        "logits": logits[:LOGIT_ROWS, ::LOGIT_STRIDE],
        "grad_norms": torch.stack([gradient.double().norm().float() for gradient in ordered]),
        # Sample s of n elements is number floor(n * s / SAMPLES).
        "grad_samples": torch.stack([g[torch.arange(SAMPLES) * g.numel() // SAMPLES] for g in ordered]),
    }
    log = ref.train(model, batch, RECIPE)

    batch.write(GOLDEN / "batch.json")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, GOLDEN / "expected.safetensors")
    ref.write_json(
        GOLDEN / "expected.json",
        {
            "versions": ref.versions(),
            "model": args.gguf.name,
            "lora": LORA,
            "loss": loss,
            "argmax": logits.argmax(-1).tolist(),
            "recipe": RECIPE,
            **log,
            "greedy": greedy,
        },
    )
    return 0


def live(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    batch = ref.Batch.read(args.batch)
    base = ref.load(args.model)
    errors = {}
    if args.gguf:
        errors["gguf_logits"] = ref.relative_error(
            supervised_logits(base, batch), supervised_logits(load_gguf(args.gguf), batch)
        )
    model = PeftModel.from_pretrained(base, args.adapter, is_trainable=True).eval()
    logits = supervised_logits(model, batch)
    loss, gradients = ref.gradients_of(model, batch)
    tensors = {"logits": logits} | {f"grad.{key}": gradient for key, gradient in gradients.items()}
    if args.merged:
        merged = PeftModel.from_pretrained(ref.load(args.model), args.adapter).merge_and_unload()
        errors["merged_logits"] = ref.relative_error(
            supervised_logits(ref.load(args.merged), batch), supervised_logits(merged, batch)
        )
    log = ref.train(model, batch, RECIPE)

    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, args.out / "expected.safetensors")
    ref.write_json(args.out / "expected.json", {"versions": ref.versions(), "loss": loss, "recipe": RECIPE, **log})
    ref.write_json(args.out / "checks.json", {"relative_errors": errors, "limits": LIMITS})
    failed = {name: error for name, error in errors.items() if not error <= LIMITS[name]}
    for name, error in errors.items():
        print(f"{name}: relative error {error:.1e} (limit {LIMITS[name]:.0e}){' FAILED' if name in failed else ''}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Parity with PyTorch + PEFT on SmolLM2-135M.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("golden", help="write test/golden/smollm2/fixtures")
    command.add_argument("--gguf", type=Path, required=True)
    command.set_defaults(run=golden)
    command = commands.add_parser("live", help="write the reference for what lowrank wrote, and check it")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--adapter", type=Path, required=True)
    command.add_argument("--batch", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--gguf", type=Path)
    command.add_argument("--merged", type=Path)
    command.set_defaults(run=live)
    args = parser.parse_args()
    missing = [path for path in (getattr(args, "gguf", None), getattr(args, "batch", None)) if path and not path.is_file()]
    missing += [path for path in (getattr(args, name, None) for name in ("model", "adapter", "merged")) if path and not path.is_dir()]
    if missing:
        parser.error(f"there is no {missing[0]}")
    ref.be_deterministic()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
