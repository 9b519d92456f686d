"""Each rule as an expression of the Common Expression Language (CEL), where it has one.

`self` is the decoded mapping. Templates keep the expressions readable: `$name` is the value of a
field or PEFT's default where the key is absent, `$name?` asks whether it is absent or null, and
`$name!` is the value where it is known to be there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.adapter_spec import SCALE_EPSILON
from adalora_core.contract.fields import FIELDS, PEFT_TYPE
from adalora_core.contract.rules import ranks, schedule, settings
from adalora_core.contract.shapes import BOOLEAN, INTEGER, OBJECT, STRING
from adalora_core.rank_pattern import SINGULAR_VALUES_SUFFIX

if TYPE_CHECKING:
    from adalora_core.contract.diagnostics import Severity

_PLACEHOLDER = re.compile(r"\$(\w+)([?!]?)")


@dataclass(frozen=True, slots=True)
class Constraint:
    """What must hold, so that a rule has nothing to say.

    Args:
        field: the field that the finding is about.
        template: the expression, true where all is well.
        severity: if not the rule's own.
        message: a template that evaluates to a text with the values, if one is useful.
    """

    field: str
    template: str
    severity: Severity | None = None
    message: str | None = None

    @property
    def expression(self) -> str:
        """The expression, with defaults spelled out."""
        return _filled(self.template)

    @property
    def message_expression(self) -> str | None:
        """The expression of the message."""
        return None if self.message is None else _filled(self.message)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The fields that the expression reads."""
        return tuple(dict.fromkeys(name for name, _ in _PLACEHOLDER.findall(self.template)))


def _filled(template: str) -> str:
    return _PLACEHOLDER.sub(lambda found: _value(found[1], found[2]), template)


def _value(name: str, mark: str) -> str:
    place = f"self.{name}"
    if mark == "?":
        # Not `== null`: not every engine compares an integer with it.
        return f"(!has({place}) || type({place}) == type(null))"
    if mark == "!":
        return place
    return f"(has({place}) ? {place} : {json.dumps(FIELDS[name].default)})"


_NO_SCHEDULE = "$total_step? || $tinit >= $total_step! - $tfinal"
_ALLOCATIONS = "($total_step! - $tfinal - 1) / $deltaT - $tinit / $deltaT"
_NO_PATTERN = "$rank_pattern? || size($rank_pattern!) == 0"
_KEPT = "$rank_pattern![k]"
_ALL_BOOLEANS = f"(type({_KEPT}) == list ? {_KEPT}.all(e, type(e) == bool) : false)"
_SOUND_PATTERN = f"$rank_pattern!.all(k, {_ALL_BOOLEANS})"
_NO_PARAMETERS = "($target_parameters? || size($target_parameters!) == 0)"
_NO_TOKENS = "$alora_invocation_tokens? || size($alora_invocation_tokens!) == 0"
_TOKENS = "$trainable_token_indices"
_SOUND_TOKENS = (
    f"{_TOKENS}? || (type({_TOKENS}!) == list "
    f"? size({_TOKENS}!) > 0 && {_TOKENS}!.all(i, i >= 0) "
    f": {_TOKENS}!.all(k, size({_TOKENS}![k]) > 0 && {_TOKENS}![k].all(i, i >= 0)))"
)
_ALL_LINEAR = "r'^[aA][lL][lL]-[lL][iI][nN][eE][aA][rR]$'"
_META = r"r'[\\^$*+?{}\[\]|()]'"


def _shares_nothing(other: str) -> str:
    """Both are lists and no name stands in both."""
    return (
        f"$target_modules? || type($target_modules!) != list || ${other}? || "
        f"type(${other}!) != list || !${other}!.exists(n, n in $target_modules!)"
    )


def _without_repetition(name: str) -> str:
    return (
        f"${name}? || type(${name}!) != list || "
        f"${name}!.all(n, size(${name}!.filter(m, m == n)) == 1)"
    )


def _names_alone(name: str) -> str:
    return f"${name}? || type(${name}!) != list || !${name}!.exists(n, n.matches({_META}))"


def _names_that_match(name: str) -> str:
    never = f"(n == '' || n.startsWith('.') || n.endsWith('.')) && !n.matches({_META})"
    never = f"n.matches({_ALL_LINEAR}) || {never}"
    return f"${name}? || type(${name}!) != list || !${name}!.exists(n, {never})"


def _unset(name: str) -> str:
    """Whether an ignored setting has its default, or is null or empty."""
    field = FIELDS[name]
    if field.shapes == (BOOLEAN,):
        return f"!${name}"
    if field.shapes == (INTEGER,):
        return f"${name} == {field.default}"
    if STRING in field.shapes:
        return f"${name}? || ${name}! == {json.dumps(field.default)}"
    if OBJECT not in field.shapes:
        raise TypeError(f"{name}: no expression for a field of these shapes")
    return f"${name}? || size(${name}!) == 0"


