"""Safetensors files written by hand: headers as a test wants them, data of zeros."""

from __future__ import annotations

import json
from pathlib import Path

BYTES = {"F64": 8, "F32": 4, "BF16": 2, "I32": 4, "U8": 1}


def entries_of(tensors: dict[str, tuple[str, list[int]]]) -> tuple[dict[str, object], int]:
    """Return the header of `{name: (dtype, shape)}` and how many bytes of data it speaks of."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for each in shape:
            size *= each
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return header, end


def write_header(path: Path, header: object, data: int = 0) -> Path:
    """Write a header, JSON text or bytes as they are, and `data` bytes behind it."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + data)  # sparse: gigabytes cost nothing
    return path


def write_model(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> Path:
    """Write a sound file of `{name: (dtype, shape)}`."""
    return write_header(path, *entries_of(tensors))


def small_llama(layers: int = 2) -> dict[str, tuple[str, list[int]]]:
    """Return the tensors of a language model: 16 wide, 8 for values, 32 tokens."""
    tensors = {"model.embed_tokens.weight": ("F32", [32, 16])}
    for layer in range(layers):
        start = f"model.layers.{layer}"
        tensors |= {
            f"{start}.self_attn.q_proj.weight": ("F32", [16, 16]),
            f"{start}.self_attn.v_proj.weight": ("F32", [8, 16]),
            f"{start}.self_attn.v_proj.bias": ("F32", [8]),
            f"{start}.input_layernorm.weight": ("F32", [16]),
        }
    return tensors | {"lm_head.weight": ("F32", [32, 16])}


def small_gpt2() -> dict[str, tuple[str, list[int]]]:
    """Return the tensors of a GPT-2 without its norms: 16 wide, two layers, 32 tokens."""
    names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    return {"wte.weight": ("F32", [32, 16])} | {
        f"h.{layer}.{name}.weight": ("F32", [16, 16]) for layer in range(2) for name in names
    }
