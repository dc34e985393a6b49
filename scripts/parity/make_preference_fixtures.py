#!/usr/bin/env python3
"""Makes test/golden/fixtures-preferences: DPO, IPO and ORPO of PEFT's adapters on the tiny models of test/golden/fixtures.

    .venv/bin/python scripts/parity/make_preference_fixtures.py

Each case is a folder <model>-<case>:
    expected.safetensors   reference [P, 2] (not of ORPO): log-probabilities of the chosen and the rejected answers under the
                           reference; rewards [P, 2]; grad.<name in the adapter's file>: the gradient of the mean loss
    expected.json          objective and its options, which reference, pairs of token ids, loss, the recipe, and the losses,
                           gradient norms and mean rewards of 20 AdamW steps, versions
The adapter is that of fixtures/<model>. The reference is the base ("base", the adapter disabled), or the adapter as it was
("start"). The losses are written out from the papers' equations. Where TRL is importable (1.16.0 was: pip install --no-deps
--target FOLDER trl datasets pyarrow dill multiprocess xxhash pandas, and PYTHONPATH=FOLDER), its trainers' own code is run on
the same pairs, and has to agree to 1e-5. Runs in a few seconds.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from peft import PeftModel

import fixtures as fx
import reference as ref

CASES = {
    "llama3-dpo": {"objective": "dpo", "beta": 0.1},
    "qwen2-dpo-smoothed": {"objective": "dpo", "beta": 0.3, "labelSmoothing": 0.2},
    "smollm2-dpo-further": {"objective": "dpo", "beta": 0.5, "reference": "start"},
    "mistral-ipo": {"objective": "dpo", "beta": 0.2, "lossType": "ipo"},
    "qwen3-orpo": {"objective": "orpo", "beta": 0.1},
    "gemma2-orpo": {"objective": "orpo", "beta": 1.0},
}
RECIPE = ref.RECIPE | {"learning_rate": 5e-3}
# Tokens of the prompt, the chosen and the rejected answer.
LENGTHS = [(3, 5, 4), (6, 2, 9), (1, 7, 7), (4, 1, 3), (2, 10, 1)]


def pairs_of(vocabulary: int, seed: int) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randint(3, vocabulary, (count,), generator=generator).tolist()
    return [dict(zip(("prompt", "chosen", "rejected"), map(draw, lengths), strict=True)) for lengths in LENGTHS]


def batch_of(pairs: list[dict[str, list[int]]]) -> ref.Batch:
    """Chosen and rejected of the first pair, those of the second, and so on."""
    examples = [pair["prompt"] + pair[side] for pair in pairs for side in ("chosen", "rejected")]
    return ref.Batch.of(examples, [len(pair["prompt"]) for pair in pairs for _ in range(2)])


def logps_of(model: torch.nn.Module, batch: ref.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of log-probabilities of the answers, [P, 2], and their numbers of tokens."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
    found = logits.log_softmax(-1).flatten(0, 1)[batch.rows, batch.next_ids]
    answer = batch.rows // batch.ids.shape[1]
    sums = torch.zeros(len(batch.ids)).index_add(0, answer, found)
    counts = torch.bincount(answer, minlength=len(batch.ids))
    return sums.view(-1, 2), counts.view(-1, 2)


def losses_of(case: dict, logps: torch.Tensor, counts: torch.Tensor, reference: torch.Tensor | None):
    """The loss of each pair, and the rewards of its answers."""
    beta = case["beta"]
    if case["objective"] == "orpo":
        mean = logps / counts
        odds = mean - torch.log1p(-mean.exp())
        ratio = -F.logsigmoid(odds[:, 0] - odds[:, 1])
        return -mean[:, 0] + beta * ratio, beta * mean
    ratios = logps - reference
    rewards = beta * ratios
    if case.get("lossType") == "ipo":
        mean = ratios / counts
        return (mean[:, 0] - mean[:, 1] - 1 / (2 * beta)) ** 2, rewards
    margin = rewards[:, 0] - rewards[:, 1]
    smoothing = case.get("labelSmoothing", 0)
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin), rewards


def trl_loss(case: dict, adapted: PeftModel, batch: ref.Batch, reference: torch.Tensor | None) -> float | None:
    """What TRL makes of it; None where it is not here or has no such loss. Of ORPO the odds' part."""
    try:
        from trl.experimental.orpo.orpo_trainer import ORPOTrainer
        from trl.trainer.dpo_trainer import DPOTrainer
        from trl.trainer.utils import add_fused_lm_head
    except ImportError:
        return None
    own = lambda tensor: tensor
    accelerator = SimpleNamespace(device="cpu", gather=own, gather_for_metrics=own, unwrap_model=own)
    if case["objective"] == "orpo":
        with torch.no_grad():
            logps, counts = logps_of(adapted, batch)
        trainer = SimpleNamespace(beta=case["beta"], accelerator=accelerator)
        losses, *_ = ORPOTrainer.odds_ratio_loss(trainer, *(logps / counts).unbind(1))
        return -losses.mean().item()
    if case.get("labelSmoothing"):
        return None  # Taken out of TRL's sigmoid loss.
    add_fused_lm_head(adapted.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    completions = torch.zeros_like(batch.ids)
    completions.view(-1)[batch.rows + 1] = 1
    # TRL has the chosen first, then the rejected.
    order = [*range(0, len(batch.ids), 2), *range(1, len(batch.ids), 2)]
    inputs = {
        "input_ids": batch.ids[order],
        "attention_mask": batch.mask[order],
        "completion_mask": completions[order],
        "ref_chosen_logps": reference[:, 0],
        "ref_rejected_logps": reference[:, 1],
    }
    trainer = SimpleNamespace(
        model=adapted,
        accelerator=accelerator,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[case.get("lossType", "sigmoid")],
        loss_weights=[1.0],
        beta=case["beta"],
        label_smoothing=0.0,
        use_weighting=False,
        _metrics={"eval": defaultdict(list), "train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    with torch.no_grad():
        return DPOTrainer._compute_loss(trainer, adapted, inputs, False).item()


def make(name: str, folder: Path, seed: int) -> None:
    case = CASES[name]
    model = name.split("-")[0]
    adapted = fx.load_adapter(model, fx.base_folder(model) / "adapter", is_trainable=True)
    pairs = pairs_of(adapted.config.vocab_size, seed)
    batch = batch_of(pairs)
    reference = None
    if case["objective"] == "dpo":
        start = case.get("reference") == "start"
        with torch.no_grad(), nullcontext() if start else adapted.disable_adapter():
            reference, _ = logps_of(adapted, batch)
    found = lambda: losses_of(case, *logps_of(adapted, batch), reference)

    losses, rewards = found()
    loss = losses.mean()
    parameters = ref.adapter_parameters(adapted)
    gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    trl = trl_loss(case, fx.load_adapter(model, fx.base_folder(model) / "adapter"), batch, reference)
    if trl is not None:
        if case["objective"] == "orpo":
            with torch.no_grad():
                logps, counts = logps_of(adapted, batch)
            trl += -(logps / counts)[:, 0].mean().item()
        assert abs(trl - loss.item()) < 1e-5 * abs(loss.item()), (trl, loss.item())
        print(f"{name}: TRL agrees")

    told: list[list[float]] = []

    def loss_of(*_) -> torch.Tensor:
        losses, rewards = found()
        told.append(rewards.detach().mean(0).tolist())
        return losses.mean()

    log = ref.train(adapted, None, RECIPE, loss_of=loss_of)
    assert log["losses"][-1] < 0.95 * log["losses"][0], "training does nothing"
    tensors = {"rewards": rewards.detach()} | fx.named_gradients(gradients)
    if reference is not None:
        tensors["reference"] = reference
    facts = {"base": model, "reference": "base", **case, "pairs": pairs, "loss": loss.item(), "recipe": RECIPE, **log}
    fx.write_expected(folder, tensors, facts | {"rewards": told})


if __name__ == "__main__":
    fx.main("fixtures-preferences", CASES, make)
