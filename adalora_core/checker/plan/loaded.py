"""Name modules and parameters as transformers 5 holds them, where its files differ from that.

Modules that share a weight with another one are not in a file; experts are stacked and layers are
renamed when a file is read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from adalora_core.checker.plan.header import TensorInfo
from adalora_core.checker.plan.modules import modules_of

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel

_MIXTRAL = frozenset({"mixtral", "minimax", "minimax_m2"})
_OF_QWEN = """
    qwen2_moe afmoe beam cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe
    exaone_moe flex_olmo glm4_moe glm4_moe_lite glm4v_moe glm_moe_dsa hunyuan_v1_moe longcat_flash
    mellum olmoe qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker
    sarvam_mla solar_open
"""
NAMES_OF_EXPERTS = dict.fromkeys(_MIXTRAL, ("w1", "w3", "w2")) | dict.fromkeys(
    _OF_QWEN.split(), ("gate_proj", "up_proj", "down_proj")
)
"""By type of model the layers of an expert in a file; transformers stacks the first two as one."""
TRANSPOSED_EXPERTS = frozenset({"aria", "gpt_oss", "openai_privacy_filter"})
"""Types of models whose stacked experts have the shape [experts, in, out]."""

_RENAMED: dict[str, tuple[tuple[str, str], ...]] = dict.fromkeys(
    _MIXTRAL, ((r"\.block_sparse_moe\.", ".mlp."),)
) | {
    "gpt_neox": ((r"^embed_out\.", "lm_head."),),
    "vit": (
        (r"encoder\.layer\.", "layers."),
        (r"attention\.query", "q_proj"),
        (r"attention\.key", "k_proj"),
        (r"attention\.value", "v_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"output\.dense", "mlp.fc2"),
    ),
}
_HAS_HEAD = re.compile(r".*(ForCausalLM|LMHeadModel|ForConditionalGeneration)")
_HEADS = ("lm_head.weight", "proj_out.weight", "embed_out.weight")
_MATRIX = 2


def as_loaded(model: BaseModel) -> BaseModel:
    """Return a model with the names that transformers 5 gives to modules and parameters.

    Routers beside stacked experts are modules of another kind: no linear layers.
    """
    names = NAMES_OF_EXPERTS.get(model.model_type or "")
    tensors = _stacked(model.tensors, names) if names else model.tensors
    for pattern, new in _RENAMED.get(model.model_type or "", ()):
        # The names of one model: no expression of a foreign file.
        tensors = {re.sub(pattern, new, name): info for name, info in tensors.items()}
    tensors = {**tensors, **_tied(model, tensors)}
    modules = modules_of(tensors)
    for name in tensors:
        if name.endswith(".down_proj"):  # a parameter of stacked experts
            around = name.rpartition(".")[0].rpartition(".")[0]
            for router in (f"{around}.gate", f"{around}.router"):
                if router in modules:
                    modules[router] = replace(modules[router], kind="other")
    return replace(model, tensors=tensors, modules=modules)


def _stacked(tensors: dict[str, TensorInfo], names: tuple[str, str, str]) -> dict[str, TensorInfo]:
    """Return the tensors, those of the experts of a layer as two."""
    layers = re.compile(rf"(.*\.experts)\.\d+\.({'|'.join(names)})\.weight")
    found: dict[str, TensorInfo] = {}
    stacks = defaultdict[str, list[TensorInfo]](list)
    for name, info in tensors.items():
        layer = layers.fullmatch(name)
        if layer is None or len(info.shape) != _MATRIX:
            found[name] = info
        else:
            stack = "down_proj" if layer[2] == names[2] else "gate_up_proj"
            stacks[f"{layer[1]}.{stack}"].append(info)
    for name, infos in stacks.items():
        (outputs, inputs), parts = infos[0].shape, 2 if name.endswith("gate_up_proj") else 1
        shape = (len(infos) // parts, parts * outputs, inputs)
        found[name] = TensorInfo(infos[0].dtype, shape)
    return found


def _tied(model: BaseModel, tensors: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return the weights that are missing in a file since they are those of the embedding."""
    words = model.words
    if words is None:
        return {}
    shared = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    names = [*shared] if words.path == "shared" else []
    has_head = any(name.endswith(_HEADS) for name in tensors)
    if _HAS_HEAD.fullmatch(model.architecture or "") and not has_head:
        is_whisper = model.model_type == "whisper"
        names.append("proj_out.weight" if is_whisper else "lm_head.weight")
    found = dict.fromkeys(names, tensors[f"{words.path}.weight"])
    return {name: info for name, info in found.items() if name not in tensors}
