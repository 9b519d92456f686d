"""Judge plain LoRA, where PEFT is silent: targets, heads, new tokens, scale, inference_mode."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from adalora_core.checker.documents.python.script import Call
from adalora_core.checker.documents.python.syntax import keyword, last_name
from adalora_core.checker.rules.usage_base import CodeFault, UsageRule
from adalora_core.checker.rules.usage_frozen import (
    HeadStaysFrozen,
    TrainedForInference,
    configured,
)
from adalora_core.checker.rules.usage_models import name_of_base
from adalora_core.checker.rules.usage_setup import LoadedAdapterTrained, unfrozen
from adalora_core.checker.scripts.usage import Usage
from adalora_core.config.fields import known_modules as known
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import LORA
from adalora_core.config.findings import Severity
from adalora_core.config.rules.base import Findings
from adalora_core.config.rules.targets import meant_name
from adalora_core.floor.module_selection import is_all_linear

_SOUND = """\
from peft import LoraConfig, get_peft_model

base = AutoModelForCausalLM.from_pretrained("gpt2")
config = LoraConfig(
    task_type="CAUSAL_LM",
    r=16,
    lora_alpha=32,
    target_modules=["c_attn", "c_fc"],
)
model = get_peft_model(base, config)
Trainer(model=model, train_dataset=rows).train()
"""
_TOKENS = """\
tokenizer.add_tokens(["<note>", "<rest>"])
base.resize_token_embeddings(len(tokenizer))
config"""
_MOST_SHOWN = 8
_EMPTY: tuple[Any, ...] = (None, [], {})

LEAST_SCALE = 0.25
"""The smallest scale of a recipe in wide use: alpha 16 at rank 64, of the paper on QLoRA."""


class TargetsMissed(UsageRule):
    code = "ADA951"
    methods = (LORA,)
    needs = "nothing"  # configurations are judged too
    summary = "some targets of LoRA name no module of the base model, and others do"
    why = """PEFT raises if no target matches a module, and passes over single ones without a word:
    fewer layers are trained than were meant. Known are names of published models."""
    good = _SOUND
    bad = _SOUND.replace('"c_fc"', '"q_proj"')
    hint = "name modules of the base model; adalora plan FILE --weights MODEL shows what is matched"

    def check(self, block: Block) -> Findings:
        found = _missed(block["base_model_name_or_path"], block["target_modules"])
        if found is not None:
            severity: Severity | None = "info" if block.is_saved else None
            at = block.at("target_modules", found[0])
            yield self.found(at, found[1], severity=severity, hint=found[2])

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each configuration that is given to such a model."""
        for wrap, call in configured(usage):
            bases = {name_of_base(usage, each) for each in usage.origins(wrap.model)}
            base = bases.pop() if len(bases) == 1 else None
            found = _missed(base, call.values.get("target_modules"))
            if found is not None:
                yield CodeFault(call.entries["target_modules"][0], *found[1:])


def _missed(base: Any, names: Any) -> tuple[int, str, str | None] | None:
    """Return the place of the first target that a published model lacks, message and hint."""
    if not isinstance(base, str) or not isinstance(names, list):
        return None
    lasts = [str(name).rpartition(".")[2] for name in names]
    _, modules = known.modules_of(base)
    usual = modules | known.TOP
    missed = [
        i
        for i, last in enumerate(lasts)
        if last not in usual and not last.isdecimal() and not _is_misspelt(last)
    ]
    if not missed or modules.isdisjoint(lasts):
        return None
    from difflib import get_close_matches  # slow to import

    shown = ", ".join(repr(names[index])[:60] for index in missed[:_MOST_SHOWN])
    near = get_close_matches(lasts[missed[0]][:60], sorted(modules.difference(lasts)), n=1)
    message = f"PEFT passes over `target_modules` {shown}: {base!r} has no such module"
    return missed[0], message, f'did you mean "{near[0]}"?' if near else None


def _is_misspelt(last: str) -> bool:
    """Return whether rule unknown-target reports a name, and what was meant."""
    return known.kind_of(last) is None and meant_name(last, LORA) is not None


