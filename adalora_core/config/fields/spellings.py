"""Suggest the field that another spelling of a key means."""

from __future__ import annotations

from adalora_core.config.fields.table import FIELDS, LORA, LORA_FIELDS, PEFT_TYPE, Method

ALIASES = {
    # The authors' own code (loralib) and its scripts.
    "lora_r": "init_r",
    "target_rank": "target_r",
    "init_warmup": "tinit",
    "final_warmup": "tfinal",
    "mask_interval": "deltaT",
    "reg_orth_coef": "orth_reg_weight",
} | {
    alias: name
    for name, aliases in (
        # Spellings found in public configurations.
        ("deltaT", "delta_t deltat delta"),
        ("lora_alpha", "alpha alpha_lora"),
        ("lora_dropout", "dropout"),
        ("init_r", "initial_r initial_rank init_rank start_r rank lora_rank"),
        ("target_r", "final_r final_rank"),
        ("tinit", "t_init warmup_steps"),
        ("tfinal", "t_final final_steps"),
        ("total_step", "total_steps max_steps num_training_steps"),
        ("beta1", "beta_1"),
        ("beta2", "beta_2"),
        ("peft_type", "type method"),
        ("target_modules", "modules lora_target lora_target_modules target"),
        ("orth_reg_weight", "orth_reg orthogonal_reg_weight orth_weight"),
        ("base_model_name_or_path", "base_model model_name_or_path"),
    )
    for alias in aliases.split()
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

_BY_LOWER_CASE = {
    PEFT_TYPE: {name.lower(): name for name in FIELDS},
    LORA: {name.lower(): name for name in LORA_FIELDS},
}


def suggest_key(key: object, *, misspelt: bool = True, method: Method = PEFT_TYPE) -> str | None:
    """Return the field that `key` was probably meant to be, or None.

    If `misspelt` the key is compared with every field too, which takes more time.

    Example:
        >>> suggest_key("delta_t"), suggest_key("adalora_tinit"), suggest_key("learning_rate")
        ('deltaT', 'tinit', None)
    """
    if not isinstance(key, str):
        return None
    lower, names = key.lower().replace("-", "_"), _BY_LOWER_CASE[method]
    for candidate in (lower, *(lower.removeprefix(p) for p in PREFIXES if lower.startswith(p))):
        meant = ALIASES.get(candidate)
        if method == LORA:
            meant = "r" if meant == "init_r" else meant if meant in LORA_FIELDS else None
        if meant is not None or candidate in names:
            return meant or names[candidate]
    if not misspelt:
        return None
    # Imported for a misspelling only: importing difflib takes time.
    import difflib

    near = difflib.get_close_matches(lower, names, n=1, cutoff=CLOSE_ENOUGH)
    return names[near[0]] if near else None
