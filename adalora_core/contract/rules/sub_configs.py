"""Family ADA4xx, third part: sub-configurations, judged as the classes of PEFT 0.21 do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from adalora_core.contract.rules.base import SOUND, Findings, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.contract.fields.block import Block


class _Bound(NamedTuple):
    """The values of a key that PEFT refuses."""

    words: str
    refuses: Callable[[Any], bool]


_POSITIVE = _Bound("above 0", lambda value: value <= 0)
_NOT_NEGATIVE = _Bound("at least 0", lambda value: value < 0)

SUB_CONFIGS: dict[str, dict[str, _Bound]] = {
    "eva_config": {
        "rho": _Bound("at least 1", lambda value: value < 1),
        "tau": _Bound("at least 0 and at most 1", lambda value: value < 0 or value > 1),
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

_OF_MONTECLORA = {
    *SUB_CONFIGS["monteclora_config"],
    "use_entropy",
    "sample_scaler",
    "kl_loss_weight",
}
_TYPES_OF_VELORA = ("batch_average_once", "batch_average", "random")
_OF_BDLORA = ("target_modules_bd_a", "target_modules_bd_b")


def _faults_of(field: str, value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a key and a description for each value of a sub-configuration that PEFT refuses.

    Example:
        >>> list(_faults_of("eva_config", {"rho": 0.5}))
        [('rho', '`rho` should be at least 1, got 0.5')]
    """
    for key, bound in SUB_CONFIGS[field].items():
        if key in value:
            given = value[key]
            if not isinstance(given, (int, float)):
                yield key, f"`{key}` should be a number, got {given!r}"
            elif bound.refuses(given):
                yield key, f"`{key}` should be {bound.words}, got {given!r}"
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
        if not isinstance(names, (list, str, dict)):
            yield key, f"`{key}` should be a list of names"
            return
        if any(isinstance(name, (list, dict)) for name in names):
            yield key, f"`{key}` should be a list of names"
            return
    both = sorted(map(str, set(lists[0]) & set(lists[1])))
    if both:
        yield _OF_BDLORA[1], f"has {both[0]!r} in both lists"


class SubConfigRefused(Rule):
    code = "ADA424"
    summary = "a sub-configuration that AdaLoRA ignores has a value that PEFT refuses"
    why = (
        "PEFT builds the sub-configurations of LoRA's variants, also where AdaLoRA does not read "
        "them. Their classes check some values, and raise when the configuration is built. Keys "
        "that they do not know are dropped, but in monteclora_config they end in a "
        "RecursionError. The runtime adalora-core does not build them."
    )
    bad = SOUND | {"eva_config": {"rho": 0.5}}
    hint = "remove the sub-configuration"
    only_if_set = tuple(SUB_CONFIGS)

    def check(self, block: Block) -> Findings:
        for name in SUB_CONFIGS if block.runtime == "peft" else ():
            value = block[name]
            if not isinstance(value, dict):
                continue
            for key, fault in _faults_of(name, value):
                path = block.at(name, *([key] if key in value else ()))
                yield self.found(path, f"`{name}`: {fault}")