class LoraHeadFrozen(HeadStaysFrozen):
    code = "ADA952"
    methods = (LORA,)
    severity = "warning"
    summary = "a classifier gets a new head, and LoRA leaves it frozen"
    why = """A head for new labels begins with random weights. PEFT trains it beside the adapter for
    task_type SEQ_CLS and TOKEN_CLS only, under the names classifier and score, or where
    modules_to_save names it. Otherwise it says nothing: the adapter learns for a random head, which
    no saved file holds. So does one for a layer that a class of the script adds to a model."""
    good = _SOUND.replace("CausalLM", "SequenceClassification").replace(
        '"gpt2"', '"gpt2", num_labels=3'
    ).replace("CAUSAL_LM", "SEQ_CLS")  # fmt: skip
    bad = good.replace('    task_type="SEQ_CLS",\n', "")

    def new_head(self, usage: Usage, call: ast.Call) -> tuple[ast.Call, str] | None:
        """Return the new layer of a class of the script as well, around a published model."""
        owner = usage.class_of_call(call)
        return super().new_head(usage, call) if owner is None else _own_layer(usage, owner)

    def is_new(self, usage: Usage, call: ast.Call) -> bool:
        """Return whether nobody has trained the head of a model that is loaded."""
        given = keyword(call, "pretrained_model_name_or_path", at=0)
        name = str(None if given is None else usage.script.values.of(given))
        is_base = "/" not in name and bool(known.modules_of(name)[1])
        return (is_base or super().is_new(usage, call)) and not _TRAINED_HEAD.search(name)


def _own_layer(usage: Usage, owner: ast.ClassDef) -> tuple[ast.Call, str] | None:
    """Return the linear layer that a class puts beside a published model, and its name."""
    stored = [each for each in usage.scopes.attributes.items() if each[0][0] == owner.name]
    made = {b.value: key[1] for key, bindings in stored for b in bindings}
    calls = {last_name(call.func): call for call in made if isinstance(call, ast.Call)}
    is_filled = not _FILLS.isdisjoint(usage.scopes.callers) or "weight" in usage.stored
    is_head = "Linear" in calls and "from_pretrained" in calls and not is_filled
    return (calls["Linear"], made[calls["Linear"]]) if is_head else None


_FILLS = {"load_state_dict", "load_from_checkpoint", "load_model"}
"""Functions that may give a layer of the script's own weights that were trained before."""

_TRAINED_HEAD = re.compile(
    r"fine-?tuned|sst|nli|sentiment|emotion|toxic|reward|[-_]ner\b", re.IGNORECASE
)
"""What the name of a model says whose head was trained before."""


class NewTokensFrozen(UsageRule):
    code = "ADA953"
    methods = (LORA,)
    summary = "tokens are added, and LoRA leaves their rows of the embedding frozen"
    why = """resize_token_embeddings, of which setup_chat_format makes use, gives each new token a
    row of random or mean values. LoRA freezes the embedding, and "all-linear" does not reach it:
    the model learns around rows that stay as they are. PEFT says nothing. A token for padding alone
    needs no row."""
    good = _SOUND.replace("config", _TOKENS, 1).replace(
        "    r=16", "    trainable_token_indices=[50257, 50258],\n    r=16"
    )
    bad = _SOUND.replace("\nconfig", f"\n{_TOKENS}", 1)
    hint = """set trainable_token_indices to the new tokens, or modules_to_save to the embedding and
    the output layer"""

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each configuration of a model with new tokens."""
        callers = usage.scopes.callers
        chats = [each for each in callers.get("setup_chat_format", ()) if _lacks_chat(usage, each)]
        resizes = callers.get("resize_token_embeddings", ())
        enlarged = [getattr(each.func, "value", None) for each in resizes]
        words = (call for call in usage.scopes.calls if enlarged and _adds_words(usage, call))
        added = next(chain(chats, words), None)
        if added is None:
            return
        enlarged += [each for call in chats for each in (call, keyword(call, "model", at=0))]
        resized = {leaf for each in enlarged for leaf in usage.origins(each)}
        for wrap, call in configured(usage):
            models = {wrap.call, *usage.origins(wrap.model)}
            is_left = _leaves_embedding(call) and not unfrozen(usage, wrap.call)
            if is_left and not resized.isdisjoint(models):
                message = "the rows of the new tokens stay frozen, at their first values"
                yield CodeFault(call.node, message, note=(added, "the tokens are added here"))


_HAS_CHAT = re.compile("qwen|smol|chat|instruct|-it", re.IGNORECASE)
"""What the name of a model says whose vocabulary may have the tokens of ChatML."""


def _lacks_chat(usage: Usage, call: ast.Call) -> bool:
    """Return whether TRL's `setup_chat_format` surely adds tokens: not to a model for chats."""
    models = usage.origins(keyword(call, "model", at=0))
    names = [name_of_base(usage, model) or "" for model in models]
    return all(known.modules_of(name)[1] and not _HAS_CHAT.search(name) for name in names or [""])


