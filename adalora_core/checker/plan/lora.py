"""Match a configuration of LoRA, rsLoRA or DoRA against a model, as PEFT injects it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.plan.costs import trained_whole
from adalora_core.checker.plan.experts import as_converted
from adalora_core.checker.plan.header import TensorInfo
from adalora_core.checker.plan.loaded import as_loaded
from adalora_core.checker.plan.lora_layers import Adapted, Layers, dtype_of
from adalora_core.checker.plan.matching import Targets, copies_that_break, select
from adalora_core.checker.plan.mismatches import Mismatch, absent_names, few, shown_value
from adalora_core.config.fields.known_modules import usual_targets
from adalora_core.config.fields.table import FIELDS
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.module_selection import DEFAULT_TARGETS, endings, saved_module_names
from adalora_core.floor.rank_pattern import TENSOR_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from adalora_core.checker.plan.modules import BaseModel, Module
    from adalora_core.config.fields.block import Block

Use = Literal["counted", "noted", "refused", "without effect"]
_FIELDS_BY_USE: dict[Use, str] = {
    "counted": "alpha_pattern bias exclude_modules fan_in_fan_out layers_pattern lora_alpha "
    "layers_to_transform lora_bias lora_dropout modules_to_save r rank_pattern target_modules "
    "target_parameters task_type trainable_token_indices use_dora use_rslora",
    "noted": "ensure_weight_tying eva_config layer_replication",
    "refused": "arrow_config kasa_config megatron_config monteclora_config use_bdlora use_qalora",
    "without effect": "alora_invocation_tokens auto_mapping base_model_name_or_path corda_config "
    "inference_mode init_lora_weights loftq_config lora_ga_config megatron_core peft_type "
    "peft_version qalora_group_size revision runtime_config velora_config",
}
_QV = ("q_proj", "v_proj")
LORA_TARGETS: dict[str, Targets] = {
    **DEFAULT_TARGETS,
    **dict.fromkeys(("bart", "mistral", "mixtral", "opt", "stablelm"), _QV),
    **dict.fromkeys(("electra", "layoutlm", "roberta", "xlm-roberta"), ("query", "value")),
    **dict.fromkeys(("RefinedWeb", "RefinedWebModel", "chatglm", "falcon"), ("query_key_value",)),
    **dict.fromkeys(("mt5", "t5"), ("q", "v")),
    "blip-2": ("q", "v", *_QV),
    "btlm": ("c_proj", "c_attn"),
    "codegen": ("qkv_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "mpt": ("Wqkv",),
    "phi": (*_QV, "fc1", "fc2"),
    "rwkv": ("key", "value", "receptance", "output"),
    "rwkv7": ("r_proj", "k_proj", "v_proj", "o_proj", "key", "value"),
}
"""The modules that LoRA adapts where a configuration names none, as in PEFT 0.21."""

USES = {name: use for use, names in _FIELDS_BY_USE.items() for name in names.split()}
"""`{field of PEFT's LoraConfig: what the plan makes of it}`; a refused field has no plan."""


@dataclass(frozen=True, slots=True)
class LoraMatch:
    """The result of matching LoRA against a model.

    The configuration is as PEFT changes it for the model, and the model as transformers holds it.
    `whole` are tensors of the model that are trained themselves, `tokens` the numbers of rows that
    are trained by their embedding, `missed` usual targets of the architecture without an adapter,
    and `carried` tensors of the model that PEFT saves without training them.
    """

    block: Block
    model: BaseModel
    adapted: tuple[Adapted, ...] = ()
    whole: tuple[str, ...] = ()
    tokens: Mapping[str, int] | None = None
    problems: tuple[Mismatch, ...] = ()
    notes: tuple[str, ...] = ()
    missed: tuple[Module, ...] = ()
    carried: tuple[str, ...] = ()

    @property
    def trained(self) -> int:
        """Number of numbers that are trained."""
        return sum(each.entries for each in self._trained().values())

    @property
    def beside(self) -> int:
        """Number of trained numbers that are in no adapter."""
        return self.trained - sum(each.entries for each in self.adapted)

    @property
    def training_bytes(self) -> int:
        """Bytes of what is trained, its gradients and the two moments of AdamW."""
        return 4 * sum(each.data_bytes for each in self._trained().values())

    def file(self) -> dict[str, TensorInfo]:
        """Return the tensors of the saved file by their names."""
        carried = enumerate(self.carried)
        more = {_wrapped(name, f"base_layer.{n}"): self.model.tensors[name] for n, name in carried}
        return {TENSOR_PREFIX + name: info for name, info in (self._trained() | more).items()}

    def _trained(self) -> dict[str, TensorInfo]:
        """Return what is trained by the names in the file."""
        found = {
            f"{each.owner}.{name}": TensorInfo(each.dtype, shape)
            for each in self.adapted
            for name, shape in each.tensors.items()
        }
        owners = {each.owner for each in self.adapted}
        for name in self.whole:
            is_inside = name.rpartition(".")[0] in owners
            found[_wrapped(name, "base_layer") if is_inside else name] = self.model.tensors[name]
        for path, count in (self.tokens or {}).items():
            info = self.model.tensors[f"{path}.weight"]
            rows = TensorInfo(dtype_of(info.dtype), (count, *info.shape[1:]))
            found[f"{path}.token_adapter.trainable_tokens_delta"] = rows
        return found


def _wrapped(name: str, middle: str) -> str:
    path, _, last = name.rpartition(".")
    return f"{path}.{middle}.{last}"


def match_lora(block: Block, model: BaseModel) -> LoraMatch:
    """Match a configuration of LoRA against the model that a header describes."""
    model = as_loaded(model)
    if problems := tuple(refusals(block)):
        return LoraMatch(block, model, problems=problems)
    try:
        block, notes, problem = as_converted(block, model)
        if problem is not None:
            return LoraMatch(block, model, problems=(problem,))
        return _matched(block, model, notes)
    except ExpressionError as error:
        problem = Mismatch(error.field, f"{error.field}: {error.problem}", error.hint)
    except (re.error, ValueError) as error:
        message = f"an expression cannot be matched: {error}"
        problem = Mismatch("target_modules", message, "write a valid expression")
    return LoraMatch(block, model, problems=(problem,))


def refusals(block: Block) -> Iterator[Mismatch]:
    """Yield the reasons why no plan can be made, or PEFT refuses the configuration itself."""
    read = {name for name, use in USES.items() if use in {"counted", "noted"}} - {*_NUMBERS}
    for name in sorted((block.invalid - block.deferred) & read):
        kinds = " or ".join(kind.phrase for kind in FIELDS[name].kinds)
        message = f"{name} should be {kinds}, got {shown_value(block[name])}"
        yield Mismatch(name, message, "write a value that PEFT takes")
    yield from _no_numbers(block)
    yield from _no_expressions(block)
    others = [name for name, use in USES.items() if use == "refused" and block[name]]
    if block["init_lora_weights"] == "mica":
        others.append("init_lora_weights")
    for name in others:
        message = f"{name} changes which tensors are trained, and is not planned"
        yield Mismatch(name, message, f"plan without {name}")
    for name in ("layers_to_transform", "layers_pattern"):
        if isinstance(block["target_modules"], str) and block[name] is not None:
            message = f"PEFT refuses {name} beside a text in target_modules"
            yield Mismatch(name, message, "list names in target_modules, or remove it")
    if block["use_dora"] and block["lora_bias"]:
        yield Mismatch("lora_bias", "PEFT refuses lora_bias with use_dora", "remove one of them")
    for name in saved_module_names(block["modules_to_save"], block["task_type"]):
        if any(part.endswith(name) for part in _INSIDE):
            message = f"modules_to_save {name!r} also ends the name of a part of each adapter"
            yield Mismatch("modules_to_save", message, "write more of the path")


_NUMBERS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}
_INSIDE = ("base_layer", "lora_dropout", "lora_A", "lora_B", "lora_magnitude_vector")


def _no_expressions(block: Block) -> Iterator[Mismatch]:
    for name in ("target_modules", "exclude_modules", "layers_pattern", *_NUMBERS.values()):
        value = block[name] or ()
        is_names = isinstance(value, list) and name != "layers_pattern"
        for text in () if is_names else [value] if isinstance(value, str) else value:
            if error := block.expressions.judge(text).error:
                message = f"{name}: {text!r} is not a regular expression: {error}"
                yield Mismatch(name, message, "write a valid expression")


def _no_numbers(block: Block) -> Iterator[Mismatch]:
    for name, pattern in _NUMBERS.items():
        entries = block[pattern] if isinstance(block[pattern], dict) else {}
        numbers = {name: block.values.get(name, block[name])}
        numbers |= {f"{pattern}[{key!r}]": value for key, value in entries.items()}
        for place, value in numbers.items():
            is_number = type(value) is int or (type(value) is float and name == "lora_alpha")
            if not is_number or value <= 0:
                message = f"{place} should be a number above 0, got {shown_value(value)}"
                yield Mismatch(place.partition("[")[0], message, "write one number")


def _matched(block: Block, model: BaseModel, notes: list[str]) -> LoraMatch:
    parameters = _parameters(block, model)
    found = select(block, model, LORA_TARGETS)
    layers = Layers(block, model)
    # Beside parameters PEFT needs no module.
    problems, ignored = ([], found.problems) if parameters else (found.problems, [])
    layers.problems += problems
    is_set = block["target_modules"] or model.model_type in LORA_TARGETS
    notes += [*found.notes, *(each.message for each in ignored if is_set)]
    layers.problems += copies_that_break(block, model, found.in_copies)
    noted = [name for name, use in USES.items() if use == "noted" and block[name]]
    notes += [f"{name} is not counted" for name in noted if name != "layer_replication"]
    made = [each for module in found.matrices for each in layers.of_module(module)]
    targeted = {each.path for each in found.matrices}
    left = Counter(name.rpartition(".")[0] for name in parameters)
    for name in parameters:
        # PEFT wraps the first parameter of a module, then that wrapper, and so on.
        left[name.rpartition(".")[0]] -= 1
        made += layers.of_parameter(name, targeted, left[name.rpartition(".")[0]])
    notes += few(layers.unused_patterns())
    if not found.problems and not isinstance(found.targets, str):
        notes += few(_left_out(found.targets, made, model))
    tokens = layers.tokens({each.path for each in made})
    owners = (each.owner.replace(".base_layer", "") for each in made if each.kind != "embedding")
    whole = trained_whole(block["bias"], found.saved, owners, model)
    return LoraMatch(
        block, model, tuple(made), tuple(whole), tokens,
        tuple(layers.problems), tuple(notes), tuple(_missed(model, made)),
        tuple(_carried(block, model, made, found.saved)),
    )  # fmt: skip


def _left_out(targets: Iterable[str], made: Iterable[Adapted], model: BaseModel) -> Iterator[str]:
    """Yield a note for each target whose modules get no adapter for the sake of other settings."""
    names = [f".{name}" for name in targets]
    unknown = set(absent_names(names, (f".{path}" for path in model.modules)))
    for name in absent_names(names, (f".{each.path}" for each in made)):
        if name not in unknown:
            yield f"target_modules: {name[1:]!r} is excluded, copied, or in no layer asked for"


def _parameters(block: Block, model: BaseModel) -> list[str]:
    """Return the parameters that `target_parameters` names, in the order of their modules."""
    wanted = frozenset(block["target_parameters"] or ())
    names = [name for name in model.tensors if any(end in wanted for end in endings(name))]
    return sorted(names, key=lambda name: (name.rpartition(".")[0], "down" in name))


_SAVED_EMBEDDINGS = ("embed_tokens", "lm_head")


def _carried(
    block: Block, model: BaseModel, made: Iterable[Adapted], saved: Iterable[str]
) -> Iterator[str]:
    """Yield tensors that PEFT saves without training them, as often as it does.

    Of adapted embeddings and heads if a target names them; of the output of an attention that is a
    target beside it; biases of copied modules, if all biases are trained.
    """
    if block["bias"] == "all":
        yield from (name for name in saved if name.endswith(".bias") for _ in range(2))
    adapted = {each.path for each in made}
    inner = [f"{each.path}.out_proj" for each in made if each.kind == "attention"]
    paths = [path for path in inner if path in adapted]
    targets = block["target_modules"]
    if isinstance(targets, str):
        ends = tuple(f".{name}" for name in _SAVED_EMBEDDINGS)
        is_named = any(f".{path}".endswith(ends) for path in adapted)
    else:
        is_named = any(name in (targets or ()) for name in _SAVED_EMBEDDINGS)
    if is_named and block["trainable_token_indices"] is None:
        heads = [each.path for each in model.of_kind("matrix") if model.is_output_head(each)]
        words = [model.words.path] if model.words else []
        paths += [path for path in (*words, *heads) if path in adapted]
    for path in paths:
        names = (f"{path}.weight", f"{path}.bias")
        yield from (name for name in names if name in model.tensors)


def _missed(model: BaseModel, made: Iterable[Adapted]) -> Iterator[Module]:
    adapted = {each.path for each in made}
    linear = [m for m in model.of_kind("matrix", "packed") if not model.is_output_head(m)]
    default = LORA_TARGETS.get(model.model_type or "")
    names = {module.name for module in linear}
    usual = default if isinstance(default, tuple) else usual_targets(names, model.model_type)
    return (each for each in linear if each.name in usual and each.path not in adapted)