def _ignored() -> tuple[Constraint, ...]:
    # A name beside lora_bias is rule lora-bias-conflict.
    found = {name: _unset(name) for name in settings.IGNORED}
    found["lora_bias"] += " || type($init_lora_weights) == string"
    return tuple(Constraint(name, template) for name, template in found.items())


EXPRESSIONS: dict[str, tuple[Constraint, ...]] = {
    "ADA101": (Constraint("peft_type", "has($peft_type!)"),),
    "ADA109": tuple(
        Constraint(name, _without_repetition(name))
        for name in ("target_modules", "exclude_modules", "modules_to_save")
    ),
    "ADA201": (Constraint("total_step", "$inference_mode || !$total_step?"),),
    "ADA202": (
        Constraint(
            "total_step",
            "$total_step? || $tinit < $total_step! - $tfinal",
            message="'no budgeting phase: tinit ' + string($tinit) + ' >= total_step ' + "
            "string($total_step!) + ' - tfinal ' + string($tfinal)",
        ),
    ),
    "ADA203": (Constraint("deltaT", f"{_NO_SCHEDULE} || $tfinal == 0 || {_ALLOCATIONS} > 0"),),
    "ADA206": (Constraint("deltaT", f"{_NO_SCHEDULE} || $tfinal > 0 || {_ALLOCATIONS} > 0"),),
    "ADA207": (
        Constraint(
            "deltaT",
            f"{_NO_SCHEDULE} || {_ALLOCATIONS} == 0 || "
            f"{_ALLOCATIONS} >= {schedule.FEWEST_ALLOCATIONS}",
            message=f"'only ' + string({_ALLOCATIONS}) + ' allocations in the budgeting phase'",
        ),
    ),
    "ADA208": (
        Constraint(
            "total_step",
            f"{_NO_SCHEDULE} || {_ALLOCATIONS} < {schedule.FEWEST_ALLOCATIONS} || "
            "double($total_step! - $tfinal - $tinit) >= "
            f"{schedule.SHORTEST_WINDOW} * double($total_step!)",
        ),
    ),
    "ADA209": (
        Constraint(
            "tfinal",
            f"{_NO_SCHEDULE} || "
            f"double($tfinal) <= {schedule.LONGEST_FINAL_PHASE} * double($total_step!)",
        ),
    ),
    "ADA210": (Constraint("tfinal", f"{_NO_SCHEDULE} || $tfinal > 0 || {_ALLOCATIONS} == 0"),),
    "ADA301": (
        Constraint(
            "target_r",
            "$init_r >= $target_r",
            message="'target_r ' + string($target_r) + ' is above init_r ' + string($init_r)",
        ),
    ),
    "ADA302": (
        Constraint("init_r", "$inference_mode || $init_r != $target_r"),
        Constraint("init_r", "!$inference_mode || $init_r != $target_r", "warning"),
    ),
    "ADA303": (Constraint("r", f"$r == {FIELDS['r'].default}"),),
    "ADA304": (
        Constraint(
            "rank_pattern",
            f"{_NO_PATTERN} || $rank_pattern!.all(k, {_ALL_BOOLEANS} && size({_KEPT}) == $init_r)",
        ),
    ),
    "ADA306": (Constraint("init_r", "$inference_mode || has($init_r!) || has($target_r!)"),),
    "ADA307": (
        # Not 8 * target_r, which may leave the 64 bits of an integer.
        Constraint("init_r", f"$init_r / {ranks.STEEPEST_CUT} < $target_r"),
    ),
    "ADA308": (Constraint("rank_pattern", "!$inference_mode || !$rank_pattern? || $total_step?"),),
    "ADA309": (
        Constraint(
            "rank_pattern",
            f"{_NO_PATTERN} || $rank_pattern!.all(k, type({_KEPT}) != list || "
            f"k.endsWith('{SINGULAR_VALUES_SUFFIX}') || k.contains('{SINGULAR_VALUES_SUFFIX}.'))",
        ),
    ),
    "ADA310": (
        Constraint("rank_pattern", f"$inference_mode || {_NO_PATTERN} || !{_SOUND_PATTERN}"),
    ),
    "ADA311": (
        Constraint(
            "rank_pattern",
            f"{_NO_PATTERN} || !{_SOUND_PATTERN} || $rank_pattern!.exists(k, {_KEPT}.exists(e, e))",
        ),
    ),
    "ADA401": (Constraint("use_dora", "!$use_dora"),),
    "ADA402": (
        Constraint("loftq_config", "$loftq_config? || size($loftq_config!) == 0"),
        Constraint("init_lora_weights", "$init_lora_weights != 'loftq'"),
    ),
    "ADA403": tuple(
        Constraint(name, f"$target_modules? || type($target_modules!) != string || ${name}?")
        for name in ("layers_to_transform", "layers_pattern")
    ),
    "ADA404": (
        Constraint(
            "layers_pattern",
            "$layers_pattern? || size($layers_pattern!) == 0 || !$layers_to_transform?",
        ),
    ),
    "ADA405": _ignored(),
    "ADA407": (
        Constraint(
            "init_lora_weights",
            "type($init_lora_weights) != string || $init_lora_weights == 'loftq' || $lora_bias",
        ),
    ),
    "ADA408": (
        Constraint(
            "alora_invocation_tokens", f"{_NO_TOKENS} || $task_type? || $task_type! != 'CAUSAL_LM'"
        ),
        Constraint(
            "alora_invocation_tokens",
            f"{_NO_TOKENS} || (!$task_type? && $task_type! == 'CAUSAL_LM')",
            "warning",
        ),
    ),
    "ADA409": (Constraint("target_parameters", _NO_PARAMETERS),),
    "ADA410": (Constraint("ensure_weight_tying", "!$ensure_weight_tying"),),
    "ADA411": (
        Constraint("layer_replication", "$layer_replication? || size($layer_replication!) == 0"),
    ),
    "ADA412": (Constraint("lora_dropout", f"double($lora_dropout) <= {settings.HIGHEST_DROPOUT}"),),
    "ADA413": (
        Constraint(
            "lora_alpha",
            f"double($lora_alpha) / (double($init_r) + {SCALE_EPSILON}) >= "
            f"{settings.SMALLEST_SCALE}",
            message="'the effective scale is lora_alpha ' + string($lora_alpha) + ' / init_r ' + "
            "string($init_r)",
        ),
    ),
    "ADA414": (Constraint("target_modules", f"!$target_modules? || !{_NO_PARAMETERS}"),),
    "ADA416": (Constraint("init_lora_weights", "$inference_mode || $init_lora_weights != false"),),
    "ADA418": (Constraint("lora_bias", "!$lora_bias || type($init_lora_weights) != string"),),
    "ADA419": (Constraint("exclude_modules", _shares_nothing("exclude_modules")),),
    "ADA420": (Constraint("modules_to_save", _shares_nothing("modules_to_save")),),
    "ADA421": (
        Constraint(
            "target_modules",
            f"$target_modules? || size($target_modules!) > 0 || !{_NO_PARAMETERS}",
        ),
    ),
    "ADA423": (Constraint("trainable_token_indices", _SOUND_TOKENS),),
    "ADA506": tuple(
        Constraint(name, _names_alone(name)) for name in ("target_modules", "exclude_modules")
    ),
    "ADA507": tuple(
        Constraint(name, _names_that_match(name)) for name in ("target_modules", "exclude_modules")
    ),
    "ADA702": (Constraint("total_step", "!$inference_mode || !$total_step?"),),
    "ADA703": (Constraint("orth_reg_weight", "double($orth_reg_weight) != 0.0"),),
}
"""`{code: what must hold}`, of the runtime `peft`; several where severity or field differ."""

