"""List the probes of feature_comparison.py, one for each row of its page."""

from __future__ import annotations

import adapter_probes as adapters
import file_probes as files
import framework_probes as frameworks
import target_probes as targets
import torch
from adapter_probes import by_layer
from model_probes import (
    export_lora,
    mixed,
)
from probe_setting import Probe, has, only
from target_probes import IDS, Attention, learns
from torch import nn
from training_probes import (
    compaction,
    convolution,
    forgotten_call,
    quantised_looking,
    two_trainable,
)


def conv(kind: type[nn.Module]) -> nn.Module:
    """Return a model of one convolution."""
    return nn.Sequential(kind(4, 4, 3))


GROUPS: dict[str, list[Probe]] = {
    "Files": [
        Probe("export as plain LoRA", export_lora),
        Probe(
            "writes weights with torch.save (safe_serialization=False)",
            files.pickled,
            "refused: a pickle can run code when it is loaded",
        ),
        Probe("loads a file without total_step", files.without_total_step),
        Probe(
            "loads under other names of modules (key_mapping)",
            files.renamed_layers,
        ),
        Probe(
            "loads what fits (ignore_mismatched_sizes)",
            files.other_sizes,
            "refused: an adapter with gaps computes something else",
        ),
        Probe(
            "leaves factors on the meta device (get_peft_model with low_cpu_mem_usage)",
            files.on_meta,
            "the option is taken and changes nothing: factors are small and made once",
        ),
        Probe(
            "loads adapters of LoRA",
            files.other_method,
            "the package is for AdaLoRA alone; load it with PEFT",
        ),
    ],
    "Allocation": [
        Probe("warns if update_and_allocate is never called", forgotten_call),
        Probe("two trainable adapters", two_trainable),
        Probe("frees dropped triplets in training", only("adalora_core", compaction)),
        Probe(
            "averages and schedule of rankallocator",
            adapters.allocator_names,
            "read `model.base_model.adapters[name].allocator` and the configuration",
        ),
        Probe(
            "rankallocator.ipt, first read after zero_grad()",
            adapters.late_sensitivity,
            "multiply parameter and gradient before `zero_grad()`",
            "`ipt` is computed when it is read: read it before `zero_grad()`",
        ),
        Probe(
            "an allocator of one's own in place of rankallocator",
            adapters.replaced_allocator,
            "`importance_criterion` takes a function that scores",
            "refused by an error: the allocator is compiled",
        ),
        Probe(
            "rankallocator.mask_to_budget",
            adapters.masked,
            "call `model.update_and_allocate`, or `model.finalize()` at the end",
        ),
    ],
    "Layers": [
        Probe("Conv2d with groups", convolution(groups=2)),
        Probe("Conv2d with circular padding", convolution(padding=1, padding_mode="circular")),
        Probe("a linear module that hides its weight, as quantised ones do", quantised_looking),
        Probe("Conv1d of torch", learns(conv(nn.Conv1d), torch.randn(2, 4, 6), "0")),
        Probe("Conv3d", learns(conv(nn.Conv3d), torch.randn(2, 4, 6, 6, 6), "0")),
        Probe("Embedding", learns(nn.Sequential(nn.Embedding(16, 8)), IDS, "0")),
        Probe("MultiheadAttention", learns(Attention(), torch.randn(2, 3, 8), "attention")),
        Probe("scale_layer, unscale_layer", adapters.scaled),
        Probe(
            "set_adapter of one layer",
            by_layer("set_adapter", ["default"]),
            "use `model.set_adapter`",
        ),
        Probe(
            "reset_lora_parameters of one layer",
            by_layer("reset_lora_parameters", "default"),
            "use `delete_adapter`, then `add_adapter`",
        ),
        Probe(
            "get_base_weight of one layer",
            by_layer("get_base_weight"),
            "read `base_layer.weight`",
        ),
        Probe(
            "disable_input_dtype_casting of PEFT",
            adapters.inputs_as_they_are,
            "inputs always get the dtype of the factors",
        ),
    ],
    "Model": [
        Probe(
            "adapters of other methods in one model (PeftMixedModel)",
            only("peft", mixed),
            "use PEFT, or `export_lora()` and mix LoRA adapters",
        ),
        Probe(
            "layer_replication",
            targets.replicated,
            "stacked layers share weights, so their ranks cannot be allocated separately",
        ),
        Probe(
            "ensure_weight_tying",
            targets.tied_copies,
            "leave tied layers out of `modules_to_save`",
        ),
        Probe(
            "inject_adapter_in_model",
            adapters.injected,
            "use `get_peft_model`, or inject PEFT's configuration and `attach`",
        ),
        Probe(
            "inject_adapter of the tuner",
            adapters.injected_by_tuner,
            "use `model.add_adapter`",
        ),
    ],
    "Several adapters and merging": [
        Probe("set_adapter of the model with several names", adapters.together_by_model),
        Probe("another adapter for each row of a batch (adapter_names)", adapters.mixed_batch),
        Probe("load_adapter into an adapter that is there", adapters.swapped),
        Probe("hotswap_adapter of PEFT", adapters.hotswapped),
        Probe("set_requires_grad", adapters.frozen, "use `set_adapter`, with `inference_mode`"),
        Probe("convert_to_lora of PEFT", adapters.lora_of_any_rank),
    ],
    "Configuration": [
        Probe("numbers of NumPy", targets.numbers_of_numpy),
        Probe(
            "PeftConfig.from_pretrained: a configuration of any method",
            targets.any_method,
            "use PEFT's; what it returns for AdaLoRA is taken here",
        ),
        Probe(
            "AutoPeftModelForCausalLM: the base model by its name in the configuration",
            targets.base_by_name,
            "load the base model, then `AdaLoraModel.from_pretrained`",
        ),
    ],
    "Hub": [
        Probe(
            "push_to_hub of a configuration",
            files.pushed_config,
            "a configuration is nothing without its weights; use `model.push_to_hub`",
        ),
    ],
    "torch and other libraries": [
        Probe("FSDP2: train and save", frameworks.sharded),
        Probe("Trainer: a callback that allocates", frameworks.trainer_allocates),
    ],
    "Public names": [
        Probe(
            "get_layer_status, get_model_status",
            adapters.status,
            "PEFT's functions take our models",
        ),
        Probe(
            "get_base_model_state_dict",
            adapters.base_state,
            "`copy.deepcopy(model).unload().state_dict()` has the same names",
        ),
        Probe(
            "TaskType, PeftType",
            has("TaskType", "PeftType"),
            'pass the text: `task_type="CAUSAL_LM"`; PEFT\'s values are taken too',
        ),
        Probe(
            "PeftModelForCausalLM and the other classes of tasks",
            adapters.classes_of_tasks,
            "there is one class for all tasks",
        ),
    ],
}
