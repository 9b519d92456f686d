"""What feature_comparison.py asks of both libraries: each probe raises if the feature is missing."""

from __future__ import annotations

import copy
import importlib
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import torch
from probe_setting import (
    SETTINGS,
    Probe,
    Small,
    batch,
    builds,
    has,
    load,
    make,
    need,
    need_budget,
    need_equal,
    only,
    outputs,
    refuses,
    round_trip,
    train,
    trained,
)
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


# --- layers ---------------------------------------------------------------------------------------


class Hidden(nn.Module):
    """A linear layer as a quantised one looks."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features = self.out_features = 8
        self.register_buffer("packed", torch.randint(-9, 9, (8, 8), dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply with the unpacked weight."""
        return x @ (self.packed / 20.0)


def conv1d(library: str) -> None:
    """Adapt transformers' Conv1D."""
    from transformers.pytorch_utils import Conv1D

    need_budget(train(make(library, Small(second=Conv1D(8, 8)), fan_in_fan_out=True)))


def quantised_looking(library: str) -> None:
    """Adapt a module without a weight."""
    need_budget(train(make(library, Small(second=Hidden()))))


def convolution(**options: Any) -> Callable[[str], None]:
    """Adapt and merge a convolution."""

    def run(library: str) -> None:
        base = nn.Sequential(nn.Conv2d(4, 4, 3, **options))
        model = make(library, base, target_modules=["0"], init_lora_weights=False)
        x = torch.randn(2, 4, 6, 6)
        before = model(x).detach()
        model.merge_adapter()
        need_equal(model(x).detach(), before, 1e-3)

    return run


