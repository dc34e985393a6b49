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

from pathlib import Path
from types import SimpleNamespace

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

import fixtures as fx
import reference as ref

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


def make(name: str, folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model, method = name.split("-")
    options = CASES[name]
    batch = fx.batch_of(model)
    kind = PromptTuningConfig if method == "prompt" else PrefixTuningConfig
    adapted = get_peft_model(fx.load_base(model), kind(task_type="CAUSAL_LM", **options)).eval()
    fx.save_adapter(adapted, model, folder / "adapter")

    projection = options.get("prefix_projection", False)
    our_name = lambda parameter: NAMES[parameter.split("prompt_encoder.")[1]] if projection else "prompt_embeddings"
    expected = {our_name(key): value for key, value in fx.snapshot(adapted).items()} if projection else {}
    adapted = WithoutVirtual(adapted)
    loss, gradients = ref.gradients_of(adapted, batch)
    expected |= fx.named_gradients({our_name(key): gradient for key, gradient in gradients.items()})
    loaded = WithoutVirtual(fx.load_adapter(model, folder / "adapter")).eval()
    expected["logits"] = ref.logits_of(loaded, batch)
    base = ref.logits_of(fx.load_base(model), batch)
    assert ref.relative_error(expected["logits"], base) > 0.05, "idle adapter"
    assert ref.relative_error(ref.logits_of(adapted, batch), expected["logits"]) < 1e-5, "saving changes it"

    log = ref.train(adapted, batch, RECIPE)
    assert log["losses"][-1] < 0.98 * log["losses"][0], "training does nothing"
    facts = {"method": method, "base": model, "options": options, "loss": loss, "recipe": RECIPE, **log}
    fx.write_expected(folder, expected, facts)


if __name__ == "__main__":
    fx.main("fixtures-prefix", CASES, make)
