"""PEFT adapter folders: written by PEFT and read by lowrank, and the other way round, tensor for tensor.

    npm run build
    python scripts/parity/peft_roundtrip.py            # the check, with the installed PEFT
    python scripts/parity/peft_roundtrip.py --fixture  # remake src/formats/fixtures/peft

Needs torch, transformers and peft (scripts/parity/requirements.txt).
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import peft
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "src" / "formats" / "fixtures" / "peft"

REWRITE = """
import { readAdapter, writeAdapter } from './dist/formats/peft.js';
const [from, to] = process.argv.slice(1);
const { config, tensors } = await readAdapter(from);
await writeAdapter(to, config, tensors);
"""


def tiny_llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return LlamaForCausalLM(config).eval()


CASES = {
    "fixture": dict(
        r=2,
        lora_alpha=6,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 3},
        alpha_pattern={"down_proj": 5},
        layers_to_transform=[0, 1],
    ),
    "all_linear": dict(r=4, lora_alpha=4, lora_dropout=0.1, target_modules="all-linear", use_rslora=True),
    "gaussian": dict(r=1, target_modules=r".*\.(k|v)_proj", init_lora_weights="gaussian"),
}


def save_with_peft(folder, case, dtype=torch.float32):
    model = peft.get_peft_model(tiny_llama(), peft.LoraConfig(task_type="CAUSAL_LM", **CASES[case]))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter).to(dtype)
    model.save_pretrained(folder)
    return model


def check(case, dtype):
    with tempfile.TemporaryDirectory() as base:
        ours, theirs = pathlib.Path(base) / "ours", pathlib.Path(base) / "theirs"
        model = save_with_peft(theirs, case, dtype)
        subprocess.run(
            ["node", "--input-type=module", "-e", REWRITE, str(theirs), str(ours)], cwd=ROOT, check=True
        )
        before, after = (load_file(folder / "adapter_model.safetensors") for folder in (theirs, ours))
        assert before.keys() == after.keys() and len(before) > 0
        for name, tensor in before.items():
            assert after[name].dtype == torch.float32 and torch.equal(tensor.float(), after[name]), name
        if dtype == torch.float32:
            names = [folder / "adapter_model.safetensors" for folder in (theirs, ours)]
            assert names[0].read_bytes() == names[1].read_bytes()

        loaded = peft.PeftModel.from_pretrained(tiny_llama(), ours).eval()
        state = loaded.state_dict()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor.float(), state[name].float()), name
        written, original = (peft.LoraConfig.from_pretrained(folder).to_dict() for folder in (ours, theirs))
        assert written == original, {k: (written[k], original[k]) for k in written if written[k] != original[k]}
        if dtype == torch.float32:
            tokens = torch.arange(10)[None]
            assert torch.equal(model.eval()(tokens).logits, loaded(tokens).logits)
        print(f"{case} {str(dtype).removeprefix('torch.')}: {len(before)} tensors agree")


def make_fixture():
    save_with_peft(FIXTURE, "fixture")
    (FIXTURE / "README.md").unlink(missing_ok=True)
    path = FIXTURE / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"] = sorted(config["target_modules"])  # PEFT writes a set, in any order
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    expected = {
        name: {"shape": list(tensor.shape), "data": tensor.flatten().tolist()}
        for name, tensor in sorted(load_file(FIXTURE / "adapter_model.safetensors").items())
    }
    (FIXTURE / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{FIXTURE} made with peft {peft.__version__}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fixture", action="store_true")
    if parser.parse_args().fixture:
        make_fixture()
    else:
        for case in CASES:
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                check(case, dtype)
