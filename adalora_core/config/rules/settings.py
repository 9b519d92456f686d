"""Family ADA4xx, second part: settings without effect, or with a surprising one.

Sub-configurations are judged as the classes of PEFT 0.21 do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import FIELDS, Treatment
from adalora_core.config.findings import Put, Remedy
from adalora_core.config.rules.base import SOUND, SOUND_LORA, Findings, LoraRule, Rule, SharedRule
from adalora_core.config.rules.targets import by_names
from adalora_core.floor.adapter_spec import LORA_START
from adalora_core.floor.module_selection import PathEnds, saved_module_names

HIGHEST_DROPOUT = 0.5
"""Above this rate most of the adapter's input is dropped; the paper uses 0 to 0.3."""

SMALLEST_SCALE = 0.25
"""At this scale and below it the adapter is noticeably weaker: PEFT's own benchmark reached 37 % at
8 / 64 = 0.125, where LoRA reached 48 % at a scale of 2."""

IGNORED = tuple(
    name
    for name, field in FIELDS.items()
    # r and runtime_config have rules of their own.
    if field.treatment is Treatment.IGNORED and name not in {"r", "runtime_config"}
)


class IgnoredSetting(Rule):
    code = "ADA405"
    severity = "warning"
    summary = "the configuration has a setting of LoRA that AdaLoRA silently ignores"
    why = f"""AdaLoraConfig inherits every field of LoraConfig, and AdaLoRA's layers read only some
    of them. The others are accepted, saved, and have no effect: {", ".join(IGNORED)}."""
    bad = SOUND | {"use_rslora": True}
    hint = "remove the setting"
    warns_at_construction = True

    def check(self, block: Block) -> Findings:
        for name in IGNORED:
            if not block.is_set(name) or name in block.invalid or is_refused(block, name):
                continue
            # Rule lora-bias-conflict reports the other case.
            if name != "lora_bias" or not isinstance(block["init_lora_weights"], str):
                message = f"`{name}` has no effect: AdaLoRA does not read it"
                yield self.found(block.at(name), message, "key")


class InitSchemeIgnored(Rule):
    code = "ADA407"
    severity = "warning"
    summary = "init_lora_weights names a scheme, and AdaLoRA reads it as true"
    why = """AdaLoRA reads only whether the value is true. gaussian, pissa, eva and the other
    schemes give its ordinary start: E is zero, A and B are normal with standard deviation 0.02. An
    empty string counts as false. lora is the start of LoRA, which the runtime adalora-core knows: A
    is Kaiming-uniform, B is zero and E is one. PEFT alone loads such a file, and trains from its
    ordinary start."""
    bad = SOUND | {"init_lora_weights": "pissa"}
    hint = "set init_lora_weights to true"
    safe_fix = "init_lora_weights becomes true or false, whichever AdaLoRA reads; lora stays"
    inputs = ("init_lora_weights",)
    warns_at_construction = True

    def check(self, block: Block) -> Findings:
        value, at = block["init_lora_weights"], block.at("init_lora_weights")
        if block["lora_bias"] is True or not isinstance(value, str):
            return  # reported by rule lora-bias-conflict, or right
        if value not in {LORA_START, "loftq"}:
            effect = f"has no effect: AdaLoRA reads it as {'true' if value else 'false'}"
            remedy = Remedy("Write the value that AdaLoRA reads", Put(at, bool(value)))
            yield self.found(at, f"`init_lora_weights` {value!r} {effect}", remedy=remedy)
        elif value == LORA_START and block.runtime == "peft" and not block.is_saved:
            yield self.found(
                at,
                f"`init_lora_weights` {value!r} has no effect in PEFT alone, which reads it as "
                "true; adalora_core starts like LoRA",
                hint="train with adalora_core, by its import or attach, and check with "
                "--runtime adalora-core; or set init_lora_weights to true",
            )


