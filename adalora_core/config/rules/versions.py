"""Family ADA7xx: settings whose effect depends on the PEFT release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.config.fields.table import FIELDS, PEFT_VERSION
from adalora_core.config.rules.base import BOTH, SOUND, Findings, Rule
from adalora_core.floor.limits import MOST_DIGITS

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block

ORTH_ZERO_SINCE = (0, 20)
"""The first PEFT release whose forward accepts a penalty weight of 0."""


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


class KeyNewerThanPeft(Rule):
    code = "ADA701"
    methods = BOTH
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


class NewerFile(Rule):
    code = "ADA704"
    methods = BOTH
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
