"""List the weights of a few well-known models: names and shapes, as their files have them."""

from __future__ import annotations

from typing import NamedTuple

from adalora_core.checker.plan.header import TensorInfo
from adalora_core.checker.plan.modules import BaseModel, Module

Shapes = dict[str, tuple[int, ...]]
_MATRIX = 2
_TABLES = {"embeddings", "rel_embeddings", "wte", "wpe", "embed_tokens"}
"""Parts of names of weights that are a lookup table, not a linear map."""


class Shape(NamedTuple):
    """A model: its name, transformers' type, the number of layers, and the shapes of its weights.

    In the names of `layer`, `{}` is the number of the layer.
    """

    name: str
    model_type: str
    layers: int
    outside: Shapes
    layer: Shapes

    def tensors(self) -> Shapes:
        """Return the shape of every tensor by its name."""
        return self.outside | {
            name.format(number): shape
            for number in range(self.layers)
            for name, shape in self.layer.items()
        }

    def model(self) -> BaseModel:
        """Return the model for `adalora plan`."""
        shapes = self.tensors()
        tensors = {name: TensorInfo("F32", shape) for name, shape in shapes.items()}
        modules = {}
        for name, shape in shapes.items():
            path, _, last = name.rpartition(".")
            if last == "weight" and len(shape) == _MATRIX and not _TABLES & {*path.split(".")}:
                outputs, inputs = shape
                if shapes.get(f"{path}.bias") == (inputs,) != (outputs,):
                    outputs, inputs = shape[::-1]  # transformers' Conv1D
                modules[path] = Module(path, "linear", inputs, outputs, "F32")
        return BaseModel(tensors, modules, self.model_type)


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _conv1d(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _encoder_layer(query: str, key: str, value: str) -> Shapes:
    place, wide, size = "encoder.layer.{}", 3072, 768
    return {
        **_linear(f"{place}.attention.self.{query}", size, size),
        **_linear(f"{place}.attention.self.{key}", size, size),
        **_linear(f"{place}.attention.self.{value}", size, size),
        **_linear(f"{place}.attention.output.dense", size, size),
        **_norm(f"{place}.attention.output.LayerNorm", size),
        **_linear(f"{place}.intermediate.dense", size, wide),
        **_linear(f"{place}.output.dense", wide, size),
        **_norm(f"{place}.output.LayerNorm", size),
    }


def _bert() -> Shape:
    outside = {
        "embeddings.word_embeddings.weight": (30522, 768),
        "embeddings.position_embeddings.weight": (512, 768),
        "embeddings.token_type_embeddings.weight": (2, 768),
        **_norm("embeddings.LayerNorm", 768),
        **_linear("pooler.dense", 768, 768),
    }
    return Shape("BERT base", "bert", 12, outside, _encoder_layer("query", "key", "value"))


def _deberta() -> Shape:
    outside = {
        "embeddings.word_embeddings.weight": (128100, 768),
        **_norm("embeddings.LayerNorm", 768),
        "encoder.rel_embeddings.weight": (512, 768),
        **_norm("encoder.LayerNorm", 768),
    }
    layer = _encoder_layer("query_proj", "key_proj", "value_proj")
    return Shape("DeBERTa v3 base", "deberta-v2", 12, outside, layer)


def _gpt2() -> Shape:
    place, size = "transformer.h.{}", 768
    outside = {
        "transformer.wte.weight": (50257, size),
        "transformer.wpe.weight": (1024, size),
        **_norm("transformer.ln_f", size),
    }
    layer = {
        **_norm(f"{place}.ln_1", size),
        **_conv1d(f"{place}.attn.c_attn", size, 3 * size),
        **_conv1d(f"{place}.attn.c_proj", size, size),
        **_norm(f"{place}.ln_2", size),
        **_conv1d(f"{place}.mlp.c_fc", size, 4 * size),
        **_conv1d(f"{place}.mlp.c_proj", 4 * size, size),
    }
    return Shape("GPT-2", "gpt2", 12, outside, layer)


def _llama(name: str, layers: int, size: int, key_size: int, wide: int, *, tied: bool) -> Shape:
    place, tokens = "model.layers.{}", 128256
    outside: Shapes = {"model.embed_tokens.weight": (tokens, size), "model.norm.weight": (size,)}
    if not tied:
        outside["lm_head.weight"] = (tokens, size)
    layer = {
        f"{place}.self_attn.q_proj.weight": (size, size),
        f"{place}.self_attn.k_proj.weight": (key_size, size),
        f"{place}.self_attn.v_proj.weight": (key_size, size),
        f"{place}.self_attn.o_proj.weight": (size, size),
        f"{place}.mlp.gate_proj.weight": (wide, size),
        f"{place}.mlp.up_proj.weight": (wide, size),
        f"{place}.mlp.down_proj.weight": (size, wide),
        f"{place}.input_layernorm.weight": (size,),
        f"{place}.post_attention_layernorm.weight": (size,),
    }
    return Shape(name, "llama", layers, outside, layer)


MODELS = (
    _bert(),
    _deberta(),
    _gpt2(),
    _llama("Llama 3.2 1B", 16, 2048, 512, 8192, tied=True),
    _llama("Llama 3.1 8B", 32, 4096, 1024, 14336, tied=False),
)
