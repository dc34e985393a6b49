"""Mixtures of experts as transformers 4 had them, a linear layer for each matrix: what adapters of single experts are for.

transformers 5 stacks the matrices of all experts into two tensors, which PEFT adapts with `target_parameters`. Adapter files of
single experts, the names of which are those of checkpoints, it still reads: it turns them into that form.
"""

from __future__ import annotations

import torch
from peft import PeftModel

# What checkpoints call the block of experts, and gate, up and down of each.
NAMES = {
    "mixtral": ("block_sparse_moe", ("w1", "w3", "w2")),
    "qwen3_moe": ("mlp", ("gate_proj", "up_proj", "down_proj")),
}


class Expert(torch.nn.Module):
    def __init__(self, gate_up: torch.Tensor, down: torch.Tensor, activation, names: tuple[str, str, str]):
        super().__init__()
        self.names, self.activation = names, activation
        for name, weight in zip(names, (*gate_up.chunk(2, dim=0), down), strict=True):
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            layer.weight = torch.nn.Parameter(weight.clone())
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(self.activation(gate(x)) * up(x))


class Experts(torch.nn.ModuleList):
    """What the router sends each token to, in the signature of transformers' own module."""

    def forward(self, x: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for number, expert in enumerate(self):
            tokens, places = torch.where(chosen == number)
            if len(tokens):
                total.index_add_(0, tokens, expert(x[tokens]) * shares[tokens, places, None])
        return total


def as_modules(model: torch.nn.Module) -> torch.nn.Module:
    """The model with a linear layer for each matrix of each expert, in place; one without experts as it is."""
    if model.config.model_type not in NAMES:
        return model
    block, names = NAMES[model.config.model_type]
    for layer in model.model.layers:
        stacked = getattr(layer.mlp, "experts", None)
        if stacked is None:
            continue
        pairs = zip(stacked.gate_up_proj.detach(), stacked.down_proj.detach(), strict=True)
        layer.mlp.experts = Experts(Expert(gate_up, down, stacked.act_fn, names) for gate_up, down in pairs)
        if block != "mlp":
            setattr(layer, block, layer.mlp)
            del layer.mlp
            layer.__class__ = type("Layer", (type(layer),), {"mlp": property(lambda self: getattr(self, block))})
    # PEFT turns targets and files of the types that it knows into those of stacked matrices.
    model.config.model_type += "_by_modules"
    return model.eval()


def are_in_all_layers(config) -> bool:
    """Whether PEFT 0.21.2 reads adapters of single experts whole: beside experts it passes over those of MLPs."""
    return config.model_type in NAMES and getattr(config, "decoder_sparse_step", 1) == 1


def read_by_peft(model: torch.nn.Module, folder) -> PeftModel:
    """transformers' own model, its matrices stacked, with an adapter of single experts as PEFT reads it."""
    return PeftModel.from_pretrained(model, folder).eval()
