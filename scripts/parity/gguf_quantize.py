"""Values, and the blocks that llama.cpp's gguf package makes of them: src/formats/gguf/fixtures/quantize.safetensors.

    .venv/bin/python scripts/parity/gguf_quantize.py
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "src" / "formats" / "gguf" / "fixtures"


def values() -> np.ndarray:
    """Random blocks, and blocks that are all zero, small, large, of one value, of two extremes, and of halves of a step."""
    rng = np.random.default_rng(0)
    blocks = rng.normal(0, 1, (96, 32)) * np.exp(rng.normal(0, 2, (96, 1)))
    ramp = np.arange(32) - 16
    special = [
        np.zeros(32),
        ramp * 1e-9,
        ramp * 1e-30,
        ramp * 3e4,
        np.full(32, -0.25),
        np.where(ramp % 2 == 0, 1.0, -1.0),
        np.concatenate([[127], ramp[1:] + 0.5]),
        np.concatenate([[-8], (ramp[1:] + 0.5) / 2]),
    ]
    return np.concatenate([blocks, np.array(special)]).astype(np.float32)


def main() -> None:
    given = values()
    out = {"values": given.reshape(-1)}
    for kind in ("Q8_0", "Q4_0"):
        out[kind] = gguf.quantize(given, Type[kind]).reshape(-1)
    save_file(out, FIXTURES / "quantize.safetensors")


if __name__ == "__main__":
    main()
