"""List the probes of feature_comparison.py, one for each row of its page."""

from __future__ import annotations

import adapter_probes as adapters
import file_probes as files
import framework_probes as frameworks
import target_probes as targets
import torch
from adapter_probes import by_layer
from file_probes import loads_with, on_a_hub
from model_probes import (
    adapter_name,
    between_allocations,
    default_targets,
    disable,
    evaluation_loss,
    exchanged,
    export_lora,
    labels_when_frozen,
    merge,
    met,
    mixed,
    pattern_with_name,
    save_and_load,
    scale,
    second_generation,
    several_for_inference,
    token_rows,
    unmerge,
)
from probe_setting import Probe, Small, builds, has, make, only, refuses, round_trip, train, trained
from target_probes import IDS, Attention, learns, quantised
from torch import nn
from training_probes import (
    compaction,
    conv1d,
    convolution,
    forgotten_call,
    jumping_steps,
    low_precision,
    no_final_phase,
    no_signal,
    overflow,
    quantised_looking,
    resume,
    two_trainable,
)


def conv(kind: type[nn.Module]) -> nn.Module:
    """Return a model of one convolution."""
    return nn.Sequential(kind(4, 4, 3))


GROUPS: dict[str, list[Probe]] = {
    "Files": [
        Probe("reads what the other library wrote", exchanged),
        Probe("saves and loads pruned adapters", trained(save_and_load)),
        Probe("saves and loads a module at rank 0", trained(save_and_load, target_r=1)),
        Probe("rank pattern keys with the adapter's name", pattern_with_name),
        Probe("an adapter name that is part of a module's path", adapter_name),
        Probe("saves between two allocations what the model computes", between_allocations),
        Probe("trains, saves and loads a loaded adapter again", second_generation),
        Probe(
            "low-memory load of a pruned adapter",
            lambda library: round_trip(library, train(make(library)), low_cpu_mem_usage=True),
        ),
        Probe("float32 adapters on a bfloat16 base come back bit for bit", low_precision),
        Probe("stopped and resumed, the run ends at its budget", resume),
        Probe("export as plain LoRA", export_lora),
        Probe("reads weights written with torch.save", files.reads_pickled),
        Probe(
            "writes weights with torch.save (safe_serialization=False)",
            files.pickled,
            "refused: a pickle can run code when it is loaded",
        ),
        Probe(
            "saves the embeddings of the base model (save_embedding_layers=True)",
            files.with_embeddings,
        ),
        Probe("saves chosen adapters (selected_adapters)", files.selected),
        Probe("loads from a subfolder", files.subfolder),
        Probe("loads with a configuration of one's own (config)", files.with_config),
        Probe("loads a file without total_step", files.without_total_step),
        Probe("loads to a device (torch_device)", loads_with(torch_device="cpu")),
        Probe("autocast_adapter_dtype", loads_with(autocast_adapter_dtype=False)),
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
        Probe("copies of a model, torch.save of the whole", files.deep_copy),
    ],
    "Allocation": [
        Probe("update_and_allocate(step), 0-based, after optimizer.step()", trained(met)),
        Probe("allocates every deltaT steps", trained(met, deltaT=4)),
        Probe("deltaT longer than the budgeting phase", trained(met, deltaT=100)),
        Probe("the scale stays lora_alpha / (init_r + 1e-5) on a float64 base", scale),
        Probe("equal ranks train", builds(init_r=4, target_r=4)),
        Probe("an overflow step does not stop pruning", overflow),
        Probe(
            "an adapted module that the forward pass does not use",
            lambda library: train(make(library, Small(use=False))),
        ),
        Probe("ties keep exactly the budget", no_signal),
        Probe("tfinal = 0 ends at the budget", no_final_phase),
        Probe("steps that jump over the first final one", jumping_steps),
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
        Probe(
            "begins with the rank pattern of another model",
            targets.pattern_of_a_model,
        ),
    ],
    "Layers": [
        Probe("Linear", builds()),
        Probe("Conv1D of transformers", conv1d),
        Probe("Conv2d", convolution()),
        Probe("Conv2d with groups", convolution(groups=2)),
        Probe("Conv2d with circular padding", convolution(padding=1, padding_mode="circular")),
        Probe("a linear module that hides its weight, as quantised ones do", quantised_looking),
        Probe("Linear of bitsandbytes in 8 bits", quantised(load_in_8bit=True)),
        Probe("Linear of bitsandbytes in 4 bits", quantised(load_in_4bit=True)),
        Probe("Conv1d of torch", learns(conv(nn.Conv1d), torch.randn(2, 4, 6), "0")),
        Probe("Conv3d", learns(conv(nn.Conv3d), torch.randn(2, 4, 6, 6, 6), "0")),
        Probe("Embedding", learns(nn.Sequential(nn.Embedding(16, 8)), IDS, "0")),
        Probe("MultiheadAttention", learns(Attention(), torch.randn(2, 3, 8), "attention")),
        Probe("a head that is tied to the embedding", targets.tied_target),
        Probe("get_delta_weight", adapters.difference),
        Probe("scale_layer, unscale_layer", adapters.scaled),
        Probe("rescale_adapter_scale of PEFT", adapters.rescaled),
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
        Probe("bias: all", trained(save_and_load, bias="all")),
        Probe("bias: lora_only", trained(save_and_load, bias="lora_only")),
        Probe("modules_to_save", trained(save_and_load, modules_to_save=["head"])),
        Probe("target_modules: all-linear", builds(target_modules="all-linear")),
        Probe("target_modules: regular expression", builds(target_modules="first|second")),
        Probe(
            "exclude_modules",
            builds(target_modules="all-linear", exclude_modules=["head"]),
        ),
        Probe("default targets by architecture", default_targets),
        Probe("merge, safely, and unload", merge),
        Probe("unmerge", unmerge),
        Probe("disable_adapter and unload", disable),
        Probe("several adapters for inference", several_for_inference),
        Probe("evaluation loss is the task loss", evaluation_loss),
        Probe("labels with a frozen adapter", labels_when_frozen),
        Probe("modules_to_save: the head of a task type", targets.head_of_task),
        Probe("layers_to_transform, layers_pattern", targets.layers_by_number),
        Probe("init_lora_weights: False", targets.first_factors),
        Probe("lora_dropout", targets.dropout),
        Probe(
            "adapters of other methods in one model (PeftMixedModel)",
            only("peft", mixed),
            "use PEFT, or `export_lora()` and mix LoRA adapters",
        ),
        Probe(
            "trainable_token_indices",
            token_rows,
            "name the embedding in `modules_to_save`",
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
        Probe("base_model.set_adapter with several names", adapters.together),
        Probe("set_adapter of the model with several names", adapters.together_by_model),
        Probe("delete_adapter, and its name again", adapters.deleted),
        Probe("each adapter has its own modules_to_save", adapters.other_head),
        Probe("another adapter for each row of a batch (adapter_names)", adapters.mixed_batch),
        Probe("load_adapter into an adapter that is there", adapters.swapped),
        Probe("hotswap_adapter of PEFT", adapters.hotswapped),
        Probe("set_requires_grad", adapters.frozen, "use `set_adapter`, with `inference_mode`"),
        Probe("merge_adapter by name", adapters.merges_one),
        Probe("merge_and_unload by name", adapters.unloads_one),
        Probe("safe_merge refuses NaN and changes nothing", adapters.safe),
        Probe("convert_to_lora of PEFT", adapters.lora_of_any_rank),
    ],
    "Configuration": [
        Probe("save_pretrained and from_pretrained", targets.config_round_trip),
        Probe("get_peft_model takes the other library's configuration", targets.other_config),
        Probe("get_peft_model keeps the object", targets.same_object),
        Probe("dataclasses.replace and asdict", targets.copied_config),
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
        Probe("push_to_hub; load by id and branch", on_a_hub("push_and_load")),
        Probe("the pushed card names PEFT as the library", on_a_hub("card")),
        Probe(
            "push_to_hub of a configuration",
            on_a_hub("config"),
            "a configuration is nothing without its weights; use `model.push_to_hub`",
        ),
    ],
    "torch and other libraries": [
        Probe("torch.compile", frameworks.compiled(fullgraph=False)),
        Probe(
            "torch.compile without a graph break",
            frameworks.compiled(fullgraph=True),
            bridged="compiles with breaks",
        ),
        Probe("torch.export", frameworks.exported),
        Probe("gradient checkpointing", frameworks.checkpointed),
        Probe("autocast", frameworks.autocast),
        Probe("generate", frameworks.generated),
        Probe("signature of forward is the base model's", frameworks.signature),
        Probe("DistributedDataParallel", frameworks.data_parallel),
        Probe("FSDP2: train and save", frameworks.sharded),
        Probe("Trainer: checkpoints hold the adapter only", frameworks.trainer),
        Probe("Trainer: label smoothing", frameworks.label_smoothing),
        Probe("Trainer: a callback that allocates", frameworks.trainer_allocates),
        Probe("TRL's SFTTrainer with an adapted model", frameworks.sft),
        Probe(
            "TRL's SFTTrainer with peft_config",
            frameworks.sft_config,
            "pass PEFT's configuration and attach `trainer.model`, or pass `get_peft_model(...)`",
        ),
        Probe("accelerate", frameworks.accelerated),
        Probe(
            "add_adapter of transformers",
            frameworks.added_by_transformers,
            "pass PEFT's configuration, then `attach`",
        ),
        Probe(
            "add_adapter of diffusers",
            frameworks.added_by_diffusers,
            "pass PEFT's configuration, then `attach`",
        ),
        Probe(
            "add_adapter of sentence-transformers",
            frameworks.added_by_sentence_transformers,
            "pass PEFT's configuration, then `attach`",
        ),
        Probe("prepare_model_for_kbit_training of PEFT", frameworks.prepared_for_bits),
        Probe("cast_mixed_precision_params of PEFT", frameworks.cast_by_peft),
        Probe("create_loraplus_optimizer of PEFT", adapters.faster_b),
    ],
    "Refused before training": [
        Probe("total_step missing", refuses(total_step=None)),
        Probe("no budgeting phase", refuses(tinit=20, tfinal=20)),
        Probe("DoRA", refuses(use_dora=True)),
        Probe("LoftQ", refuses(loftq_config={"loftq_bits": 4})),
        Probe("init_r below target_r", refuses(init_r=4, target_r=8)),
        Probe("deltaT 0", refuses(deltaT=0)),
        Probe("beta1 1.0", refuses(beta1=1.0)),
        Probe("init_r as text", refuses(init_r="4")),
        Probe("negative tinit", refuses(tinit=-5)),
        Probe("dropout 1.5", refuses(lora_dropout=1.5)),
        Probe("target_parameters", refuses(target_parameters=["first.weight"])),
    ],
    "Public names": [
        Probe("AdaLoraConfig, AdaLoraModel", has("AdaLoraConfig", "AdaLoraModel")),
        Probe("AdaLoraLayer, RankAllocator", has("AdaLoraLayer", "RankAllocator")),
        Probe("SVDLinear, SVDConv2d", has("SVDLinear", "SVDConv2d")),
        Probe("AdaLoraModel(model, config, name)", adapters.constructor),
        Probe("is an instance of PeftModel", adapters.known_to_peft),
        Probe(
            "get_layer_status, get_model_status",
            adapters.status,
            "PEFT's functions take our models",
        ),
        Probe("get_nb_trainable_parameters", adapters.counts),
        Probe("get_ and set_peft_model_state_dict", adapters.state_dicts),
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
