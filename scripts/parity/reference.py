"""The reference side of the parity suite: one LoRA job in plain PyTorch + PEFT, deterministic and in float32.

The make_*.py (tiny models, by way of fixtures.py) and live_smollm2.py (a real one) stand on it, so that all compare the same thing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup
from transformers.utils import logging as hf_logging

# The modules of a Llama-family layer in the order the suite walks them; a site is (layer, module).
MODULES = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)

# 20 steps on one batch; each golden file holds its own copy, learning rate added, beside the losses that it gave.
RECIPE = {
    "optimizer": "adamw",
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "lr_schedule": "cosine",
    "warmup_steps": 5,
    "steps": 20,
}


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids and the positions whose next token is supervised.

    `rows` are flat positions (row of the batch * S + position) into ids; `next_ids[i]` is the token to predict there.
    """

    ids: torch.Tensor  # [B, S] int64
    lengths: torch.Tensor  # [B]
    rows: torch.Tensor  # [N]
    next_ids: torch.Tensor  # [N]

    @property
    def mask(self) -> torch.Tensor:
        """[B, S], 1 at real tokens."""
        return (torch.arange(self.ids.shape[1]) < self.lengths[:, None]).long()

    @staticmethod
    def of(examples: list[list[int]], prompt_lengths: list[int], pad: int = 0) -> Batch:
        """Pads the examples; every token after an example's prompt is supervised."""
        size = max(map(len, examples))
        rows, next_ids = [], []
        for b, (example, prompt) in enumerate(zip(examples, prompt_lengths, strict=True)):
            for position in range(max(prompt, 1) - 1, len(example) - 1):
                rows.append(b * size + position)
                next_ids.append(example[position + 1])
        return Batch(
            ids=torch.tensor([example + [pad] * (size - len(example)) for example in examples]),
            lengths=torch.tensor([len(example) for example in examples]),
            rows=torch.tensor(rows),
            next_ids=torch.tensor(next_ids),
        )

    @staticmethod
    def read(path: Path) -> Batch:
        data = json.loads(path.read_text())
        return Batch(**{key: torch.tensor(data[key]) for key in ("ids", "lengths", "rows", "next_ids")})

    def write(self, path: Path) -> None:
        write_json(path, {key: getattr(self, key).tolist() for key in ("ids", "lengths", "rows", "next_ids")})


def be_deterministic() -> None:
    """One thread: the same sums in the same order everywhere, and no waiting for a core that is busy."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "peft")}


def write_json(path: Path, value: object) -> None:
    """JSON with one line for each top-level key: small, and still readable in a diff."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items())
    path.write_text("{\n" + lines + "\n}\n")


def load(folder: Path, **more) -> torch.nn.Module:
    """The model of a Hugging Face folder in float32 with eager attention."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **more)
    return model.eval()


@torch.no_grad()
def logits_of(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """[B, S, V]; zero at the padding, where logits mean nothing."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
    return logits * batch.mask[:, :, None]


def supervised_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the supervised positions."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
    return F.cross_entropy(logits.flatten(0, 1)[batch.rows], batch.next_ids)


def file_name(parameter: str) -> str:
    """A parameter's name in the adapter's file."""
    if ".lora_magnitude_vector." in parameter:
        return parameter.removesuffix(".default.weight")
    return parameter.replace(".modules_to_save.default", "").replace(".default", "")


def adapter_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """What an adapter trains, by the names in adapter_model.safetensors."""
    return {file_name(name): parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradients_of(model: torch.nn.Module, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and its gradient for everything that the adapter trains."""
    parameters = adapter_parameters(model)
    loss = supervised_loss(model, batch)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return loss.item(), dict(zip(parameters, gradients, strict=True))


def train(
    model: torch.nn.Module,
    batch: Batch,
    recipe: dict,
    optimizer: torch.optim.Optimizer | None = None,
    penalty: Callable[[], torch.Tensor] | None = None,
    after: Callable[[int], None] = lambda step: None,
    loss_of: Callable[[torch.nn.Module, object], torch.Tensor] = supervised_loss,
) -> dict[str, list[float]]:
    """The recipe's steps on one batch; the loss, gradient norm (before clipping) and learning rate of every step.

    Changes the adapter in place. `optimizer` stands in for plain AdamW; `penalty` is added to what is minimized, and logged
    apart; `after` is called after the optimizer's step with how many are done, the gradients still there.
    """
    parameters = list(adapter_parameters(model).values())
    optimizer = optimizer or torch.optim.AdamW(
        parameters,
        lr=recipe["learning_rate"],
        betas=tuple(recipe["betas"]),
        eps=recipe["eps"],
        weight_decay=recipe["weight_decay"],
        foreach=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, recipe["warmup_steps"], recipe["steps"])
    log = {"losses": [], "grad_norms": [], "learning_rates": []} | ({"penalties": []} if penalty else {})
    for step in range(1, recipe["steps"] + 1):
        loss = loss_of(model, batch)
        total = loss
        if penalty:
            added = penalty()
            total = loss + added
            log["penalties"].append(added.item())
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe["max_grad_norm"], foreach=False)
        log["losses"].append(loss.item())
        log["grad_norms"].append(norm.item())
        log["learning_rates"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        after(step)
        optimizer.zero_grad()
    return log


@torch.no_grad()
def greedy(model: torch.nn.Module, prompt: list[int], count: int) -> tuple[list[int], float]:
    """`count` tokens without a cache, and the smallest lead of a winner over the second-best logit."""
    ids, lead = list(prompt), float("inf")
    for _ in range(count):
        top = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2)
        lead = min(lead, (top.values[0] - top.values[1]).item())
        ids.append(int(top.indices[0]))
    return ids[len(prompt) :], lead


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """|value - reference| / |reference| by the Euclidean norm, in float64."""
    value, reference = value.double(), reference.double()
    return ((value - reference).norm() / reference.norm()).item()