_BY_THE_SCHEMA = "the schema of a configuration states it"
_OF_THE_TEXT = "it is about the text, which is gone once a value is decoded"
_NEEDS_PYTHON = "it asks how Python reads a regular expression"

NOT_EXPRESSED: dict[str, str] = {
    "ADA001": _OF_THE_TEXT,
    "ADA002": _OF_THE_TEXT,
    "ADA003": "JSON has no such numbers",
    "ADA004": _OF_THE_TEXT,
    "ADA005": "it is a limit of the reader",
    "ADA006": "it is about a document without a configuration",
    "ADA007": _BY_THE_SCHEMA,
    "ADA008": _OF_THE_TEXT,
    "ADA009": _OF_THE_TEXT,
    "ADA102": _BY_THE_SCHEMA,
    "ADA103": _BY_THE_SCHEMA,
    "ADA104": f"{_BY_THE_SCHEMA}, with --strict-keys",
    "ADA105": f"{_BY_THE_SCHEMA}: peft_type is {PEFT_TYPE}",
    "ADA106": "an engine does not tell 12.0 from 12",
    "ADA107": _BY_THE_SCHEMA,
    "ADA108": "it depends on what Python takes for true inside runtime_config",
    "ADA204": _BY_THE_SCHEMA,
    "ADA205": "it reads the settings of the trainer around the configuration",
    "ADA305": "standard CEL cannot sum",
    "ADA406": _BY_THE_SCHEMA,
    "ADA422": "it is a rule of the runtime adalora-core",
    "ADA501": _NEEDS_PYTHON,
    "ADA502": _NEEDS_PYTHON,
    "ADA503": _NEEDS_PYTHON,
    "ADA504": "engines differ on which characters belong to a word",
    "ADA505": "standard CEL cannot split a string",
    "ADA601": _OF_THE_TEXT,
    "ADA602": _OF_THE_TEXT,
    "ADA603": _OF_THE_TEXT,
    "ADA604": _OF_THE_TEXT,
    "ADA605": _OF_THE_TEXT,
    "ADA606": _OF_THE_TEXT,
    "ADA607": _OF_THE_TEXT,
    "ADA608": _OF_THE_TEXT,
    "ADA701": "it depends on --peft-version",
    "ADA704": "standard CEL cannot compare versions",
    "ADA801": "it is your own schema",
    "ADA901": _OF_THE_TEXT,
    "ADA902": _OF_THE_TEXT,
}
"""`{code: why it has no expression}`."""
