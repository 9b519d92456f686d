"""Rules on what LoRA alone reads: its start, its scale, ranks of single modules, DoRA."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adalora_core.config.fields.table import LORA
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.config.rules.base import SOUND_LORA, Findings, Rule

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block


class LoraRule(Rule):
    """A fault that only a configuration of LoRA can have."""

    methods = (LORA,)
    good = SOUND_LORA


_STARTS = re.compile(
    r"pissa(_niter_\d+)?|corda.*|(?i:olora|mica|gaussian)|loftq|eva|orthogonal|lora_ga"
)


class UnknownStart(LoraRule):
    code = "ADA425"
    errors = (
        "Unknown initialization init_lora_weights=",
        "`loftq_config` must be specified when `init_lora_weights` is 'loftq'",
    )
    summary = "init_lora_weights names a start that PEFT does not know, or that lacks its settings"
    why = """PEFT compares the word with the names of its starts when the adapter is injected, and
    raises a ValueError for any other. The start loftq needs a loftq_config: without one the
    configuration is refused. lora_bias is not supported with a named start, nor with DoRA."""
    bad = SOUND_LORA | {"init_lora_weights": "kaiming"}
    hint = "set init_lora_weights to true, or to gaussian, olora, pissa, eva, corda or orthogonal"
    inputs = ("init_lora_weights", "loftq_config")
    only_if_set = ("init_lora_weights",)

    def check(self, block: Block) -> Findings:
        start, at = block["init_lora_weights"], block.at("init_lora_weights")
        if start == "loftq" and not block["loftq_config"]:
            message = "`loftq_config` must be specified when `init_lora_weights` is 'loftq'"
            yield self.found(at, message, hint='set loftq_config, such as {"loftq_bits": 4}')
        elif isinstance(start, str) and start and not _STARTS.fullmatch(start):
            yield self.found(at, f"Unknown initialization init_lora_weights={start!r}")


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


class RanksByModule(LoraRule):
    code = "ADA313"
    errors = ("`r` should be a positive integer value but the value passed is",)
    summary = "rank_pattern or alpha_pattern of LoRA has a value that is not one of r or lora_alpha"
    why = """LoRA's rank_pattern gives single modules another r, and its alpha_pattern another
    lora_alpha. PEFT raises for a rank below 1 or of another type, as soon as a module has the
    name. The lists of true and false in AdaLoRA's pattern are a TypeError."""
    bad = SOUND_LORA | {"rank_pattern": {"v_proj": 0}}
    hint = "write one number for each name"
    inputs = ("rank_pattern", "alpha_pattern")
    only_if_set = ("rank_pattern", "alpha_pattern")

    def check(self, block: Block) -> Findings:
        wanted_of = {"rank_pattern": "an integer, at least 1", "alpha_pattern": "a number"}
        for name, wanted in wanted_of.items():
            for key, value in block[name].items():
                if not _fits(name, value):
                    got = value if isinstance(value, int) else name_of_value(value)
                    message = f"`{name}` of {key!r} should be {wanted}, got {got}"
                    yield self.found(block.at(name, key), message)


def _fits(name: str, value: Any) -> bool:
    if name == "alpha_pattern":
        return isinstance(value, (int, float))
    return type(value) is int and value > 0


class DoraConflict(LoraRule):
    code = "ADA427"
    errors = (
        "DoRA does not support megatron_core",
        "lora_bias=True is not supported for DoRA",
    )
    summary = "use_dora is true beside a setting that PEFT does not support with DoRA"
    why = "PEFT raises a ValueError when the configuration is built."
    bad = SOUND_LORA | {"use_dora": True, "lora_bias": True}
    hint = "remove one of the two settings"
    inputs = ("use_dora", "lora_bias", "megatron_config")
    only_if_set = ("use_dora",)

    def check(self, block: Block) -> Findings:
        for name in ("lora_bias", "megatron_config") if block["use_dora"] else ():
            if block[name]:
                message = f"`{name}` is not supported for DoRA, and `use_dora` is true"
                yield self.found(block.at(name), message, "key")
