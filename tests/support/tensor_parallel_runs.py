"""What the processes of the tests of tensor parallelism do; see process_groups."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed.checkpoint as dcp
from adalora_runs import make, optimizer_of
from distributed_checks import refusal
from distributed_runs import SETTINGS as SETTINGS_OF_BLOCKS
from distributed_runs import WIDTH, Blocks, Trace, batch, train, whole_parameters
from refused_divisions import begin_training
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers.distributed.tensor_parallel import apply_tensor_parallelism

from adalora_core import AdaLoraModel
from adalora_core.trainers.distributed import AdapterState, check_agreement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 14
HALF = 6
FIRST_ALLOCATION = 3
SETTINGS: dict[str, Any] = {
    "target_modules": [
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        "lm_head",  # transformers gathers its output
    ],
    "init_r": 4,
    "target_r": 2,
    "tinit": 2,
    "tfinal": 3,
    "deltaT": 1,
    "total_step": STEPS,
    "lora_alpha": 8,
}


def save_llama(folder: Path, key_value_heads: int = 2) -> None:
    """Write a Llama of two blocks in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=27,  # not even: the parts differ
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        vocab_size=32,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).double().save_pretrained(folder)


def load_llama(folder: Path) -> Any:
    """Return the saved model; in several processes transformers divides it by its plan."""
    from transformers import AutoModelForCausalLM
    from transformers.distributed import DistributedConfig

    options: dict[str, Any] = {}
    if distributed.is_initialized():
        options["distributed_config"] = DistributedConfig(tp_plan="auto")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, **options)


def adapted_llama(folder: Path, **changes: Any) -> Any:
    """Return the saved model with an adapter."""
    base = load_llama(folder)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.manual_seed(2 + rank)  # the factors are those of the first process all the same
    return make("adalora_core", base, **{**SETTINGS, **changes})


def tokens(step: int) -> torch.Tensor:
    """Return the batch of `step`, the same on every process."""
    return torch.randint(0, 32, (3, 6), generator=torch.Generator().manual_seed(step))


def train_steps(model: Any, steps: range, optimizer: torch.optim.Optimizer | None = None) -> Trace:
    """Train by the documented loop, with clipped gradients."""
    optimizer = optimizer or optimizer_of(model)
    trace = Trace()
    model.train()
    for step in steps:
        loss = model(input_ids=tokens(step), labels=tokens(step)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            [each for each in model.parameters() if each.requires_grad], 1.0
        )
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        trace.note(model)
        trace.losses.append(loss.item())
    trace.parameters = whole_parameters(model)
    model.eval()
    with torch.no_grad():
        trace.outputs = model(input_ids=tokens(99)).logits
    return trace


def run_llama(_rank: int, folder: Path, changes: dict[str, Any]) -> Trace:
    """Load, adapt and train."""
    model = adapted_llama(folder, **changes)
    trace = train_steps(model, range(STEPS))
    check_agreement(model)
    return trace


def save_half(_rank: int, folder: Path, work: Path) -> Trace:
    """Train half of the run and save it in both ways; end the run and save the adapter."""
    model = adapted_llama(folder)
    optimizer = optimizer_of(model)
    train_steps(model, range(HALF), optimizer)
    model.save_pretrained(work / "half", save_training_state=True)
    dcp.save(_states(model, optimizer), checkpoint_id=work / "state")
    trace = train_steps(model, range(HALF, STEPS), optimizer)
    model.save_pretrained(work / "end")
    model.export_lora(work / "lora")
    return trace


def resume_from_state(_rank: int, folder: Path, work: Path) -> Trace:
    """Train the second half by any number of processes."""
    model = adapted_llama(folder)
    optimizer = optimizer_of(model)
    states = _states(model, optimizer)
    dcp.load(states, checkpoint_id=work / "state")
    set_optimizer_state_dict(model, optimizer, states["optimizer"])
    return train_steps(model, range(HALF, STEPS), optimizer)


def resume_from_adapter(_rank: int, folder: Path, work: Path) -> Trace:
    """Load the adapter and its training state into a divided model, and train the second half."""
    model = AdaLoraModel.from_pretrained(load_llama(folder), work / "half", is_trainable=True)
    optimizer = optimizer_of(model)
    states = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.load(states, checkpoint_id=work / "state")
    set_optimizer_state_dict(model, optimizer, states["optimizer"])
    return train_steps(model, range(HALF, STEPS), optimizer)


