"""Family ADA4xx, first part: settings that AdaLoRA rejects or that break it later."""

from __future__ import annotations

import math
import re
from typing import ClassVar

from adalora_core.config.fields.block import Block, is_large
from adalora_core.config.fields.known_modules import INPUT_EMBEDDINGS
from adalora_core.config.findings import Put, Remedy, Severity
from adalora_core.config.rules.base import SOUND, SOUND_LORA, Findings, LoraRule, Rule, SharedRule
from adalora_core.floor.adapter_spec import LORA_START

NOT_TRAINED_HERE = ("layer_replication", "ensure_weight_tying")
"""Settings that `get_peft_model` of this package refuses."""


class DoraUnsupported(Rule):
    code = "ADA401"
    errors = ("does not support DoRA",)
    summary = "use_dora is true"
    why = """AdaLoRA has no magnitude vector: PEFT raises a ValueError when the configuration is
    built."""
    bad = SOUND | {"use_dora": True}
    hint = "remove use_dora; DoRA works with LoraConfig"
    inputs = ("use_dora",)

    def check(self, block: Block) -> Findings:
        if block["use_dora"] is True:
            yield self.found(block.at("use_dora"), "ADALORA does not support DoRA.")


class LoftqUnsupported(Rule):
    code = "ADA402"
    errors = ("does not support LOFTQ",)
    summary = "loftq_config is not empty, or init_lora_weights is loftq"
    why = """LoftQ fits LoRA's two factors to the quantisation error, and AdaLoRA has three factors.
    PEFT raises a ValueError for init_lora_weights loftq. Without it PEFT empties the loftq_config
    with a warning, so there the finding is only a warning under the runtime peft."""
    bad = SOUND | {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}
    hint = "remove loftq_config, and set init_lora_weights to true"
    unsafe_fix = "init_lora_weights becomes true; loftq_config stays and must be removed by hand"
    inputs = ("loftq_config", "init_lora_weights")

    def check(self, block: Block) -> Findings:
        needed = block["init_lora_weights"] == "loftq"
        if block["loftq_config"]:
            yield self.found(
                block.at("loftq_config"),
                "ADALORA does not support LOFTQ: `loftq_config` is set",
                "key",
                severity=None if needed or block.runtime != "peft" else "warning",
                hint="remove loftq_config",
            )
        if needed:
            yield self.found(
                block.at("init_lora_weights"),
                "ADALORA does not support LOFTQ: `init_lora_weights` is 'loftq'",
                hint="set init_lora_weights to true",
                remedy=Remedy(
                    "Set init_lora_weights to true",
                    Put(block.at("init_lora_weights"), True),
                    is_safe=False,
                ),
            )


class LayersWithRegex(SharedRule):
    code = "ADA403"
    errors = ("`layers_to_transform` cannot be used when `target_modules` is a str",)
    summary = "layers_to_transform or layers_pattern is set beside a target_modules string"
    why = """A string is matched as a regular expression over the whole module path, so the layer
    index can be part of it. PEFT raises a ValueError for the combination. The runtime adalora-core
    would adapt every layer; it loads a saved adapter with a warning."""
    bad = SOUND | {"target_modules": r".*\.q_proj", "layers_to_transform": [0, 1]}
    hint = "write target_modules as a list, or put the layers into the regular expression"
    inputs = ("target_modules", "layers_to_transform", "layers_pattern")

    def check(self, block: Block) -> Findings:
        if not isinstance(block["target_modules"], str):
            return
        for name in ("layers_to_transform", "layers_pattern"):
            if block[name] is not None:
                yield self.found(
                    block.at(name),
                    f"`{name}` cannot be used when `target_modules` is a str.",
                    "key",
                    severity="warning" if block.is_saved and block.runtime != "peft" else None,
                    related=((block.at("target_modules"), "target_modules is a string"),),
                )


class LayersPatternAlone(SharedRule):
    code = "ADA404"
    errors = ("When `layers_pattern` is specified, `layers_to_transform` must also be specified",)
    summary = "layers_pattern is set without layers_to_transform"
    why = """layers_pattern names the list that the indices of layers_to_transform count in, so
    alone it has no meaning. PEFT raises a ValueError; the runtime adalora-core ignores it, which is
    a warning."""
    bad = SOUND | {"layers_pattern": "layers"}
    hint = "set layers_to_transform, or remove layers_pattern"
    inputs = ("layers_to_transform", "layers_pattern")

    def check(self, block: Block) -> Findings:
        if block["layers_pattern"] and block["layers_to_transform"] is None:
            yield self.found(
                block.at("layers_pattern"),
                "When `layers_pattern` is specified, `layers_to_transform` must also be specified.",
                "key",
                severity=None if block.runtime == "peft" else "warning",
            )