def low_precision(library: str) -> None:
    """Train float32 adapters on a bfloat16 base and reload them."""
    model = train(make(library, Small().bfloat16()), dtype=torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        torch.manual_seed(1)
        loaded = load(library, folder, Small().bfloat16())
    kept = {n: p for n, p in loaded.named_parameters() if ".lora_A." in n}
    live = {n: p for n, p in model.named_parameters() if ".lora_A." in n}
    pattern = model.peft_config["default"].rank_pattern
    for name, values in kept.items():
        key = next(k for k in pattern if name.split("model.")[-1].split(".lora_A")[0] in k)
        rows = live[name][torch.tensor(pattern[key])]
        need(torch.equal(rows, values), "weights come back rounded")


# --- allocation -----------------------------------------------------------------------------------


def overflow(library: str) -> None:
    """Survive one step with infinite gradients."""
    model = make(library)
    train(model, range(10))
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.full_like(p, torch.inf)
    model.base_model.update_and_allocate(10)
    need_budget(train(model, range(11, 30)))


def no_signal(library: str) -> None:
    """Meet the budget where all scores are equal."""
    model = make(library, init_lora_weights=False)
    for step in range(30):
        model(batch(step)).loss.backward()
        for p in model.parameters():
            if p.grad is not None:
                p.grad.zero_()
        model.base_model.update_and_allocate(step)
        model.zero_grad()
    need_budget(model)


def no_final_phase(library: str) -> None:
    """Meet the budget with tfinal = 0."""
    model = train(make(library, tfinal=0, tinit=0, deltaT=11))
    if hasattr(model, "finalize"):
        model.finalize()
    need_budget(model)


def jumping_steps(library: str) -> None:
    """Meet the budget where a step jumps over the first final one."""
    model = train(make(library), range(20))
    need_budget(train(model, range(27, 30)))


def resume(library: str) -> None:
    """Stop in the middle, load, go on."""
    model = train(make(library), range(15))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        need_budget(train(load(library, folder, is_trainable=True), range(15, 30)))


def forgotten_call(library: str) -> None:
    """Say so when update_and_allocate is never called."""
    model = make(library).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(60):
            model(batch(step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    need(any("update_and_allocate" in str(w.message) for w in caught), "silent")


def two_trainable(library: str) -> None:
    """Train two adapters at once."""
    module = importlib.import_module(library)
    model = make(library)
    model.add_adapter("other", module.AdaLoraConfig(**SETTINGS))
    active = model if library == "adalora_core" else model.base_model
    active.set_adapter(["default", "other"])
    train(model)


def compaction(library: str) -> None:
    """Free the dropped triplets in training."""
    del library
    model = make("adalora_core")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    train(model)
    report = model.compact(optimizer)
    need(report.parameters_after * 2 == report.parameters_before, "did not shrink")


# --- model ----------------------------------------------------------------------------------------


def llama() -> nn.Module:
    """Return a small language model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def evaluation_loss(library: str) -> None:
    """Evaluate with the task loss alone."""
    ids = torch.arange(8).reshape(1, 8)
    model = make(library, llama(), target_modules=["q_proj"], task_type="CAUSAL_LM").eval()
    extra = (model(input_ids=ids, labels=ids).loss - llama()(input_ids=ids, labels=ids).loss).item()
    need(abs(extra) < 1e-4, f"the penalty adds {extra:.1f}")


def labels_when_frozen(library: str) -> None:
    """Pass labels to a loaded adapter."""
    ids = torch.arange(8).reshape(1, 8)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
        make(library, llama(), **settings).save_pretrained(folder)
        load(library, folder, llama())(input_ids=ids, labels=ids)


def default_targets(library: str) -> None:
    """Adapt a known architecture without naming modules."""
    make(library, llama(), target_modules=None)


def token_rows(library: str) -> None:
    """Train some rows of an embedding."""
    make(library, llama(), target_modules=["q_proj"], trainable_token_indices=[1])


def mixed(library: str) -> None:
    """Combine AdaLoRA with LoRA."""
    module = importlib.import_module(library)
    torch.manual_seed(1)
    config = module.AdaLoraConfig(**SETTINGS)
    model = module.get_peft_model(Small(), config, mixed=True)
    model.add_adapter("other", module.LoraConfig(target_modules=["first"]))


def merge(library: str) -> None:
    """Merge, safely, and unload."""
    model = train(make(library))
    before = outputs(model)
    need_equal(outputs(copy.deepcopy(model).merge_and_unload(safe_merge=True)), before)


def unmerge(library: str) -> None:
    """Merge and unmerge."""
    model = train(make(library))
    before = outputs(model)
    model.merge_adapter()
    model.unmerge_adapter()
    need_equal(outputs(model), before)


def disable(library: str) -> None:
    """Switch adapters off for a while, and unload them."""
    torch.manual_seed(1)
    base = Small()
    expected = outputs(base)
    model = train(make(library, base))
    with model.disable_adapter():
        need_equal(outputs(model), expected)
    need_equal(outputs(model.unload()), expected)


def several_for_inference(library: str) -> None:
    """Load two adapters and switch."""
    with tempfile.TemporaryDirectory() as folder:
        train(make(library)).save_pretrained(folder)
        model = load(library, folder)
        before = outputs(model)
        model.load_adapter(folder, "other")
        model.set_adapter("other")
        need_equal(outputs(model), before)


def adapter_name(library: str) -> None:
    """Use an adapter name that is a part of a module's path."""
    round_trip(library, train(make(library)), adapter_name="second")


def second_generation(library: str) -> None:
    """Train a loaded adapter again, save it, load it."""
    with tempfile.TemporaryDirectory() as folder:
        train(make(library, target_r=3)).save_pretrained(folder)
        model = train(load(library, folder, is_trainable=True), range(4))
        round_trip(library, model)


def between_allocations(library: str) -> None:
    """Save between two allocations what the model computes."""
    round_trip(library, train(make(library, deltaT=7, tinit=0, tfinal=0), range(26)))


def export_lora(library: str) -> None:
    """Write plain LoRA."""
    del library
    model = train(make("adalora_core"))
    with tempfile.TemporaryDirectory() as folder:
        model.export_lora(folder)
        need_equal(outputs(load("peft", folder)), outputs(model))


def weighted_adapter(library: str) -> None:
    """Refuse add_weighted_adapter with TypeError."""
    model = make(library)
    try:
        model.add_weighted_adapter(["default"], [1.0], "mixed")
    except TypeError:
        return
    raise AssertionError("accepted")


def save_and_load(library: str, model: Any) -> None:
    """Save, load, compare."""
    round_trip(library, model)


def met(library: str, model: Any) -> None:
    """Check the budget."""
    del library
    need_budget(model)


def exchanged(library: str) -> None:
    """Read what the other library wrote."""
    other = {"peft": "adalora_core", "adalora_core": "peft"}[library]
    model = train(make(other))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        need_equal(outputs(load(library, folder)), outputs(model))


def pattern_with_name(library: str) -> None:
    """Read a rank pattern whose keys end in the adapter's name."""
    import json
    from pathlib import Path

    model = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = Path(folder) / "adapter_config.json"
        values = json.loads(path.read_text())
        pattern = values["rank_pattern"].items()
        values["rank_pattern"] = {f"{key}.default": kept for key, kept in pattern}
        path.write_text(json.dumps(values))
        need_equal(outputs(load(library, folder)), outputs(model))


def scale(library: str) -> None:
    """Scale by lora_alpha / (init_r + 1e-5), after pruning and reloading too."""
    model = train(make(library, Small().double()), dtype=torch.float64)
    layer = model.base_model.model.first
    found = (
        layer.scale["default"]
        if library == "adalora_core"
        else (layer.scaling["default"] / (layer.ranknum["default"].item() + 1e-5))
    )
    need(abs(found - 8 / (4 + 1e-5)) < 1e-9, f"the scale drifted to {found:.4f}")


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
        Probe("export as plain LoRA", only("adalora_core", export_lora)),
    ],
    "Allocation": [
        Probe("update_and_allocate(step), 0-based, after optimizer.step()", trained(met)),
        Probe("allocates every deltaT steps", trained(met, deltaT=4)),
        Probe("deltaT longer than the budgeting phase", trained(met, deltaT=100)),
        Probe("the scale stays lora_alpha / (init_r + 1e-5) on a float64 base", scale),
        Probe("equal ranks train", builds(init_r=4, target_r=4)),
        Probe("an overflow step does not stop pruning", overflow),
        Probe(
            "an adapted module that the forward pass leaves out",
            lambda library: train(make(library, Small(use=False))),
        ),
        Probe("ties keep exactly the budget", no_signal),
        Probe("tfinal = 0 ends at the budget", no_final_phase),
        Probe("steps that jump over the first final one", jumping_steps),
        Probe("says so when update_and_allocate is never called", forgotten_call),
        Probe("two trainable adapters", two_trainable),
        Probe("frees dropped triplets in training", only("adalora_core", compaction)),
    ],
    "Layers": [
        Probe("Linear", builds()),
        Probe("Conv1D of transformers", conv1d),
        Probe("Conv2d", convolution()),
        Probe("Conv2d with groups", convolution(groups=2)),
        Probe("Conv2d with circular padding", convolution(padding=1, padding_mode="circular")),
        Probe("a linear module that hides its weight, as quantised ones do", quantised_looking),
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
        Probe("add_weighted_adapter raises TypeError", weighted_adapter),
        Probe("adapters of other methods in one model (PeftMixedModel)", only("peft", mixed)),
        Probe("trainable_token_indices", token_rows),
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
    ],
}