class HighDropout(Rule):
    code = "ADA412"
    severity = "warning"
    summary = f"lora_dropout is above {HIGHEST_DROPOUT}"
    why = """Most of the adapter's input is dropped at every step, and the importance scores become
    noisy."""
    bad = SOUND | {"lora_dropout": 0.7}
    hint = "use 0 to 0.3, as the paper does"
    inputs = ("lora_dropout",)

    def check(self, block: Block) -> Findings:
        if block["lora_dropout"] > HIGHEST_DROPOUT:
            message = f"`lora_dropout` {block['lora_dropout']} is above {HIGHEST_DROPOUT}"
            yield self.found(block.at("lora_dropout"), message)


class SmallScale(Rule):
    code = "ADA413"
    severity = "warning"
    summary = f"the effective scale lora_alpha / init_r is {SMALLEST_SCALE} or less"
    why = """AdaLoRA always multiplies its output by lora_alpha / (init_r + 1e-5), also after the
    ranks have fallen. With the default lora_alpha 8, a large init_r makes this scale small. A LoRA
    recipe with lora_alpha = 2 r has a scale of 2. PEFT's own method comparison ran AdaLoRA at 0.125
    and LoRA at 2, and AdaLoRA came out far behind. In this project's study (docs/evidence.md)
    AdaLoRA lost more than LoRA at 0.125, and more at 0.125 than at 0.5. The scale of a saved
    adapter belongs to its weights, so there the finding is only a remark."""
    bad = SOUND | {"init_r": 96, "target_r": 64, "lora_alpha": 24}
    hint = "set lora_alpha near init_r, which gives a scale of 1, and tune the learning rate"
    inputs = ("lora_alpha", "init_r")

    def check(self, block: Block) -> Findings:
        alpha, start = block["lora_alpha"], block["init_r"]
        if alpha <= SMALLEST_SCALE * start:
            hint = f"set lora_alpha to {start} for a scale of 1, and tune the learning rate"
            yield self.found(
                block.at_first("lora_alpha", "init_r"),
                f"the effective scale is lora_alpha {alpha} / init_r {start} = "
                f"{alpha / start:.3g}, also after pruning",
                severity="info" if block.is_saved else None,
                hint=None if block.is_saved else hint,
            )


class ScaleZero(LoraRule):
    code = "ADA426"
    severity = "warning"
    summary = "lora_alpha of LoRA is zero, and nothing is trained, or negative"
    why = """LoRA multiplies the product of its factors by lora_alpha / r. At 0 no gradient reaches
    a factor, and the loss falls by nothing: PEFT trains to the end without a word. A negative scale
    only turns the sign of a factor, and is hardly meant."""
    bad = SOUND_LORA | {"lora_alpha": 0}
    hint = "set lora_alpha near r, which gives a scale of 1"
    inputs = ("lora_alpha",)

    def check(self, block: Block) -> Findings:
        alpha = block["lora_alpha"]
        # A tool without a default of its own refuses the file.
        if alpha is not None and alpha <= 0:
            effect = "nothing is trained" if alpha == 0 else "the scale is negative"
            yield self.found(block.at("lora_alpha"), f"`lora_alpha` is {alpha}: {effect}")


class TargetsFromTable(Rule):
    code = "ADA414"
    errors = ("Please specify `target_modules` ... in `peft_config`",)
    severity = "info"
    summary = "target_modules is not set: PEFT chooses the targets by model type"
    why = """PEFT knows default targets for some two dozen architectures. For any other model the
    adapter cannot be built, and the table may change between releases."""
    bad = {key: value for key, value in SOUND.items() if key != "target_modules"}
    hint = 'name the modules, or use "all-linear"'
    inputs = ("target_modules",)
    judges_defaults = True

    def check(self, block: Block) -> Findings:
        if block["target_modules"] is None and not block["target_parameters"]:
            message = "`target_modules` is not set: the targets depend on the model's type"
            yield self.found(block.at("target_modules"), message, "key")


