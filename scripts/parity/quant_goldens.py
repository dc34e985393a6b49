"""Golden of src/formats/quant/nf4.test.ts, made by bitsandbytes on the CPU: NF4 codes and their doubly quantized scales.

    python scripts/parity/quant_goldens.py

Needs torch, safetensors and bitsandbytes (0.50.2 made what is committed).
"""

import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

FIXTURE = pathlib.Path(__file__).resolve().parents[2] / "src" / "formats" / "quant" / "fixtures" / "nf4.safetensors"
ROWS, COLUMNS, BLOCK = 150, 128, 64


def weights():
    """Rows of many scales, some bfloat16 values, an outlier, zeros, and values halfway between two levels."""
    torch.manual_seed(0)
    w = torch.randn(ROWS, COLUMNS) * torch.logspace(-4, 0, ROWS).view(-1, 1)
    w[50:100] = w[50:100].bfloat16().float()
    w[3, 5] = 40.0
    w[7] = 0
    level = bnb.get_4bit_type("nf4", device="cpu")
    w[9, :15] = (level[:-1] + level[1:]) / 2
    w[9, 15:64] = 0
    w[9, 15] = 1
    return w


def nearest(rest, absmax, code):
    """The codes that bitsandbytes' default and CUDA kernels choose. Its CPU kernel reads them off a coarser table and is
    one step beside the nearest at a few borders."""
    whole = len(rest) // 256 * 256
    scaled = torch.cat([rest[:whole] * (1.0 / absmax).repeat_interleave(256)[:whole], rest[whole:] / absmax[-1]])
    return torch.bucketize(scaled, (code[:-1] + code[1:]) / 2).to(torch.uint8)


w = weights()
codes, state = bnb.quantize_4bit(w, blocksize=BLOCK, quant_type="nf4", compress_statistics=True)
plain, single = bnb.quantize_4bit(w, blocksize=BLOCK, quant_type="nf4")
assert torch.equal(codes, plain)
state.absmax = nearest(single.absmax - state.offset, state.state2.absmax, state.state2.code)
save_file(
    {
        "weights": w,
        "codes": codes.reshape(-1),
        "absmax": single.absmax,
        "absmax_codes": state.absmax,
        "nested_absmax": state.state2.absmax,
        "offset": state.offset.reshape(1),
        "dynamic_map": state.state2.code,
        "dequantized": bnb.dequantize_4bit(codes, state)[:16].contiguous(),
    },
    FIXTURE,
)
