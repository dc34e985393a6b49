"""Goldens for src/formats/gguf, made by other people's code: llama.cpp's gguf package, transformers, tokenizers
and sentencepiece. Needs those packages, torch and safetensors (scripts/parity/requirements.txt, plus gguf and
sentencepiece).

    python scripts/parity/gguf_goldens.py                 # the small fixtures
    python scripts/parity/gguf_goldens.py path/to/SmolLM2-135M-Instruct.Q4_1.gguf   # and those of the real model

Versions that made what is committed: gguf 0.19.0, transformers 5.23.0, tokenizers 0.23.3, sentencepiece 0.2.3.
"""

import hashlib
import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "src" / "formats" / "gguf" / "fixtures"

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's 12345 o'clock, isn't it?",
    "def add(a, b):\n    return a + b  # the sum\n\n\nprint(add(1, 22))\n",
    "Ünïcödé: naïve café, Ελλάδα, Россия, 日本語, 한국어, العربية, हिन्दी, 😀👩‍👩‍👧.",
    "the there then this that these those  and   or    not\t\tnever",
] * 4

STRINGS = [
    "",
    " ",
    "  two",
    "a  1",
    "x = 10 ** 2;  # 100\n\n\n  y\t=\t-3.14e-5\r\n",
    "Hello, World! It's what they'll say: I'M, you'Re.",
    "日本語のテキスト and 한국어, with e\u0301 and é, ﬁ ligatures",
    "😀👩‍👩‍👧 flags 🇩🇪 \u200b zero\u00a0width",
    "12345 1,234.50 ²³ ½ ٣٤ Ⅷ",
    "trailing space ",
    " \n \n  mixed \n",
    "<s>not special? </s> <|end|><|user|>hi",
    "the    there\nthen",
]


def random_blocks(rng, name, count):
    """Any bytes make blocks, as long as their scales are numbers."""
    elements, size = gguf.GGML_QUANT_SIZES[Type[name]]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    scales = {"Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q4_1": [0, 2], "Q5_1": [0, 2]}.get(name, [0])
    for at in scales if elements > 1 else []:
        blocks[:, at : at + 2] = rng.normal(0, 0.1, (count, 1)).astype(np.float16).view(np.uint8)
    return blocks


def quantize(rng, values, kind):
    """The gguf package makes no K-quants, it only reads them: those of a matrix whose rows have whole blocks are random."""
    rows, columns = values.shape if values.ndim == 2 else (1, len(values))
    if kind.name.endswith("_K") and columns % 256 == 0:
        return random_blocks(rng, kind.name, rows * columns // 256).reshape(rows, -1), kind
    kind = Type.Q8_0 if kind.name.endswith("_K") else kind
    return gguf.quantize(values, kind), kind


def dequantization():
    rng = np.random.default_rng(0)
    out = {}
    for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
        elements, _ = gguf.GGML_QUANT_SIZES[Type[name]]
        blocks = random_blocks(rng, name, 512 // elements)
        if elements == 1:
            kind = {"F32": np.float32, "F16": np.float16, "BF16": np.float32}[name]
            values = rng.normal(0, 1, (512, 1)).astype(kind)
            blocks = values.view(np.uint8) if name != "BF16" else values.view(np.uint8)[:, 2:].copy()
        out[f"{name}.blocks"] = np.ascontiguousarray(blocks.reshape(-1))
        out[f"{name}.values"] = gguf.dequantize(blocks, Type[name]).astype(np.float32).reshape(-1)
    save_file(out, FIXTURES / "dequant.safetensors")


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
# As tokenizer.json of Mistral-Nemo has it; llama.cpp calls it tekken.
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split_by(pattern):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def train_bpe(pre_tokenizer, normalizer=None, specials=("<|begin|>", "<|end|>", "<|user|>")):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(specials) + 64, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def write_bpe(writer, tokenizer, pre, specials=3):
    state = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL] * specials + [gguf.TokenType.NORMAL] * (len(tokens) - specials)
    kinds[2] = gguf.TokenType.USER_DEFINED  # <|user|>
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in state["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    return len(tokens)


def permute(weight, heads):
    """As llama.cpp's convert_hf_to_gguf.py stores q and k of Llama models."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_model(writer, architecture, model, kinds):
    """Adds metadata and tensors; returns the values that dequantization should give, under Hugging Face's names."""
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    expected = {}
    rng = np.random.default_rng(0)
    for i, (name, tensor) in enumerate(model.state_dict().items()):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = tensor.float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        owner = name.split(".")[-2]
        permuted = architecture == "llama" and owner in heads
        stored = permute(weight, heads[owner]) if permuted else weight
        data, kind = quantize(rng, stored, kinds[i % len(kinds)] if weight.ndim == 2 else Type.F32)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), data, raw_dtype=kind)
        values = gguf.dequantize(data, kind)
        if permuted:  # by hand, row by row, so that this does not repeat the formula that it checks
            size = len(values) // heads[owner]
            back = np.empty_like(values)
            for head in range(heads[owner]):
                for half in range(2):
                    for j in range(size // 2):
                        back[head * size + half * size // 2 + j] = values[head * size + 2 * j + half]
            values = back
        expected[name] = values
    return expected


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float32).tobytes()).hexdigest()[:16]


