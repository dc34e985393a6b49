"""Parameters of models that `lowrank plan` counts by their shape, as transformers makes them on the meta device.

usage: .venv/bin/python scripts/parity/make_shape_fixtures.py      (writes src/analysis/plan/fixtures/shapes.json)
"""

import json
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]


def gpt2(layers, heads, d):
    return dict(n_layer=layers, n_head=heads, n_embd=d, vocab_size=50257, n_positions=1024)


def roberta(layers, heads, d):
    return dict(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_hidden_layers=layers,
        num_attention_heads=heads, hidden_size=d, intermediate_size=4 * d,
    )


DEBERTA = dict(
    vocab_size=128100, max_position_embeddings=512, type_vocab_size=0, num_hidden_layers=48, num_attention_heads=24,
    hidden_size=1536, intermediate_size=6144, relative_attention=True, position_buckets=256, position_biased_input=False,
    share_att_key=True, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm", conv_kernel_size=3,
)


def llama(layers, heads, d, inner, kv, vocab=32000, tied=False):
    return dict(
        vocab_size=vocab, max_position_embeddings=4096, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, hidden_size=d, intermediate_size=inner, tie_word_embeddings=tied,
    )


CASES = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", gpt2(12, 12, 768)),
    "gpt2-medium": ("GPT2LMHeadModel", "GPT2Config", gpt2(24, 16, 1024)),
    "gpt2-large": ("GPT2LMHeadModel", "GPT2Config", gpt2(36, 20, 1280)),
    "gpt3": ("GPT2LMHeadModel", "GPT2Config", {**gpt2(96, 96, 12288), "n_positions": 2048}),
    "roberta-base": ("RobertaModel", "RobertaConfig", roberta(12, 12, 768)),
    "roberta-large": ("RobertaModel", "RobertaConfig", roberta(24, 16, 1024)),
    "deberta-xxl": ("DebertaV2Model", "DebertaV2Config", DEBERTA),
    "llama-7b": ("LlamaForCausalLM", "LlamaConfig", llama(32, 32, 4096, 11008, 32)),
    "llama-13b": ("LlamaForCausalLM", "LlamaConfig", llama(40, 40, 5120, 13824, 40)),
    "llama-70b": ("LlamaForCausalLM", "LlamaConfig", llama(80, 64, 8192, 28672, 8)),
    "llama-3-8b": ("LlamaForCausalLM", "LlamaConfig", llama(32, 32, 4096, 14336, 8, 128256)),
    "llama-3-1b": ("LlamaForCausalLM", "LlamaConfig", llama(16, 32, 2048, 8192, 8, 128256, True)),
    "mistral-7b": ("MistralForCausalLM", "MistralConfig", llama(32, 32, 4096, 14336, 8)),
}
# Further shapes of the same classes, small, to try the keys.
SMALL = {
    "bert": ("BertModel", "BertConfig", {**roberta(3, 4, 64), "type_vocab_size": 2, "vocab_size": 1000}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**gpt2(2, 4, 64), "n_inner": 96}),
    "deberta-v2": (
        "DebertaV2Model", "DebertaV2Config",
        {**DEBERTA, "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128,
         "vocab_size": 500, "share_att_key": False, "position_biased_input": True, "type_vocab_size": 2,
         "conv_kernel_size": 0, "position_buckets": -1, "max_relative_positions": -1, "norm_rel_ebd": "none"},
    ),
}


def count(model_class, config_class, keys):
    config = getattr(transformers, config_class)(**keys)
    with torch.device("meta"):
        model = getattr(transformers, model_class)(config)
    return dict(
        config={"model_type": config.model_type, **keys},
        parameters=sum(p.numel() for p in model.parameters()),
        biases=sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias")),
    )


def main():
    fixture = dict(
        transformers=transformers.__version__,
        builtIn={name: count(*case) for name, case in CASES.items()},
        small=[count(*case) for case in SMALL.values()],
    )
    path = ROOT / "src/analysis/plan/fixtures/shapes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fixture, indent=1) + "\n")
    for name, case in fixture["builtIn"].items():
        print(name, f"{case['parameters']:,}")


main()
