#!/usr/bin/env python3
"""Makes test/golden/fixtures-adalora: 20 steps of PEFT's AdaLoRA on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_adalora_fixtures.py

Each case is a folder named after its model:
    start.safetensors      P, Lambda and Q as PEFT starts them, by the names in adapter_model.safetensors
    adapter/               after the steps, written by PEFT, ranks pruned
    expected.safetensors   trained_logits, merged_logits [B, S, V] (zero at the padding)
    expected.json          the options; losses (the penalty apart), penalties, gradient norms, and after each step which
                           ranks are left of each module (1) and which are pruned (0), null before the first pruning
update_and_allocate is called after the optimizer's step with the number of steps done, 1 to 20. Runs in a few seconds.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import get_cosine_schedule_with_warmup

import reference as ref

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
FIXTURES = GOLDEN / "fixtures-adalora"

COMMON = {"init_r": 4, "lora_alpha": 16, "target_modules": "all-linear", "orth_reg_weight": 0.3}
CASES = {
    # Pruned at each step between the third and the fifth before the end; some modules lose every rank.
    "smollm2": COMMON | {"target_r": 1, "tinit": 3, "tfinal": 5, "deltaT": 1, "beta1": 0.7},
    # Pruned at every third step, so that ranks come back in between.
    "qwen2": COMMON | {"target_r": 2, "tinit": 2, "tfinal": 4, "deltaT": 3, "beta2": 0.9},
}
RECIPE = ref.RECIPE | {"learning_rate": 2e-2}


def parameters_of(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}


def penalty_of(model: PeftModel, batch: ref.Batch) -> torch.Tensor:
    """PEFT's own: what its forward adds to a loss."""
    config = model.peft_config["default"]
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "labels": batch.ids}
    weight, with_penalty = config.orth_reg_weight, model(**inputs).loss
    config.orth_reg_weight = 0
    without = model(**inputs).loss
    config.orth_reg_weight = weight
    return with_penalty - without


def train(model: PeftModel, batch: ref.Batch) -> dict[str, list]:
    parameters = list(parameters_of(model).values())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=RECIPE["learning_rate"],
        betas=tuple(RECIPE["betas"]),
        eps=RECIPE["eps"],
        weight_decay=RECIPE["weight_decay"],
        foreach=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, RECIPE["warmup_steps"], RECIPE["steps"])
    log: dict[str, list] = {"losses": [], "penalties": [], "grad_norms": [], "ranks": []}
    for step in range(1, RECIPE["steps"] + 1):
        loss, penalty = ref.supervised_loss(model, batch), penalty_of(model, batch)
        (loss + penalty).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, RECIPE["max_grad_norm"], foreach=False)
        optimizer.step()
        schedule.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        log["losses"].append(loss.item())
        log["penalties"].append(penalty.item())
        log["grad_norms"].append(norm.item())
        pattern = model.peft_config["default"].rank_pattern
        log["ranks"].append(
            pattern
            and {
                name.removesuffix(".lora_E.default"): "".join(str(int(left)) for left in ranks)
                for name, ranks in pattern.items()
            }
        )
    return log


def make(name: str, options: dict, folder: Path) -> None:
    torch.manual_seed(1)
    batch = ref.Batch.read(GOLDEN / "fixtures" / name / "batch.json")
    config = AdaLoraConfig(**options, total_step=RECIPE["steps"], task_type="CAUSAL_LM")
    model = get_peft_model(ref.load(GOLDEN / "fixtures" / name), config).eval()
    start = {key: value.detach().clone() for key, value in parameters_of(model).items()}
    log = train(model, batch)
    assert log["losses"][-1] < 0.9 * log["losses"][0], "training does nothing"
    assert log["ranks"][-1] != log["ranks"][-12], "nothing is pruned"
    trained = ref.logits_of(model, batch)
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    path = folder / "adapter" / "adapter_config.json"
    saved = json.loads(path.read_text()) | {"base_model_name_or_path": f"fixtures/{name}"}
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved) + "\n")
    loaded = PeftModel.from_pretrained(ref.load(GOLDEN / "fixtures" / name), folder / "adapter").eval()
    assert ref.relative_error(ref.logits_of(loaded, batch), trained) < 1e-5
    expected = {"trained_logits": trained, "merged_logits": ref.logits_of(loaded.merge_and_unload(), batch)}
    save_file({key: tensor.contiguous() for key, tensor in start.items()}, folder / "start.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in expected.items()}, folder / "expected.safetensors")
    ref.write_json(
        folder / "expected.json", {"versions": ref.versions(), "options": options, "recipe": RECIPE, **log}
    )


def main() -> None:
    ref.be_deterministic()
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, options in CASES.items():
        with tempfile.TemporaryDirectory(dir=FIXTURES, prefix=".new-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            make(name, options, folder)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(FIXTURES / name, ignore_errors=True)
            folder.rename(FIXTURES / name)
        print(f"{name}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