def finish(name, writer, expected, encode, config, strings=STRINGS):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    golden = {
        "config": config,
        "tensors": {k: [list(v.shape), digest(v)] for k, v in sorted(expected.items())},
        "tokens": [[text, encode(text)] for text in strings],
    }
    path = FIXTURES / f"{name}.json"
    path.write_text(json.dumps(golden, indent=1, ensure_ascii=True) + "\n")


def shape(vocab, **more):
    sizes = dict(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    return sizes | more


def wanted(config, *keys):
    common = ["model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    common += ["num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings"]
    return {key: getattr(config, key) for key in [*common, *keys]} | {"rope_theta": config.rope_parameters["rope_theta"]}


def llama():
    torch.manual_seed(0)
    name = "llama-bpe"
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", "llama")
    tokenizer = train_bpe(split_by(LLAMA3))
    vocab = write_bpe(writer, tokenizer, "llama-bpe")
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")
    scaling = dict(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
        rope_theta=500000.0,
    )
    config = LlamaConfig(**shape(vocab, rms_norm_eps=1e-5, tie_word_embeddings=False, max_position_embeddings=131072, rope_parameters=scaling))
    model = LlamaForCausalLM(config)
    expected = write_model(writer, "llama", model, [Type.Q8_0, Type.Q5_1, Type.Q4_0])
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    plain = 1.0 / (500000.0 ** (torch.arange(0, 8, 2, dtype=torch.float32) / 8))
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy().astype(np.float32))
    writer.add_rope_dimension_count(8)

    state = json.loads(tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    oracle = Tokenizer.from_str(json.dumps(state))
    oracle.add_special_tokens(["<|begin|>", "<|end|>"])
    oracle.add_tokens(["<|user|>"])
    oracle.post_processor = processors.TemplateProcessing("<|begin|> $A", "<|begin|> $A <|begin|>:1 $B:1", [("<|begin|>", 0)])
    scaling = {key: value for key, value in scaling.items() if key != "rope_theta"}
    finish(name, writer, expected, lambda t: oracle.encode(t).ids, wanted(config) | {"rope_scaling": scaling, "head_dim": 8})


def llama_tekken():
    """Half precision throughout, as models are before they are quantized; a head size of its own; named templates."""
    torch.manual_seed(4)
    name = "llama-tekken"
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", "llama")
    tokenizer = train_bpe(split_by(TEKKEN))
    vocab = write_bpe(writer, tokenizer, "tekken")
    writer.add_chat_template(
        [{"name": "default", "template": "{{ messages[0].content }}"}, {"name": "tool_use", "template": "{{ tools | length }}"}]
    )
    config = LlamaConfig(**shape(vocab, rms_norm_eps=1e-5, tie_word_embeddings=False, head_dim=16))
    expected = write_model(writer, "llama", LlamaForCausalLM(config), [Type.F16])
    state = json.loads(tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    oracle = Tokenizer.from_str(json.dumps(state))
    oracle.add_special_tokens(["<|begin|>", "<|end|>"])
    oracle.add_tokens(["<|user|>"])
    oracle.post_processor = processors.TemplateProcessing("<|begin|> $A", "<|begin|> $A <|begin|>:1 $B:1", [("<|begin|>", 0)])
    strings = [*STRINGS, "camelCaseWords XMLHttpRequest iPhone ÄpfelUndBirnen", "a/b//c\n/ ... ///\n", "日本語ABCdef Ⅷ ǅungla"]
    finish(name, writer, expected, lambda t: oracle.encode(t).ids, wanted(config, "head_dim") | {"rope_scaling": None}, strings)


def llama_kquants():
    torch.manual_seed(5)
    name = "llama-kquants"
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", "llama")
    oracle = train_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    vocab = write_bpe(writer, oracle, "gpt-2")
    oracle.add_tokens(["<|user|>"])
    sizes = shape(vocab, hidden_size=256, head_dim=32, num_attention_heads=1, num_key_value_heads=1, intermediate_size=32)
    config = LlamaConfig(**sizes, tie_word_embeddings=True)
    expected = write_model(writer, "llama", LlamaForCausalLM(config), [Type.Q4_K, Type.Q5_K, Type.Q6_K])
    finish(name, writer, expected, lambda t: oracle.encode(t).ids, wanted(config, "head_dim") | {"rope_scaling": None})


def qwen2():
    torch.manual_seed(1)
    name = "qwen2"
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", "qwen2")
    oracle = train_bpe(split_by(QWEN2), normalizers.NFC())
    vocab = write_bpe(writer, oracle, "qwen2")
    writer.add_add_bos_token(False)
    oracle.add_tokens(["<|user|>"])
    config = Qwen2Config(**shape(vocab, tie_word_embeddings=True))
    model = Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    expected = write_model(writer, "qwen2", model, [Type.Q4_1, Type.F16, Type.Q5_0])
    finish(name, writer, expected, lambda t: oracle.encode(t).ids, wanted(config) | {"rope_scaling": None, "head_dim": 8})


def qwen3():
    torch.manual_seed(2)
    name = "qwen3"
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", "qwen3")
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    oracle = train_bpe(digits)
    vocab = write_bpe(writer, oracle, "smollm")
    oracle.add_tokens(["<|user|>"])
    config = Qwen3Config(**shape(vocab, head_dim=16, tie_word_embeddings=True))
    model = Qwen3ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    expected = write_model(writer, "qwen3", model, [Type.Q8_0, Type.BF16])
    finish(name, writer, expected, lambda t: oracle.encode(t).ids, wanted(config, "head_dim") | {"rope_scaling": None})


def llama_spm():
    torch.manual_seed(3)
    name = "llama-spm"
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(line for text in CORPUS for line in text.splitlines() if line),
            model_prefix=f"{folder}/m",
            model_type="bpe",
            vocab_size=420,
            byte_fallback=True,
            character_coverage=0.98,
            remove_extra_whitespaces=False,
            normalization_rule_name="identity",
            split_digits=True,
            user_defined_symbols=["<|user|>"],
            minloglevel=2,
        )
        oracle = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")
    writer = gguf.GGUFWriter(FIXTURES / f"{name}.gguf", "llama")
    size = oracle.get_piece_size()
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([oracle.id_to_piece(i) for i in range(size)])
    writer.add_token_scores([oracle.get_score(i) for i in range(size)])
    kinds = []
    for i in range(size):
        kind = gguf.TokenType.NORMAL
        if oracle.is_unknown(i):
            kind = gguf.TokenType.UNKNOWN
        elif oracle.is_control(i):
            kind = gguf.TokenType.CONTROL
        elif oracle.is_byte(i):
            kind = gguf.TokenType.BYTE
        elif oracle.id_to_piece(i) == "<|user|>":
            kind = gguf.TokenType.USER_DEFINED
        kinds.append(kind)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(oracle.bos_id())
    writer.add_eos_token_id(oracle.eos_id())
    writer.add_unk_token_id(oracle.unk_id())
    config = LlamaConfig(**shape(size, tie_word_embeddings=True))
    expected = write_model(writer, "llama", LlamaForCausalLM(config), [Type.Q4_0])

    def encode(text):
        return [oracle.bos_id(), *oracle.encode(text)]

    # sentencepiece takes "<s>" in a text for three letters, Hugging Face for the token.
    plain = [text for text in STRINGS if "<" not in text]
    finish(name, writer, expected, encode, wanted(config) | {"rope_scaling": None, "head_dim": 8}, plain)


def smollm2(path):
    """The real model, by transformers' own GGUF loader; its tokenizer with the split that SmolLM2 really has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, file = path.parent, path.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    tensors = {k: v.numpy() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    backend = tokenizer.backend_tokenizer
    gpt2_split = [backend.encode(text).ids for text in real_strings()]
    # transformers 5.23 does not know tokenizer.ggml.pre = smollm and splits as GPT-2 does; the model's own
    # tokenizer.json (and llama.cpp) puts each digit apart first.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    ids = [backend.encode(text).ids for text in real_strings()]
    differ = sum(a != b for a, b in zip(ids, gpt2_split))
    print(f"{len(tensors)} tensors, {len(ids)} strings ({differ} split otherwise by transformers)")
    with torch.no_grad():
        logits = model(torch.tensor([backend.encode(PROMPT).ids])).logits[0, -1]
    golden = {
        "tensors": {k: [list(v.shape), digest(v)] for k, v in sorted(tensors.items())},
        "tokens": [[text, row] for text, row in zip(real_strings(), ids)],
        "prompt": PROMPT,
        "logits": [round(x, 5) for x in logits[:16].tolist()],
        "argmax": int(logits.argmax()),
    }
    (FIXTURES / "smollm2.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")


PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


def real_strings():
    """A few hundred strings: prose, code, scripts, digits and white space, by a fixed seed."""
    rng = np.random.default_rng(7)
    parts = [
        *"the quick Brown fox's can't WE'LL naïve café Ελλάδα Россия 日本語 한국어 العربية हिन्दी עברית ไทย".split(),
        *["😀", "👩‍👩‍👧", "🇩🇪", "e\u0301", "ﬁ", "\u00a0", "\u200b", "\ufeff", "½", "²", "٣", "Ⅷ", "一二三", "\u3000"],
        *["0", "7", "42", "123", "1234567890", "3.14", "1e-5", "0xFF", "10,000"],
        *[" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "        "],
        *["def f(x):", "return x ** 2", "{", "}", "();", "!=", "=>", "//", "# !", "'s", "'S", '"', "\\n", "...", "—", "“”"],
        *["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<jupyter_code>", "<|im_", "</s>"],
    ]
    out = [*STRINGS, PROMPT, *parts]
    while len(out) < 400:
        count = int(rng.integers(2, 9))
        glue = str(rng.choice(["", " ", ""]))
        out.append(glue.join(parts[int(i)] for i in rng.integers(0, len(parts), count)))
    return out


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    dequantization()
    llama()
    llama_tekken()
    llama_kquants()
    qwen2()
    qwen3()
    llama_spm()
    if len(sys.argv) > 1:
        smollm2(pathlib.Path(sys.argv[1]))