class RandomStart(SharedRule):
    code = "ADA416"
    severity = "info"
    summary = "init_lora_weights is false: the adapter changes the model from the first step"
    why = """A, E and B then start as random normal numbers, so at step 0 the adapted model differs
    from the base model. PEFT offers this start for tests."""
    bad = SOUND | {"init_lora_weights": False}
    hint = "set init_lora_weights to true"
    inputs = ("init_lora_weights",)

    def check(self, block: Block) -> Findings:
        if block["init_lora_weights"] is False and not block.is_saved:
            message = "`init_lora_weights` is false: training starts from a randomly changed model"
            yield self.found(block.at("init_lora_weights"), message)


class TargetsExcluded(SharedRule):
    code = "ADA419"
    severity = "warning"
    summary = "the same name is in target_modules and in exclude_modules"
    why = """exclude_modules takes precedence, so the target has no effect. If every target is
    excluded, PEFT raises."""
    bad = SOUND | {"exclude_modules": ["v_proj"]}
    hint = "remove the name from one of the two lists"
    inputs = ("target_modules", "exclude_modules")

    def check(self, block: Block) -> Findings:
        targets, others = block["target_modules"], block["exclude_modules"]
        if not isinstance(targets, list) or not isinstance(others, list):
            return
        places = {name: index for index, name in reversed(list(enumerate(targets)))}
        for index, name in enumerate(others):
            if name in places:
                yield self.found(
                    block.at("exclude_modules", index),
                    f"target {name!r} is also excluded by `exclude_modules`",
                    related=((block.at("target_modules", places[name]), _NAMED_HERE),),
                )


_NAMED_HERE = "named as a target here"


class TargetsSaved(SharedRule):
    code = "ADA420"
    severity = "warning"
    summary = "a target is also trained in full by modules_to_save"
    why = """modules_to_save trains a full copy of every module whose path ends with an entry, also
    in the middle of a name: classifier means pre_classifier too. The heads of a task count as
    entries. A module in a copy needs no adapter, so only one of the two can be intended. Beside an
    entry that is a whole name PEFT adds no adapter. Beside one that is the end of a name
    PEFT adapts the module, and cannot make or load the copy, which is an error."""
    bad = SOUND | {"modules_to_save": ["q_proj"]}
    hint = "remove the name from one of the two lists"
    inputs = ("target_modules", "modules_to_save", "task_type")

    def check(self, block: Block) -> Findings:
        targets, others = block["target_modules"], block["modules_to_save"]
        if not isinstance(targets, list):
            return
        entries = others if isinstance(others, list) else []
        saved = saved_module_names(entries, block["task_type"])
        names, whole = PathEnds(saved), PathEnds(saved, after_dot=True)
        places = {name: index for index, name in reversed(list(enumerate(entries)))}
        for index, target in enumerate(targets):
            name = names.around(target)
            if name is None:
                continue
            at = here = block.at("target_modules", index)
            if name in places:
                at = block.at("modules_to_save", places[name])
            yield self.found(
                at,
                f"target {target!r} is also trained in full: `modules_to_save` {name!r}",
                severity="warning" if whole.around(target) is not None else by_names(block),
                related=() if at == here else ((here, _NAMED_HERE),),
            )


class NoTargets(SharedRule):
    code = "ADA421"
    summary = "target_modules is empty"
    why = "There is nothing to adapt: PEFT raises a ValueError when the adapter is built."
    bad = SOUND | {"target_modules": []}
    hint = 'name the modules, or use "all-linear"'
    inputs = ("target_modules",)

    def check(self, block: Block) -> Findings:
        if block["target_modules"] in ([], "") and not block["target_parameters"]:
            yield self.found(
                block.at("target_modules"), "`target_modules` is empty: it names no module"
            )


_Bound = tuple[str, Callable[[Any], bool]]
"""The values of a key that PEFT takes, in words, and a test for those that it refuses."""
_POSITIVE: _Bound = ("above 0", lambda value: value <= 0)
_NOT_NEGATIVE: _Bound = ("at least 0", lambda value: value < 0)

