"""Families ADA1xx, first part, and ADA7xx: missing and unknown keys, and releases of PEFT."""

from __future__ import annotations

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import (
    ADALORA_FIELDS,
    FIELDS,
    LORA,
    LORA_FIELDS,
    PEFT_TYPE,
    PEFT_VERSION,
    Method,
)
from adalora_core.config.findings import Insert, Put, Remedy, Rename
from adalora_core.config.rules.base import SOUND, Findings, Rule, SharedRule
from adalora_core.floor.limits import MOST_DIGITS

ALIASES = {
    alias: name
    for name, aliases in (
        # The authors' own code (loralib) and its scripts.
        ("init_r", "lora_r"),
        ("target_r", "target_rank"),
        ("tinit", "init_warmup"),
        ("tfinal", "final_warmup"),
        ("deltaT", "mask_interval"),
        ("orth_reg_weight", "reg_orth_coef"),
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

MOST_COMPARED = 1000
"""The most unknown keys of a configuration that are compared with all fields for a misspelling."""

EDITOR_KEY = "$schema"
"""The key that names an editor's schema; PEFT drops it without harm."""

ORTH_ZERO_SINCE = (0, 20)
"""The first PEFT release whose forward accepts a penalty weight of 0."""


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


class MissingPeftType(Rule):
    code = "ADA101"
    severity = "warning"
    summary = "the configuration has no peft_type"
    why = """PEFT chooses the configuration class by peft_type. Without it PEFT reads the file with
    the class that the caller named, and refuses the file if this class does not know one of its
    keys. A saved adapter without it is not loaded at all: PeftModel.from_pretrained asks for the
    key."""
    bad = {key: value for key, value in SOUND.items() if key != "peft_type"}
    hint = 'add the key peft_type with the value "ADALORA"'
    unsafe_fix = """peft_type is added before the other keys; a tool that does not know the key may
    refuse it"""

    def check(self, block: Block) -> Findings:
        if "peft_type" not in block.values and block.layout == "peft":
            change = Insert((*block.path, "peft_type"), PEFT_TYPE)
            unknown = None if block.path else next(block.faults("unknown"), None)
            is_refused = block.runtime == "peft" and (block.is_saved or unknown is not None)
            message = "`peft_type` is missing: the configuration does not name its method"
            if unknown is not None and is_refused and not block.is_saved:
                message += f", and PEFT then refuses unknown keys such as {unknown.name!r}"
            yield self.found(
                block.path,
                message,
                "key",
                severity="error" if is_refused else None,
                remedy=Remedy("Add peft_type", change, is_safe=False),
            )


class UnknownKey(SharedRule):
    code = "ADA104"
    errors = (
        "AdaLoraConfig.__init__() got an unexpected keyword argument",
        "LoraConfig.__init__() got an unexpected keyword argument",
    )
    severity = "warning"
    summary = "the configuration has a key that PEFT does not know"
    why = f"""PEFT drops unknown keys of a file with one warning and continues: `delta_t: 10` trains
    with deltaT 1. As a keyword argument an unknown key is a TypeError. The finding is only a
    warning, because newer releases than {PEFT_VERSION} add keys; --strict-keys makes it an error.
    In a call of the class in Python the finding is an error, and so it is in the file of a tool
    that stops at such a key."""
    bad = {key: value for key, value in SOUND.items() if key != "deltaT"} | {"delta_t": 10}
    hint = "remove the key, or spell it as PEFT does"
    unsafe_fix = """the key gets the name of the field that was probably meant, if that field is not
    set"""

    def check(self, block: Block) -> Findings:
        is_call = block.layout == "python"
        stops = block.tool is not None and block.tool.stops_at_unknown
        # Keys that may be settings of the tool that owns the file.
        has_foreign = block.layout == "prefixed" or (block.layout == "flat" and not stops)
        for number, fault in enumerate(block.faults("unknown")):
            is_editors = fault.name == EDITOR_KEY and not block.options.strict_keys
            if is_editors or not isinstance(fault.name, str):
                continue  # rule non-string-key reports the others
            meant = suggest_key(fault.name, misspelt=number < MOST_COMPARED, method=block.method)
            if has_foreign and (meant is None or fault.name in TRAINER_SETTINGS):
                continue
            if block.runtime == "adalora-core" and block.options.strict_keys:
                unknown = "AdaLoraConfig has no such field"
            else:
                effect = "raises TypeError" if is_call else "ignores it"
                if block.layout == "peft" and not block.path and "peft_type" not in block.values:
                    effect = "refuses the file, which lacks peft_type"
                unknown = f"PEFT {PEFT_VERSION} has no such field and {effect}"
            if block.tool is not None and stops:
                unknown = f"{block.tool.name} has no such key and stops"
            message = f"unexpected keyword argument `{fault.name}`: {unknown}"
            hint = remedy = None
            if fault.name in block.fields:
                message += "; only the runtime adalora-core reads it"
                hint = "train with adalora_core, and check with --runtime adalora-core"
            elif meant is not None and meant in block.values:
                message += f"; did you mean `{meant}`?"
                hint = f"remove `{fault.name}`: `{meant}` is set too"
            elif meant is not None:
                message += f"; did you mean `{meant}`?"
                hint = f"rename `{fault.name}` to `{meant}`"
                remedy = _renamed(block, fault.name, meant)
            yield self.found(
                block.at(fault.name),
                message,
                "key",
                severity="error" if block.options.strict_keys or is_call or stops else None,
                hint=hint,
                remedy=remedy,
            )


def _renamed(block: Block, name: str, meant: str) -> Remedy | None:
    path = block.at(name)
    prefix = str(path[-1]).removesuffix(name)
    if block.layout not in {"peft", "python"} and not prefix:
        return None  # the key may be a setting of the tool
    return Remedy(f"Rename {name} to {meant}", Rename(path, prefix + meant), is_safe=False)


class WrongPeftType(SharedRule):
    code = "ADA105"
    errors = (
        "object has no attribute 'update_and_allocate'",
        "KeyError: 'adalora'",
    )
    summary = "peft_type is not ADALORA"
    why = """PEFT looks up the class by the exact string. `adalora` in lower case is a KeyError
    without an explanation, and the name of another method builds another kind of adapter."""
    bad = SOUND | {"peft_type": "adalora"}
    hint = 'set peft_type to "ADALORA"'
    safe_fix = "adalora and lora in lower case become ADALORA and LORA"

    def check(self, block: Block) -> Findings:
        for fault in block.faults("choice"):
            if fault.name != "peft_type":
                continue
            value = block.values["peft_type"]
            message = f"`peft_type` should be {block.method!r}, got {value!r}"
            path = block.at("peft_type")
            hint = remedy = None
            if value.strip().upper() == block.method:
                hint = f'set peft_type to "{block.method}"'
                remedy = Remedy(f"Write {block.method}", Put(path, block.method))
            elif value == "LORA":
                message = "`peft_type` is 'LORA': this is a LoRA adapter, not AdaLoRA"
                hint = f"{self.hint} to train AdaLoRA, or pass --ignore-unmatched"
                if not ADALORA_FIELDS.isdisjoint(block.values):
                    message += "; use the class AdaLoraConfig, which writes ADALORA"
            yield self.found(path, message, hint=hint, remedy=remedy)


class RuntimeConfigInFile(SharedRule):
    code = "ADA108"
    severity = "warning"
    summary = "runtime_config is set in a configuration"
    why = """runtime_config holds settings of one process. PEFT removes it when it saves and drops
    it with a warning when it loads, so it has no effect in a file. AdaLoRA does not read it at
    all."""
    bad = SOUND | {"runtime_config": {"ephemeral_gpu_offload": True}}
    hint = "remove runtime_config"
    inputs = ("runtime_config",)

    def check(self, block: Block) -> Findings:
        if block.is_lora and block.layout == "python":
            return  # the process that makes such a configuration reads it
        if block.is_set("runtime_config") and any(block["runtime_config"].values()):
            message = "`runtime_config` has no effect: PEFT drops it when it loads a file"
            yield self.found(block.at("runtime_config"), message, "key")


def release_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version starts with: `0.18.2.dev0@UNKNOWN` gives (0, 18, 2).

    Example:
        >>> release_numbers("0.18.2.dev0@UNKNOWN"), release_numbers("main")
        ((0, 18, 2), ())
    """
    numbers = []
    for part in version.split("."):
        if not (part.isascii() and part.isdecimal() and len(part) < MOST_DIGITS):
            break
        numbers.append(int(part))
    return tuple(numbers)


class KeyNewerThanPeft(SharedRule):
    code = "ADA701"
    severity = "warning"
    summary = "the configuration has a key that is newer than the PEFT of --peft-version"
    why = """An older PEFT drops the key of a file with a warning and trains without the setting. As
    a keyword argument the key is a TypeError. This rule is checked only with --peft-version."""
    bad = SOUND | {"exclude_modules": ["lm_head"]}
    example_options = {"peft_version": "0.13"}
    needs_option = "peft_version"
    hint = "upgrade PEFT, or remove the key"

    def check(self, block: Block) -> Findings:
        if block.options.peft_version is None:
            return
        for name in block.values:
            field = FIELDS.get(name)
            if field is None or field.added is None or not block.is_set(name):
                continue
            if release_numbers(field.added) > block.options.peft_version:
                message = (
                    f"`{name}` was added in PEFT {field.added}; PEFT "
                    f"{'.'.join(map(str, block.options.peft_version))} ignores it"
                )
                yield self.found(block.at(name), message, "key")


class OrthZeroOnOldPeft(Rule):
    code = "ADA703"
    severity = "warning"
    summary = "orth_reg_weight is 0, which PEFT before 0.20 refuses in forward"
    why = """PEFT before 0.20 raises a ValueError in the first forward unless the weight is
    positive, so the configuration does not run there. This rule is checked only with
    --peft-version: what is installed beside the check need not be what trains."""
    bad = SOUND | {"orth_reg_weight": 0}
    example_options = {"peft_version": "0.19"}
    needs_option = "peft_version"
    hint = "set a tiny weight such as 1e-06, or upgrade PEFT"
    inputs = ("orth_reg_weight",)

    def check(self, block: Block) -> Findings:
        version = block.options.peft_version
        is_old = version is not None and version < ORTH_ZERO_SINCE
        if is_old and block.runtime == "peft" and block["orth_reg_weight"] == 0:
            yield self.found(
                block.at("orth_reg_weight"),
                "`orth_reg_weight` 0 raises in forward under PEFT before "
                f"{'.'.join(map(str, ORTH_ZERO_SINCE))}",
            )


class NewerFile(SharedRule):
    code = "ADA704"
    severity = "info"
    summary = f"the file was written by a later PEFT than the contract's {PEFT_VERSION}"
    why = "New keys of that release are unknown to this contract, and PEFT's checks may differ."
    bad = SOUND | {"peft_version": "99.0.0"}
    hint = "upgrade adalora-core"
    inputs = ("peft_version",)

    def check(self, block: Block) -> Findings:
        version = block["peft_version"]
        if version and release_numbers(version)[:2] > release_numbers(PEFT_VERSION):
            yield self.found(
                block.at("peft_version"),
                f"`peft_version` is {version}, but this contract describes PEFT {PEFT_VERSION}",
            )