def _states(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "adapter": AdapterState(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
    }


# --- torch's own parallel styles, and refusals ---------------------------------------------------


class Pair(Blocks):
    """Blocks of an even width between them, as torch's RowwiseParallel needs it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(8, 5), nn.Tanh())
        self.double()


def mesh() -> Any:
    """Return all processes as the mesh of tensor parallelism."""
    return init_device_mesh("cpu", (distributed.get_world_size(),), mesh_dim_names=("tp",))


def parallelised(plan: dict[str, Any] | None = None) -> Pair:
    """Return a model that torch divides, if there are several processes."""
    base = Pair()
    if distributed.is_initialized():
        default = {"first.0": ColwiseParallel(), "second.0": RowwiseParallel()}
        parallelize_module(base, mesh(), plan or default)
    return base


def adapted_pair(plan: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Return that model with adapters on all three layers; the head is not divided."""
    base = parallelised(plan)
    torch.manual_seed(2)
    settings = SETTINGS_OF_BLOCKS | {"target_modules": ["first.0", "second.0", "head"]}
    return make("adalora_core", base, **{**settings, **changes})


def by_transformers(styles: dict[str, str]) -> Any:
    """Return a model that transformers divides in `styles`, if there are several processes."""
    base: Any = Pair()
    if distributed.is_initialized():
        base.tp_plan = styles
        names = ("", ".weight", ".bias")
        plan = {f"{path}{name}": style for path, style in styles.items() for name in names}
        apply_tensor_parallelism(base, mesh(), plan)
    return base


def adapted_gathering_pair() -> Any:
    """Return a model whose divided layers get whole inputs and return whole outputs."""
    base = by_transformers({"first.0": "colwise_gather_output", "second.0": "rowwise_split_input"})
    torch.manual_seed(2)
    settings = SETTINGS_OF_BLOCKS | {"target_modules": ["first.0", "second.0", "head"]}
    return make("adalora_core", base, **settings)


def run_pair(_rank: int, steps: int, make_pair: Callable[[], Any] = adapted_pair) -> Trace:
    """Train by all of every batch."""
    model = make_pair()

    def backward(step: int, _given: dict[str, torch.Tensor]) -> torch.Tensor:
        loss: torch.Tensor = model(**batch(step)).loss
        loss.backward()
        return loss

    return train(model, model, range(steps), backward=backward)


def forward(model: Any) -> None:
    """Call the model as training does."""
    model.train()
    model(**batch(0))


def packed() -> None:
    """Adapt a layer of transformers' style for fused weights."""
    make("adalora_core", by_transformers({"first.0": "packed_colwise"}), **SETTINGS_OF_BLOCKS)


def layers_of_peft() -> None:
    """Let PEFT adapt a divided model, and attach the result."""
    settings = SETTINGS_OF_BLOCKS | {"target_modules": ["first.0", "second.0"]}
    forward(make("attached", parallelised(), **settings))


def plain_parts() -> None:
    """Adapt a model that an old release of transformers has divided."""
    base: Any = Pair()
    base.first[0]._hf_tp_plan = "colwise"
    make("adalora_core", base, **SETTINGS_OF_BLOCKS)


def two_meshes() -> None:
    """Adapt a model whose layers are divided over two meshes."""
    base = parallelised({"first.0": ColwiseParallel()})
    other = init_device_mesh("cpu", (2,), mesh_dim_names=("other",))
    parallelize_module(base, other, {"second.0": RowwiseParallel()})
    make("adalora_core", base, **SETTINGS_OF_BLOCKS)


def sharded_anew() -> None:
    """Call fully_shard on an adapted model."""
    base = Pair()
    both = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tp"))
    parallelize_module(
        base, both["tp"], {"first.0": ColwiseParallel(), "second.0": RowwiseParallel()}
    )
    model = make("adalora_core", base, **SETTINGS_OF_BLOCKS | {"target_modules": ["first.0"]})
    forward(fully_shard(model, mesh=both["data"]))


REFUSED: dict[str, Callable[[], Any]] = {
    "dropout": partial(adapted_pair, lora_dropout=0.1),
    "bias": partial(adapted_pair, bias="lora_only"),
    "whole module": partial(adapted_pair, target_modules=["0"], modules_to_save=["head"]),
    "packed": packed,
    "layers of PEFT": layers_of_peft,
    "plain parts": plain_parts,
    "two meshes": two_meshes,
    "sharded anew": sharded_anew,
    "gathered output": lambda: forward(
        adapted_pair({"first.0": ColwiseParallel(output_layouts=Replicate())})
    ),
    "DTensor output": lambda: forward(
        adapted_pair({"first.0": ColwiseParallel(use_local_output=False)})
    ),
    "merge": lambda: adapted_pair().merge_adapter(),
    "Trainer": lambda: begin_training(adapted_pair(), deepspeed=None),
}


def refusals(rank: int) -> dict[str, str]:
    """Return what each attempt of REFUSED raises."""
    return {name: refusal(rank, attempt) for name, attempt in REFUSED.items()}
