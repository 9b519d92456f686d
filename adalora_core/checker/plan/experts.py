"""Change the targets of LoRA as PEFT does for experts that transformers 5 stacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adalora_core.checker.plan.loaded import NAMES_OF_EXPERTS
from adalora_core.checker.plan.mismatches import Mismatch
from adalora_core.floor.module_selection import ModuleSelection, is_all_linear, saved_module_names

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel
    from adalora_core.config.fields.block import Block

_STACK = "gate_up_proj"


def as_converted(block: Block, model: BaseModel) -> tuple[Block, list[str], Mismatch | None]:
    """Return the configuration that PEFT makes of one for a mixture of experts, notes, a problem.

    Layers of experts in `target_modules` become `target_parameters`, the router's `gate` too. Any
    expression becomes a list of the last names that it matches, in all layers.
    """
    names = NAMES_OF_EXPERTS.get(model.model_type or "")
    if names is None or model.model_type == "qwen2_moe":
        return block, [], None
    gate, up, down = names
    renamed = {"gate": "gate.weight", gate: _STACK, up: _STACK, down: "down_proj"}
    targets, notes = block["target_modules"], []
    if isinstance(targets, str):
        last_names = sorted(_last_names(block, model, renamed))
        if not last_names:
            return block, [], None
        if not is_all_linear(targets):
            notes.append(
                "target_modules: for a mixture of experts PEFT replaces the expression by "
                f"{last_names}, in all layers"
            )
        targets = last_names
    found = {
        name: next((each for each in renamed if f".{name}".endswith(f".{each}")), None)
        for name in targets or ()
    }
    parts = {gate, up} & set(found.values())
    if len(parts) == 1:
        (part,) = parts
        other = up if part == gate else gate
        message = f"target_modules names {part}, and not {other}: the two are one parameter"
        hint = f"name both {gate} and {up}, or none of them"
        return block, [], Mismatch("target_modules", message, hint)
    new = {renamed[layer] for layer in found.values() if layer is not None}
    values: dict[str, Any] = {
        "target_modules": [name for name, layer in found.items() if layer is None],
        "target_parameters": sorted(new.union(block["target_parameters"] or ())),
    }
    if parts:
        # Both halves of the stack have the rank, so PEFT doubles rank and alpha.
        for field, name in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha")):
            values[field] = {**(block[field] or {}), rf".*\.{_STACK}": 2 * block[name]}
    if new:
        notes.append(
            "experts: transformers 5 holds the layers of a file as one parameter, so PEFT adapts "
            f"the parameters {', '.join(sorted(new))}"
        )
    return replace_values(block, **values), notes, None


def replace_values(block: Block, **values: Any) -> Block:
    """Return a block with other values of some fields."""
    return replace(block, values={**block.values, **values})


def _last_names(block: Block, model: BaseModel, renamed: dict[str, str]) -> set[str]:
    targets = block["target_modules"]
    if is_all_linear(targets):
        linear = (m for m in model.of_kind("matrix") if not model.is_output_head(m))
        return {module.name for module in linear} | renamed.keys()
    saved = saved_module_names(block["modules_to_save"], block["task_type"])
    selection = ModuleSelection(targets, block["exclude_modules"], saved=saved)

    def is_meant(path: str) -> bool:
        return selection.includes(path) and not selection.excludes(path)

    found = {each.rpartition(".")[2] for each in (*model.modules, *model.tensors) if is_meant(each)}
    for old, new in renamed.items():
        around = {
            name.rpartition(".")[0] for name in model.tensors if name.rpartition(".")[2] == new
        }
        if old not in found and any(is_meant(f"{path}.{old}") for path in sorted(around)):
            found.add(old)
    return found
