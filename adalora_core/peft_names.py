"""List PEFT's names that this package does not have, each with the reason.

An access raises an `AttributeError` with the reason. A test compares the lists with PEFT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROMPTS = "belongs to prompt learning, which is another method"
_OTHER_INIT = "belongs to an initialisation of LoRA, which AdaLoRA ignores"
_OTHER_LORA = "belongs to a variant of LoRA, which AdaLoRA ignores"
_BY_MODEL = "would leave the model in an inconsistent state; call the method of the model: "
_OF_BASE = "would reach the adapters of the base model's library and not this adapter; "
_FROZEN = "exists while an adapter is trainable; load it with is_trainable=True"

MODEL = {
    "base_model_prepare_inputs_for_generation": "is an internal of PEFT",
    "cls_layer_name": "is an internal of PEFT; `modules_to_save` lists the heads",
    "get_prompt": _PROMPTS,
    "get_prompt_embedding_to_save": _PROMPTS,
    "prepare_model_for_gradient_checkpointing": "is an internal of PEFT; call "
    "`model.enable_input_require_grads()`",
    "special_peft_forward_args": "is an internal of PEFT; no argument of `forward` is special",
    "supports_lora_conversion": "is a helper of PEFT; `model.export_lora` converts to LoRA",
    # transformers' and diffusers' models have adapters of their own.
    "delete_adapters": _OF_BASE + "use `delete_adapter`",
    "disable_adapters": _OF_BASE + "use `with model.disable_adapter():`",
    "disable_lora": _OF_BASE + "use `with model.disable_adapter():`",
    "enable_adapters": _OF_BASE + "adapters act again after `with model.disable_adapter():`",
    "enable_lora": _OF_BASE + "adapters act again after `with model.disable_adapter():`",
    "enable_lora_hotswap": _OF_BASE + "`load_adapter` gives an existing adapter new values",
    "enable_peft_hotswap": _OF_BASE + "`load_adapter` gives an existing adapter new values",
    "fuse_lora": _OF_BASE + "use `merge_adapter`",
    "get_adapter_state_dict": _OF_BASE + "use `get_peft_model_state_dict`",
    "load_lora_adapter": _OF_BASE + "use `load_adapter`",
    "save_lora_adapter": _OF_BASE + "use `save_pretrained`",
    "set_adapters": _OF_BASE + "use `set_adapter`",
    "unfuse_lora": _OF_BASE + "use `unmerge_adapter`",
    "unload_lora": _OF_BASE + "use `unload`",
}
"""Names of PEFT's models; reached through the base model they would mean something else."""

TUNER = {
    "add_adapter": _BY_MODEL + "`model.add_adapter`",
    "get_model_config": "is a helper of PEFT; read `config` of the base model",
    "inject_adapter": _BY_MODEL + "`model.add_adapter`",
    "load_adapter": _BY_MODEL + "`model.load_adapter`",
    "push_to_hub": "would upload the base model; use `model.push_to_hub`",
    "save_pretrained": "would save the base model; use `model.save_pretrained`",
    "subtract_mutated_init": _OTHER_INIT,
    "rankallocator": _FROZEN,
    "target_module_mapping": "is a table of PEFT; `adalora_core.default_targets` has the defaults",
    "targeted_parameter_names": "belongs to `target_parameters`, which AdaLoRA does not support",
    "trainable_adapter_name": _FROZEN,
    "uses_shared_state": "is an internal of PEFT",
}
"""Names of PEFT's tuner, beside those of `MODEL`."""

LAYER = {
    "cast_input_dtype_enabled": "does not exist: inputs always get the dtype of the factors",
    "corda_init": _OTHER_INIT,
    "ephemeral_gpu_offload": _OTHER_LORA,
    "frozen_peft_weight_names": _OTHER_LORA,
    "get_base_weight": "is for quantised bases of LoRA; read `base_layer.weight`",
    "kwargs": "is an internal of PEFT",
    "loftq_init": _OTHER_INIT,
    "lora_bias": _OTHER_LORA,
    "lora_embedding_A": "belongs to embeddings, which AdaLoRA does not adapt",
    "lora_embedding_B": "belongs to embeddings, which AdaLoRA does not adapt",
    "lora_ga_init": _OTHER_INIT,
    "lora_magnitude_vector": _OTHER_LORA,
    "lora_variant": _OTHER_LORA,
    "lora_variants": _OTHER_LORA,
    "mica_init": _OTHER_INIT,
    "olora_init": _OTHER_INIT,
    "orthogonal_init": _OTHER_INIT,
    "pissa_init": _OTHER_INIT,
    "quantization_backend": "is an internal of PEFT; `base_layer` is the quantised layer",
    "ranknum": "is a constant here; `initial_rank` and `scale` hold the numbers",
    "reset_lora_parameters": _BY_MODEL + "`delete_adapter`, then `add_adapter`",
    "resolve_lora_variant": _OTHER_LORA,
    "set_adapter": _BY_MODEL + "`model.set_adapter`",
    "set_base_weight": "is for quantised bases of LoRA; assign `base_layer.weight`",
    "set_requires_grad": _BY_MODEL + "`model.set_requires_grad`",
    "supports_lora_conversion": "is a helper of PEFT; `model.export_lora` converts to LoRA",
    "update_layer": _BY_MODEL + "`model.add_adapter`",
    "use_dora": _OTHER_LORA,
    "use_rslora": _OTHER_LORA,
}
"""Names of PEFT's adapted layers."""

ALLOCATOR = {
    "mask_to_budget": _BY_MODEL + "`model.update_and_allocate`",
    "mask_using_rank_pattern": _BY_MODEL + "`model.update_and_allocate`",
    "update_and_allocate": _BY_MODEL + "`model.update_and_allocate`",
    "update_ipt": _BY_MODEL + "`model.update_and_allocate`",
}
"""Names of PEFT's `RankAllocator`."""

CONFIG = {
    "check_kwargs": "is an internal of PEFT",
    "from_peft_type": "is an internal of PEFT; use `AdaLoraConfig(...)`",
    "push_to_hub": "would upload a configuration without its weights; use `model.push_to_hub`",
}
"""Names of PEFT's `AdaLoraConfig`."""


def not_available(owner: Any, name: str, reasons: Mapping[str, str]) -> AttributeError:
    """Return the error for a name of PEFT that `owner` does not have.

    Example:
        >>> print(not_available(object(), "get_prompt", MODEL))
        object has no 'get_prompt': PEFT's name belongs to prompt learning, which is another method
    """
    message = f"{type(owner).__name__} has no {name!r}: PEFT's name {reasons[name]}"
    return AttributeError(message, name=name, obj=owner)


def forwarded(owner: Any, inner: Any, name: str) -> Any:
    """Return the attribute `name` of `inner`, unless the name means the adapter.

    Raises:
        AttributeError: `inner` has no such attribute, or the name is one of `MODEL` or `TUNER`.
    """
    reasons = MODEL if name in MODEL else TUNER
    if name in reasons:
        raise not_available(owner, name, reasons)
    try:
        return getattr(inner, name)
    except AttributeError as error:
        if hasattr(type(inner), name):
            raise  # a property of the base model failed
        message = (
            f"{type(owner).__name__} has no attribute {name!r}, and neither has its base model"
        )
        raise AttributeError(message, name=name, obj=owner) from error