class AlphaNotPositive(Rule):
    code = "ADA406"
    summary = "lora_alpha is zero or negative"
    why = """PEFT silently uses the rank in place of such a lora_alpha. After pruning and reloading
    the rank differs, so the same adapter gives different outputs. Where nothing is pruned the
    finding is only a warning."""
    bad = SOUND | {"lora_alpha": 0}
    hint = "set lora_alpha to at least 1; a value equal to init_r gives a scale of 1"
    unsafe_fix = "lora_alpha becomes init_r, the value that PEFT uses in its place at the start"

    def check(self, block: Block) -> Findings:
        value = block["lora_alpha"]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and value <= 0 and not is_large(block, "lora_alpha"):
            path, start = block.at("lora_alpha"), block["init_r"]
            remedy = Remedy(f"Set lora_alpha to init_r, {start}", Put(path, start), is_safe=False)
            got = "NaN" if math.isnan(block.values["lora_alpha"]) else value
            fails = _is_pruned(block) or block.runtime != "peft"
            yield self.found(
                path,
                f"`lora_alpha` should be above 0, got {got}",
                severity=None if fails else "warning",
                remedy=None if "init_r" in block.invalid else remedy,
            )


def _is_pruned(block: Block) -> bool:
    """Return whether matrices lose triplets: in the run, or in that of the saved adapter."""
    if not block.is_saved:
        return block.allocates
    pattern = {} if "rank_pattern" in block.invalid else block["rank_pattern"] or {}
    return any(isinstance(kept, list) and not all(kept) for kept in pattern.values())


class AloraBreaks(Rule):
    code = "ADA408"
    summary = "alora_invocation_tokens is set"
    why = """For causal language models PEFT passes the tokens' offsets to AdaLoRA's layers. The
    layers pass them to the base layer, which raises a TypeError at the first forward. Other tasks,
    and the runtime adalora-core, ignore the setting."""
    bad = SOUND | {"task_type": "CAUSAL_LM", "alora_invocation_tokens": [1, 2]}
    hint = "remove alora_invocation_tokens"
    inputs = ("alora_invocation_tokens", "task_type")

    def check(self, block: Block) -> Findings:
        if not block["alora_invocation_tokens"]:
            return
        severity: Severity = "warning"
        effect = "is ignored by AdaLoRA"
        if block["task_type"] == "CAUSAL_LM" and block.runtime == "peft":
            effect = "breaks AdaLoRA's forward: SVDLinear does not take `alora_offsets`"
            severity = "error"
        at = block.at("alora_invocation_tokens")
        yield self.found(at, f"`alora_invocation_tokens` {effect}", "key", severity=severity)


class TargetParametersBreak(Rule):
    code = "ADA409"
    summary = "target_parameters is set"
    why = """AdaLoRA adapts modules, not single parameters. PEFT passes `parameter_name` to a
    function of AdaLoRA that has no such argument: a TypeError when the adapter is injected. The
    runtime adalora-core would ignore them; it loads a saved adapter with a warning."""
    bad = SOUND | {"target_parameters": ["mlp.experts.gate_up_proj"]}
    hint = "name modules in target_modules instead"
    inputs = ("target_parameters",)

    def check(self, block: Block) -> Findings:
        if block["target_parameters"]:
            yield self.found(
                block.at("target_parameters"),
                "`target_parameters` breaks AdaLoRA: it adapts modules only",
                "key",
                severity="warning" if block.is_saved and block.runtime != "peft" else None,
            )


class TyingBreaks(Rule):
    code = "ADA410"
    severity = "warning"
    summary = "ensure_weight_tying is true"
    why = """ensure_weight_tying works for modules_to_save and trainable tokens. If a target module
    is tied to the embedding, PEFT adds the embedding to the targets. AdaLoRA has no embedding
    layer, so injection fails."""
    bad = SOUND | {"ensure_weight_tying": True}
    comes_with = ("ADA410",)
    hint = "remove ensure_weight_tying unless only modules_to_save are tied"
    inputs = ("ensure_weight_tying",)

    def check(self, block: Block) -> Findings:
        if block["ensure_weight_tying"] is True:
            fault = "fails at injection if a target module is tied to an embedding"
            at = block.at("ensure_weight_tying")
            yield self.found(at, f"`ensure_weight_tying` {fault}", "key")


class ReplicationMerge(Rule):
    code = "ADA411"
    severity = "warning"
    summary = "layer_replication is set"
    why = """Replicated layers share their base weight. PEFT's check against merging them does not
    notice this setting, so merge_and_unload adds several adapters to one weight."""
    bad = SOUND | {"layer_replication": [[0, 4], [2, 6]]}
    hint = "do not merge this adapter"
    inputs = ("layer_replication",)

    def check(self, block: Block) -> Findings:
        if block["layer_replication"]:
            message = "`layer_replication` makes merging wrong: replicated layers share one weight"
            yield self.found(block.at("layer_replication"), message, "key")


