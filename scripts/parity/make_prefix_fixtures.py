#!/usr/bin/env python3
"""Makes test/golden/fixtures-prefix: what PEFT computes with PREFIX_TUNING and PROMPT_TUNING on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_prefix_fixtures.py

Each case is a folder <model>-<method>:
    adapter/               the adapter as PEFT saves it
    expected.safetensors   logits [B, S, V] (zero at the padding) with the adapter as it is loaded; with the network of
                           `prefix_projection` besides its parts and, as grad.*, their gradients of the mean loss; without
                           it grad.prompt_embeddings
    expected.json          loss, the recipe and losses of 20 AdamW steps, versions
The model and the batch are those of fixtures/<model>. Runs in a few seconds.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import save_file

import reference as ref

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
FIXTURES = GOLDEN / "fixtures-prefix"
RECIPE = ref.RECIPE | {"learning_rate": 5e-2}
CASES = {
    "qwen2-prefix": {"num_virtual_tokens": 4},
    "smollm2-prefix": {"num_virtual_tokens": 3},
    "qwen2-prompt": {"num_virtual_tokens": 4},
    "smollm2-prompt": {"num_virtual_tokens": 2},
    "qwen2-projection": {"num_virtual_tokens": 4, "prefix_projection": True, "encoder_hidden_size": 6},
}
# PEFT's names of the parts, and ours.
NAMES = {
    "embedding.weight": "prefix_embedding",
    "transform.0.weight": "prefix_transform_0",
    "transform.0.bias": "prefix_transform_0_bias",
    "transform.2.weight": "prefix_transform_2",
    "transform.2.bias": "prefix_transform_2_bias",
}


class WithoutVirtual(torch.nn.Module):
    """The logits of the real tokens alone, whichever of the two methods."""

    def __init__(self, adapted: torch.nn.Module) -> None:
        super().__init__()
        self.adapted = adapted

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        logits = self.adapted(input_ids=input_ids, attention_mask=attention_mask).logits
        return SimpleNamespace(logits=logits[:, -input_ids.shape[1] :])


def make(name: str, options: dict, seed: int) -> None:
    torch.manual_seed(seed)
    model = name.split("-")[0]
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    batch = ref.Batch.read(GOLDEN / "fixtures" / model / "batch.json")
    kind = PromptTuningConfig if name.endswith("prompt") else PrefixTuningConfig
    config = kind(task_type="CAUSAL_LM", **options)
    adapted = get_peft_model(ref.load(GOLDEN / "fixtures" / model), config).eval()
    projection = options.get("prefix_projection", False)
    encoder = adapted.prompt_encoder["default"]
    parts = dict(encoder.named_parameters())
    names = {part: NAMES[part] if projection else "prompt_embeddings" for part in parts}
    # The trained parameters under the one name by which reference.py finds them.
    ref.adapter_parameters = lambda _: parts

    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": f"fixtures/{model}"}
    path.write_text(json.dumps(config, indent=1) + "\n")

    expected = {name: parts[part].detach().clone() for part, name in names.items()} if projection else {}
    adapted = WithoutVirtual(adapted)
    loss, gradients = ref.gradients_of(adapted, batch)
    expected |= {f"grad.{names[part]}": gradient for part, gradient in gradients.items()}
    loaded = WithoutVirtual(PeftModel.from_pretrained(ref.load(GOLDEN / "fixtures" / model), folder / "adapter")).eval()
    expected["logits"] = ref.logits_of(loaded, batch)
    base = ref.logits_of(ref.load(GOLDEN / "fixtures" / model), batch)
    assert ref.relative_error(expected["logits"], base) > 0.05, "idle adapter"
    assert ref.relative_error(ref.logits_of(adapted, batch), expected["logits"]) < 1e-5, "saving changes it"

    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.98 * log["losses"][0], "training does nothing"
    save_file({key: tensor.contiguous() for key, tensor in expected.items()}, folder / "expected.safetensors")
    ref.write_json(
        folder / "expected.json",
        {"versions": ref.versions(), "method": name.split("-")[1], "base": model, "options": options, "loss": loss, "recipe": RECIPE, **log},
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name}: {size / 1000:.0f} kB, losses {log['losses'][0]:.3f} to {log['losses'][-1]:.3f}")


if __name__ == "__main__":
    ref.be_deterministic()
    for seed, (name, options) in enumerate(CASES.items()):
        make(name, options, seed)
