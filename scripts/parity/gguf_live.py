"""A GGUF file converted by lowrank, against transformers' own reading of the same file.

    npm run build
    python scripts/parity/gguf_live.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf

The small fixtures first: their folders load in transformers without a missing or foreign tensor, and the Rust
tokenizer gives the ids of the goldens. Then the file given: checks that the converted folder loads in transformers, that every tensor is equal bit for bit, that the logits are,
and that its tokenizer gives the ids of src/formats/gguf/fixtures/smollm2.json. Needs torch, transformers and gguf.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "src" / "formats" / "gguf" / "fixtures"

CONVERT = """
import { ggufToHf } from './dist/formats/gguf/tohf.js';
const [from, to] = process.argv.slice(1);
await ggufToHf(from, to);
"""


def convert(path, folder):
    command = ["node", "--input-type=module", "-e", CONVERT, str(path), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)


def check_fixture(name):
    golden = json.loads((FIXTURES / f"{name}.json").read_text())
    with tempfile.TemporaryDirectory() as base:
        folder = pathlib.Path(base) / "model"
        convert(FIXTURES / f"{name}.gguf", folder)
        _, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for text, ids in golden["tokens"]:
            assert tokenizer(text).input_ids == ids, (name, text, tokenizer(text).input_ids, ids)
    print(f"{name}: loads, {len(golden['tokens'])} strings have equal ids")


def check_real(path):
    golden = json.loads((FIXTURES / "smollm2.json").read_text())
    with tempfile.TemporaryDirectory() as base:
        folder = pathlib.Path(base) / "model"
        convert(path, folder)
        ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
        state = theirs.state_dict()
        assert ours.state_dict().keys() == state.keys()
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, state[name]), name
        print(f"{len(state)} tensors are equal")

        tokenizer = AutoTokenizer.from_pretrained(folder)
        for text, ids in golden["tokens"]:
            assert tokenizer(text).input_ids == ids, (text, tokenizer(text).input_ids, ids)
            assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text, text
        print(f"{len(golden['tokens'])} strings have equal ids")
        message = [{"role": "user", "content": "What is the capital of France?"}]
        theirs_tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        texts = [t.apply_chat_template(message, tokenize=False) for t in (tokenizer, theirs_tokenizer)]
        assert texts[0] == texts[1] and "<|im_start|>user\nWhat" in texts[0]
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            assert getattr(tokenizer, name) == getattr(theirs_tokenizer, name), name
            assert getattr(ours.generation_config, name) == getattr(tokenizer, name), name

        tokens = torch.tensor([tokenizer(golden["prompt"]).input_ids])
        with torch.no_grad():
            logits = [model(tokens).logits for model in (ours, theirs)]
        assert torch.equal(*logits)
        print(f"logits of {tokens.shape[1]} positions are equal; next token {tokenizer.decode(logits[0][0, -1].argmax())!r}")


if __name__ == "__main__":
    for name in ("llama-bpe", "llama-spm", "qwen2", "qwen3"):
        check_fixture(name)
    check_real(pathlib.Path(sys.argv[1]))