SUB_CONFIGS: dict[str, dict[str, _Bound]] = {
    "eva_config": {
        "rho": ("at least 1", lambda value: value < 1),
        "tau": ("at least 0 and at most 1", lambda value: value < 0 or value > 1),
    },
    "velora_config": {"num_groups": _POSITIVE, "scale": _POSITIVE},
    "kasa_config": {"beta": _NOT_NEGATIVE, "gamma": _NOT_NEGATIVE},
    "arrow_config": {"top_k": _POSITIVE, "router_temperature": _POSITIVE},
    "monteclora_config": {
        "num_samples": _POSITIVE,
        "dirichlet_prior": _POSITIVE,
        "buffer_size": _POSITIVE,
    },
    "use_bdlora": {},
}
"""The numbers that the classes check, by field; the order is that of their checks."""

_OF_MONTECLORA = {*SUB_CONFIGS["monteclora_config"], "use_entropy", "sample_scaler"}
_OF_MONTECLORA |= {"kl_loss_weight"}
_TYPES_OF_VELORA = ("batch_average_once", "batch_average", "random")
_OF_BDLORA = ("target_modules_bd_a", "target_modules_bd_b")


def _faults_of(field: str, value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a key and a description for each value of a sub-configuration that PEFT refuses.

    Example:
        >>> list(_faults_of("eva_config", {"rho": 0.5}))
        [('rho', '`rho` should be at least 1, got 0.5')]
    """
    for key, (wanted, refuses) in SUB_CONFIGS[field].items():
        given = value.get(key, 1)
        if not isinstance(given, (int, float)):
            yield key, f"`{key}` should be a number, got {given!r}"
        elif refuses(given):
            yield key, f"`{key}` should be {wanted}, got {given!r}"
    if field == "monteclora_config":
        for key in value.keys() - _OF_MONTECLORA:
            yield key, f"should not have the key {key!r}: PEFT calls itself without end"
    elif field == "velora_config" and value.get("init_type", "random") not in _TYPES_OF_VELORA:
        yield "init_type", f"`init_type` should be one of {', '.join(_TYPES_OF_VELORA)}"
    elif field == "use_bdlora":
        yield from _faults_of_bdlora(value)


def is_refused(block: Block, field: str) -> bool:
    """Return whether PEFT refuses the value of a field, as rule sub-config-refused reports."""
    value = block[field] if field in SUB_CONFIGS and block.runtime == "peft" else None
    return isinstance(value, dict) and any(_faults_of(field, value))


def _faults_of_bdlora(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    lists = [value.get(key) or [] for key in _OF_BDLORA]
    for key, names in zip(_OF_BDLORA, lists, strict=True):
        is_listed = isinstance(names, (list, str, dict))
        if not is_listed or any(isinstance(name, (list, dict)) for name in names):
            yield key, f"`{key}` should be a list of names"
            return
    both = sorted(map(str, set(lists[0]) & set(lists[1])))
    if both:
        yield _OF_BDLORA[1], f"has {both[0]!r} in both lists"


class SubConfigRefused(SharedRule):
    code = "ADA424"
    summary = "a sub-configuration that AdaLoRA ignores has a value that PEFT refuses"
    why = """PEFT builds the sub-configurations of LoRA's variants, also where AdaLoRA does not read
    them. Their classes check some values, and raise when the configuration is built. Keys that they
    do not know are dropped, but in monteclora_config they end in a RecursionError. The runtime
    adalora-core does not build them."""
    bad = SOUND | {"eva_config": {"rho": 0.5}}
    hint = "remove the sub-configuration"

    def check(self, block: Block) -> Findings:
        for name in SUB_CONFIGS if block.runtime == "peft" else ():
            value = block[name]
            if not isinstance(value, dict):
                continue
            for key, fault in _faults_of(name, value):
                path = block.at(name, *([key] if key in value else ()))
                yield self.found(path, f"`{name}`: {fault}")
