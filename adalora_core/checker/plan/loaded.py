"""Name modules and parameters as transformers 5 holds them, where its files differ from that.

Modules that share a weight with another one are not in a file; experts are stacked and layers are
renamed when a file is read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from adalora_core.checker.plan.header import TensorInfo
from adalora_core.checker.plan.modules import modules_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.plan.modules import BaseModel

_MIXTRAL = frozenset({"mixtral", "minimax", "minimax_m2"})
_OF_QWEN = """
    qwen2_moe afmoe beam cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe
    exaone_moe flex_olmo glm4_moe glm4_moe_lite glm4v_moe glm_moe_dsa hunyuan_v1_moe longcat_flash
    mellum olmoe qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker
    sarvam_mla solar_open
"""
_NAMES_OF_EXPERTS = dict.fromkeys(_MIXTRAL, ("w1", "w3", "w2")) | dict.fromkeys(
    _OF_QWEN.split(), ("gate_proj", "up_proj", "down_proj")
)
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
_HEADS = {"WhisperForConditionalGeneration": "proj_out"}
_HAS_HEAD = re.compile(r".*(ForCausalLM|LMHeadModel|ForConditionalGeneration)")
_OF_HEAD = ("lm_head.weight", "proj_out.weight", "embed_out.weight")
_ROUTERS = ("gate", "router")


def names_of_experts(model_type: str | None) -> tuple[str, str, str] | None:
    """Return the names of an expert's layers in a file that transformers stacks, the last alone."""
    return _NAMES_OF_EXPERTS.get(model_type or "")


def as_loaded(model: BaseModel) -> BaseModel:
    """Return a model with the names that transformers 5 gives to modules and parameters.

    Routers beside stacked experts are modules of another kind: no linear layers.
    """
    tensors = dict(_stacked(model)) if names_of_experts(model.model_type) else model.tensors
    for pattern, new in _RENAMED.get(model.model_type or "", ()):
        # The names of one model: no expression of a foreign file.
        tensors = {re.sub(pattern, new, name): info for name, info in tensors.items()}
    tensors |= _tied(model, tensors)
    modules = modules_of(tensors)
    stacks = {
        name.rpartition(".")[0] for name, info in tensors.items() if name.endswith(".down_proj")
    }
    for path in stacks:
        for router in _ROUTERS:
            beside = f"{path.rpartition('.')[0]}.{router}"
            if beside in modules:
                modules[beside] = replace(modules[beside], kind="other")
    return replace(model, tensors=tensors, modules=modules)


def _stacked(model: BaseModel) -> Iterator[tuple[str, TensorInfo]]:
    """Yield the tensors, those of experts as one: gate above up, then down, as in memory."""
    names = names_of_experts(model.model_type) or ()
    counts: dict[str, int] = {}
    rest = {}
    pattern = re.compile(rf"(.*\.experts)\.\d+\.({'|'.join(names)})\.weight")
    first: dict[tuple[str, str], TensorInfo] = {}
    for name, info in model.tensors.items():
        found = pattern.fullmatch(name)
        if found is None or len(info.shape) != 2:  # noqa: PLR2004 - a matrix
            rest[name] = info
            continue
        first.setdefault((found[1], found[2]), info)
        counts[found[1]] = counts.get(found[1], 0) + 1
    gate, _, down = names
    for path, count in counts.items():
        experts = count // len(names)
        for name, key, times in (("gate_up_proj", gate, 2), ("down_proj", down, 1)):
            if (path, key) in first:
                info = first[path, key]
                outputs, inputs = info.shape
                shape = (experts, times * outputs, inputs)
                yield f"{path}.{name}", TensorInfo(info.dtype, shape)
    yield from rest.items()


def _tied(model: BaseModel, tensors: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return the weights of modules that share the weight of the input embedding."""
    found = {}
    words = next((info for name, info in tensors.items() if _is_words(name, info, model)), None)
    if words is None:
        return found
    if "shared.weight" in tensors:
        sides = ("encoder", "decoder")
        found |= {f"{side}.embed_tokens.weight": words for side in sides if _has(tensors, side)}
    has_head = _HAS_HEAD.fullmatch(model.architecture or "") is not None
    if has_head and not any(name in tensors for name in _OF_HEAD):
        found[f"{_HEADS.get(model.architecture or '', 'lm_head')}.weight"] = words
    return {name: info for name, info in found.items() if name not in tensors}


def _is_words(name: str, info: TensorInfo, model: BaseModel) -> bool:
    rows = model.vocabulary
    return name.endswith(".weight") and len(info.shape) == 2 and info.shape[0] == rows  # noqa: PLR2004 - a table


def _has(tensors: dict[str, TensorInfo], side: str) -> bool:
    return any(name.startswith(f"{side}.") for name in tensors)