class LoraBiasConflict(SharedRule):
    code = "ADA418"
    summary = "lora_bias is true together with a named initialisation"
    why = "PEFT raises a ValueError: lora_bias needs init_lora_weights to be true or false."
    bad = SOUND | {"lora_bias": True, "init_lora_weights": "gaussian"}
    hint = "remove lora_bias (AdaLoRA does not read it), and set init_lora_weights to true"
    inputs = ("lora_bias", "init_lora_weights")

    def check(self, block: Block) -> Findings:
        start = block["init_lora_weights"]
        if block["lora_bias"] is True and isinstance(start, str):
            yield self.found(
                block.at("lora_bias"),
                f"`lora_bias` cannot be combined with `init_lora_weights` {start!r}",
                "key",
                hint="remove lora_bias (AdaLoRA does not read it)" if start == LORA_START else None,
                related=((block.at("init_lora_weights"), "the initialisation"),),
            )


class NotTrainedHere(Rule):
    code = "ADA422"
    severity = "warning"
    summary = "a setting is supported by PEFT's models and not by those of adalora_core"
    why = f"""Checked under --runtime adalora-core. get_peft_model of adalora_core raises a
    ValueError for {", ".join(NOT_TRAINED_HERE)} instead of ignoring them: an error where a script
    imports AdaLoraConfig from adalora_core. A model that PEFT builds supports them, also under the
    bridge: no finding where a script imports the class from adalora_core.peft or PEFT."""
    bad = SOUND | {"ensure_weight_tying": True}
    comes_with = ("ADA410",)
    example_options: ClassVar = {"runtime": "adalora-core"}
    hint = "remove the setting, or let PEFT build the model: import from adalora_core.peft"
    inputs = NOT_TRAINED_HERE

    def check(self, block: Block) -> Findings:
        is_ours = block.runtime == "adalora-core" and block.door in {"own", None}
        for name in NOT_TRAINED_HERE if is_ours else ():
            if block[name]:
                message = f"`{name}`: get_peft_model of adalora_core raises ValueError"
                if block.door is None:
                    message += "; a model that PEFT builds supports the setting under the bridge"
                severity: Severity | None = "error" if block.door == "own" else None
                yield self.found(block.at(name), message, "key", severity=severity)


class TokenIndicesBreak(SharedRule):
    code = "ADA423"
    summary = "trainable_token_indices has a wrong index, or an embedding that is trained in full"
    why = """PEFT copies the rows of these indices at every forward. An empty list becomes a
    floating-point index, and a negative index is not counted from the end. The first step raises.
    An embedding that modules_to_save trains in full cannot have single rows trained too: PEFT
    raises when the adapter is injected, or at the first step. adalora_core refuses all of these."""
    bad = SOUND | {"trainable_token_indices": [-1]}
    hint = "list the token ids that are to be trained, or remove trainable_token_indices"
    inputs = ("trainable_token_indices", "modules_to_save")

    def check(self, block: Block) -> Findings:
        value = block["trainable_token_indices"]
        if value is None or (not value and block.runtime != "peft"):
            return
        lists = {(): value} if isinstance(value, list) else {(k,): v for k, v in value.items()}
        for subpath, indices in lists.items():
            path = block.at("trainable_token_indices", *subpath)
            if subpath == ("",):
                yield self.found(path, "`trainable_token_indices` has an empty name", "key")
            if not indices:
                yield self.found(path, "`trainable_token_indices` has an empty list")
            for index, token in enumerate(indices):
                if token < 0:
                    wrong = f"should hold no negative index, got {token}"
                    yield self.found((*path, index), f"`trainable_token_indices` {wrong}")
        for index, name in enumerate(block["modules_to_save"] or ()):
            if isinstance(value, dict):
                is_same = any(key.endswith(name) or name.endswith(key) for key in value)
            else:
                last = name.rpartition(".")[2]
                is_same = any(last == each or each.endswith(name) for each in INPUT_EMBEDDINGS)
            if is_same:
                yield self.found(
                    block.at("modules_to_save", index),
                    f"`modules_to_save` {name!r} is also in `trainable_token_indices`: the "
                    "embedding is trained in full, or some of its rows",
                    hint="remove it from one of the two",
                )


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

    def check(self, block: Block) -> Findings:
        start, at = block["init_lora_weights"], block.at("init_lora_weights")
        if start == "loftq" and not block["loftq_config"]:
            message = "`loftq_config` must be specified when `init_lora_weights` is 'loftq'"
            yield self.found(at, message, hint='set loftq_config, such as {"loftq_bits": 4}')
        elif isinstance(start, str) and start and not _STARTS.fullmatch(start):
            yield self.found(at, f"Unknown initialization init_lora_weights={start!r}")


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

    def check(self, block: Block) -> Findings:
        for name in ("lora_bias", "megatron_config") if block["use_dora"] else ():
            if block[name]:
                message = f"`{name}` is not supported for DoRA, and `use_dora` is true"
                yield self.found(block.at(name), message, "key")