def _adds_words(usage: Usage, call: ast.Call) -> bool:
    """Return whether a call adds tokens, other than one for padding, to a tokenizer."""
    name, words = last_name(call.func), keyword(call, *_WORDS)
    if name == "add_tokens":
        words = keyword(call, "new_tokens", at=0)
    elif name == "add_special_tokens":
        table = keyword(call, "special_tokens_dict", at=0)
        given = {} if table is None else usage.script.values.entries(table)
        words = next((given[key][1] for key in _WORDS if key in given), None)
    elif name != "from_pretrained":
        return False
    found = None if words is None else usage.script.values.of(words)
    listed = found if isinstance(found, list) else [found]
    return words is not None and any("pad" not in str(each).lower() for each in listed)


_WORDS = ("additional_special_tokens", "extra_special_tokens")


def _leaves_embedding(call: Call) -> bool:
    """Return whether a configuration surely trains nothing of an embedding."""
    fields = {"target_modules", "modules_to_save", "trainable_token_indices"}
    if call.is_open or fields & call.deferred:
        return False
    targets = call.values.get("target_modules")
    names = map(str, targets if isinstance(targets, list) else ())
    tops = known.TOP - {"dense", "fc1", "fc2"}  # which are inside of most models
    is_reached = any(n in tops or known.kind_of(n) != "linear" for n in names)
    is_read = targets is None or isinstance(targets, list) or is_all_linear(targets)
    saved = (call.values.get("modules_to_save"), call.values.get("trainable_token_indices"))
    return is_read and not is_reached and all(each in _EMPTY for each in saved)


class ScaleLeftSmall(UsageRule):
    code = "ADA954"
    methods = (LORA,)
    needs = "nothing"  # configurations are judged too
    summary = "LoRA's r is large and lora_alpha is left at its default, so the scale is small"
    why = f"""LoRA multiplies the product of its factors by lora_alpha / r (with use_rslora by
    lora_alpha / sqrt(r)). PEFT's default of lora_alpha is 8, which belongs to the default rank 8.
    At r 256 the scale is 0.031: the first step of Adam moves the model a 32nd as far as at a scale
    of 1. Reported is a scale below {LEAST_SCALE}, that of the paper on QLoRA (alpha 16 at rank 64),
    where lora_alpha is not written. An alpha that is written is taken as chosen."""
    good = _SOUND
    bad = _SOUND.replace("r=16", "r=256").replace("    lora_alpha=32,\n", "")
    hint = "set lora_alpha near r, which gives a scale of 1, and tune the learning rate"

    def check(self, block: Block) -> Findings:
        rank, alpha, start = block["r"], block["lora_alpha"], block["init_lora_weights"]
        is_left = "lora_alpha" not in block.values and not block.is_saved
        patterns = block["rank_pattern"] or block["alpha_pattern"]
        if not block.invalid.isdisjoint(_SCALES) or type(alpha) is not int or not is_left:
            return
        if patterns or (isinstance(start, str) and start != "gaussian") or rank <= 0:
            return
        root = bool(block["use_rslora"])
        scale = alpha / (math.sqrt(rank) if root else rank)
        if scale < LEAST_SCALE:
            shown = f"sqrt({rank})" if root else rank
            message = (
                f"`lora_alpha` is {alpha} by default: a scale of {alpha} / {shown} = {scale:.3g}"
            )
            yield self.found(block.at("r"), message)


_SCALES = {
    "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights",
}  # fmt: skip


class LoraTrainedForInference(TrainedForInference):
    code = "ADA955"
    errors = ("element 0 of tensors does not require grad",)
    methods = (LORA,)
    needs = "nothing"  # configurations are judged too
    summary = """inference_mode is true in a configuration of LoRA that is trained with, or a loop
    trains on in evaluation mode"""
    why = """PEFT freezes the factors of such an adapter without a word: no parameter has a
    gradient, so nothing is trained, or `loss.backward()` raises. A saved adapter has the setting
    rightly, and so has a configuration with which an adapter is loaded, but not one that is read
    from a saved adapter for a new one. PeftModel.from_pretrained sets it unless is_trainable is
    true."""
    good = _SOUND
    bad = _SOUND.replace("r=16", "inference_mode=True,\n    r=16")

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        yield from super().check_usage(usage)
        for fault in LoadedAdapterTrained().check_usage(usage):
            yield fault._replace(hint=LoadedAdapterTrained.hint)

    def check(self, block: Block) -> Findings:
        root = block.root if isinstance(block.root, dict) else {}
        parts = [root, *(part for part in root.values() if isinstance(part, dict))]
        if block.path and block.is_saved and any(_RUN & part.keys() for part in parts):
            message = "the adapter is made for inference, beside the settings of a training"
            yield self.found(block.at("inference_mode"), message)


_RUN = {"learning_rate", "lr", "num_train_epochs", "per_device_train_batch_size"}
"""Settings of a training."""
