"""Suggest the field that an unknown key means: known spellings first, similar names second."""

from __future__ import annotations

from adalora_core.config.fields.table import FIELDS

ALIASES = {
    # The authors' own code (loralib) and its scripts.
    "lora_r": "init_r",
    "target_rank": "target_r",
    "init_warmup": "tinit",
    "final_warmup": "tfinal",
    "mask_interval": "deltaT",
    "reg_orth_coef": "orth_reg_weight",
    # Spellings found in public configurations.
    "delta_t": "deltaT",
    "deltat": "deltaT",
    "delta": "deltaT",
    "alpha": "lora_alpha",
    "alpha_lora": "lora_alpha",
    "dropout": "lora_dropout",
    "initial_r": "init_r",
    "initial_rank": "init_r",
    "init_rank": "init_r",
    "start_r": "init_r",
    "rank": "init_r",
    "lora_rank": "init_r",
    "final_r": "target_r",
    "final_rank": "target_r",
    "t_init": "tinit",
    "warmup_steps": "tinit",
    "t_final": "tfinal",
    "final_steps": "tfinal",
    "total_steps": "total_step",
    "max_steps": "total_step",
    "num_training_steps": "total_step",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "type": "peft_type",
    "method": "peft_type",
    "modules": "target_modules",
    "lora_target": "target_modules",
    "lora_target_modules": "target_modules",
    "target": "target_modules",
    "orth_reg": "orth_reg_weight",
    "orthogonal_reg_weight": "orth_reg_weight",
    "orth_weight": "orth_reg_weight",
    "base_model": "base_model_name_or_path",
    "model_name_or_path": "base_model_name_or_path",
}
"""`{spelling without a prefix, in lower case: PEFT's name}`."""

TRAINER_SETTINGS = frozenset({
    "_target_", "base_model", "max_steps", "method", "model_name_or_path", "modules",
    "num_training_steps", "target", "type", "warmup_steps",
})  # fmt: skip
"""Spellings that mean a field in PEFT's own mapping, and a setting of the tool among the tool's own
settings."""

PREFIXES = ("adalora_", "peft_", "lora_")
"""Prefixes that tools put before PEFT's names."""

CLOSE_ENOUGH = 0.8
"""The least similarity (difflib's ratio) of a misspelling, as in cfn-lint's suggestions."""

_BY_LOWER_CASE = {name.lower(): name for name in FIELDS}


def suggest_key(key: object, *, misspelt: bool = True) -> str | None:
    """Return the field that `key` was probably meant to be, or None.

    Args:
        key: a key that names no field.
        misspelt: whether to compare the key with every field too, for a misspelling; that takes
            more time.

    Example:
        >>> suggest_key("delta_t"), suggest_key("adalora_tinit"), suggest_key("learning_rate")
        ('deltaT', 'tinit', None)
    """
    if not isinstance(key, str):
        return None
    lower = key.lower().replace("-", "_")
    for candidate in (lower, *(lower.removeprefix(p) for p in PREFIXES if lower.startswith(p))):
        if candidate in ALIASES:
            return ALIASES[candidate]
        if candidate in _BY_LOWER_CASE:
            return _BY_LOWER_CASE[candidate]
    if not misspelt:
        return None
    # Imported for a misspelling only: importing difflib takes time.
    import difflib

    near = difflib.get_close_matches(lower, _BY_LOWER_CASE, n=1, cutoff=CLOSE_ENOUGH)
    return _BY_LOWER_CASE[near[0]] if near else None
