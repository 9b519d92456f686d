"""Write the ranks that were found as the settings of a fresh run with plain LoRA."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from adalora_core.commands.rank_report.report import ranks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adalora_core.config.model import AdaLoraConfig

PatternFormat = Literal["peft", "axolotl", "json"]
FORMATS: tuple[PatternFormat, ...] = get_args(PatternFormat)


def lora_settings(config: AdaLoraConfig) -> dict[str, Any]:
    r"""Return arguments of PEFT's `LoraConfig` that give every module the rank that was found.

    A module at rank 0 is not a target: PEFT refuses a rank of 0. The scale of every module is that
    of the AdaLoRA run, `lora_alpha / init_r`, so alpha is that times the rank.

    Raises:
        ValueError: no allocation has happened, or no triplet is left.

    Example:
        >>> from adalora_core.checker import AdaLoraConfig
        >>> pattern = {"0.q.lora_E": [True, True, False], "0.v.lora_E": [False] * 3}
        >>> config = AdaLoraConfig(
        ...     init_r=3, target_r=1, lora_alpha=6, total_step=9, rank_pattern=pattern
        ... )
        >>> settings = lora_settings(config)
        >>> settings["target_modules"], settings["rank_pattern"], settings["alpha_pattern"]
        (['0.q'], {'^0\\.q': 2}, {'^0\\.q': 4})
    """
    ranks = {path: rank for path, rank in sorted(ranks_of(config).items()) if rank}
    if not ranks:
        raise ValueError("rank_pattern: no triplet is left in any module")
    largest = max(ranks.values())

    def alpha_of(rank: int) -> int | float:
        alpha = config.lora_alpha * rank / config.init_r
        return int(alpha) if alpha.is_integer() else alpha

    # PEFT searches these keys in module names: without the anchor "a.q" would match "b.a.q".
    keys = {path: f"^{re.escape(path)}" for path in ranks}
    return {
        "r": largest,
        "lora_alpha": alpha_of(largest),
        "target_modules": _targets(ranks, ranks_of(config)),
        "rank_pattern": {keys[path]: rank for path, rank in ranks.items()},
        "alpha_pattern": {keys[path]: alpha_of(rank) for path, rank in ranks.items()},
    }


def _targets(ranks: Mapping[str, int], adapted: Mapping[str, int]) -> list[str] | str:
    """Return the names of `ranks`, as one expression where a name would match another module.

    PEFT takes a name in a list for every module whose path ends in it.
    """
    others = adapted.keys() - ranks.keys()
    if any(other.endswith(f".{path}") for path in ranks for other in others):
        return "|".join(map(re.escape, ranks))
    return list(ranks)


def render_rank_pattern(config: AdaLoraConfig, form: PatternFormat) -> str:
    """Return the ranks as text.

    Args:
        config: the configuration of a saved adapter.
        form: "peft" (arguments of `LoraConfig`, JSON), "axolotl" (YAML), or "json" (the rank of
            every module, 0 included).

    Raises:
        ValueError: no allocation has happened, or no triplet is left.
    """
    if form == "json":
        return json.dumps(ranks_of(config), indent=2, sort_keys=True)
    settings = lora_settings(config)
    if form == "peft":
        return json.dumps(settings, indent=2)
    return _axolotl(settings)


def _axolotl(settings: Mapping[str, Any]) -> str:
    """Return `settings` as YAML for axolotl, which takes whole alphas from 1 alone."""
    values = {"adapter": "lora"}
    values |= {f"lora_{name.removeprefix('lora_')}": value for name, value in settings.items()}
    alphas, ranks = settings["alpha_pattern"], settings["rank_pattern"]
    whole = {key: max(1, round(alpha)) for key, alpha in alphas.items()}
    values |= {"lora_alpha": max(1, round(settings["lora_alpha"])), "lora_alpha_pattern": whole}
    text = "\n".join(_yaml_lines(values))
    scales = [alpha / ranks[key] for key, alpha in whole.items() if alpha != alphas[key]]
    if not scales:
        return text
    wanted = settings["lora_alpha"] / settings["r"]
    found = f"{min(scales):.4g} to {max(scales):.4g} in {len(scales)} of {len(whole)} modules"
    return (
        f"# axolotl takes whole alphas. The scale of the run is {wanted:.4g} in every module;\n"
        f"# here it is {found}.\n{text}"
    )


_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)(?:\^[\w\\]|[a-z_])[\w\\.-]*",
    re.ASCII | re.IGNORECASE,
)
"""Text that needs no quotes in YAML: no value of another type looks like it."""
_LONGEST_KEY = 128
"""The most characters of a key on one line with its value; YAML allows 1024."""


def _yaml_lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of a mapping; PyYAML would take most of a second for 20,000 modules."""
    for key, value in values.items():
        name = indent + _scalar(key)
        if len(name) > _LONGEST_KEY:
            yield f"{indent}? {_scalar(key)}"
            name = indent
        if isinstance(value, dict):
            yield f"{name}:"
            yield from _yaml_lines(value, "  ")
        elif isinstance(value, list):
            yield f"{name}:"
            yield from (f"- {_scalar(each)}" for each in value)
        else:
            yield f"{name}: {_scalar(value)}"


def _scalar(value: str | int) -> str:
    if isinstance(value, int) or _PLAIN.fullmatch(value):
        return str(value)
    # The escapes of Python are those of YAML.
    return (
        '"' + value.encode("unicode_escape", "backslashreplace").decode().replace('"', '\\"') + '"'
    )
