"""Ways to divide a model that are refused; each function tries one, some of a model of `make`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import peft
import torch
from adalora_runs import allocator_of, load_again, optimizer_of
from distributed_checks import refusal
from distributed_runs import Blocks, adapted, mine, shard, train, whole_parameters, wrap
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import CustomPolicy
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.bridge import attach

CONFIG = AdaLoraConfig(target_modules=["0", "head"], total_step=30, inference_mode=False)


def injected(base: nn.Module) -> nn.Module:
    """Return `base` with adapters that PEFT injects, attached."""
    config = peft.AdaLoraConfig(target_modules=["0", "head"], total_step=30)
    return attach(peft.inject_adapter_in_model(config, base))


def injected_blocks() -> Any:
    return injected(Blocks())


def mesh() -> Any:
    return init_device_mesh("cpu", (distributed.get_world_size(),))


def one_step(wrapped: nn.Module, model: Any) -> None:
    train(wrapped, model, range(1))


def fsdp1(make: Callable[[], Any], **options: Any) -> None:
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so
        wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"), **options)
        one_step(wrapped, model)


def fsdp1_flat() -> None:
    # Trainable and frozen parameters in units of their own, as it wants them.
    policy = CustomPolicy(lambda module: isinstance(module, nn.ParameterDict))
    fsdp1(adapted, use_orig_params=False, auto_wrap_policy=policy)


def tensor_parallel(make: Callable[[], Any]) -> None:
    model = make()
    parallelize_module(model.get_base_model(), mesh(), {"first.0.base_layer": ColwiseParallel()})
    one_step(model, model)


def zero2(make: Callable[[], Any]) -> None:
    model = make()
    for parameter in allocator_of(model).parameters():
        parameter._hp_mapping = None  # how DeepSpeed marks what its optimizer divides
    one_step(model, model)


def partition(parameters: Iterable[nn.Parameter]) -> None:
    """Do what DeepSpeed does at ZeRO-3: mark parameters, and leave nothing in their place."""
    for parameter in parameters:
        parameter.ds_id = 1  # type: ignore[attr-defined]  # as DeepSpeed marks it
        parameter.data = parameter.data.new_empty(0)


def zero3(make: Callable[[], Any]) -> None:
    model = make()
    partition(allocator_of(model).parameters())
    one_step(model, model)


def sharded_before_attach() -> None:
    model = adapted(library="peft", init_lora_weights="lora")
    wrap(model, "fsdp2")
    attach(model)


def partitioned_before_attach() -> None:
    model = adapted(library="peft", init_lora_weights="lora")
    partition(each for each in model.parameters() if each.requires_grad)
    attach(model)


def trainer_with_injected_fsdp2() -> None:
    model = injected_blocks()
    fully_shard(model, mesh=mesh())
    begin_training(model, deepspeed=None)


def trainer_with_deepspeed() -> None:
    begin_training(adapted(library="attached"), deepspeed="zero2.json")


def begin_training(model: Any, **arguments: Any) -> None:
    from adalora_core.trainers.transformers import AdaLoraCallback

    # What Trainer does when it has wrapped the model.
    AdaLoraCallback().on_train_begin(
        SimpleNamespace(save_strategy="no", **arguments),
        SimpleNamespace(max_steps=30),
        None,
        model=model,
    )


def adapter_for_ddp() -> None:
    get_peft_model(DistributedDataParallel(Blocks()), CONFIG)


def adapter_for_sharded() -> None:
    get_peft_model(fully_shard(Blocks(), mesh=mesh()), CONFIG)


def adapter_for_zero3() -> None:
    base = Blocks()
    base.head.weight.ds_id = 1
    get_peft_model(base, CONFIG)


def adapter_for_repeated() -> None:
    base = Blocks()
    distribute_module(base, mesh())
    get_peft_model(base, CONFIG)


def ignored_factors() -> None:
    model = adapted()
    # Of the head, which belongs to the root and is whole in the root's forward pass.
    factors = {each for name, each in model.named_parameters() if "head.lora_" in name}
    one_step(shard(model, mesh(), ignored_params=factors), model)


def factors_ignored_and_never_allocated() -> None:
    model = adapted(orth_reg_weight=0.0)
    factors = {each for name, each in model.named_parameters() if "head.lora_" in name}
    wrapped = shard(model, mesh(), ignored_params=factors)
    optimizer = optimizer_of(model)
    for step in range(10):
        wrapped.train()(**mine(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def compact_under(kind: str, make: Callable[[], Any]) -> None:
    model = make()
    wrapped = wrap(model, kind)
    model.finalize()
    assert getattr(wrapped, "module", wrapped) is model
    model.compact(optimizer_of(model))


def compact_after_unwrapping() -> None:
    model = adapted()
    wrapped = wrap(model, "ddp")
    model.finalize()
    del wrapped
    model.compact(optimizer_of(model))


def root_left_out() -> None:
    model = adapted()
    fully_shard(model.get_base_model().first, mesh=mesh())
    one_step(model, model)


def only_a_factor() -> None:
    model = adapted()
    fully_shard(model.get_base_model().first[0].lora_A, mesh=mesh())
    one_step(model, model)


def singular_values_cut_across() -> None:
    def place(parameter: nn.Parameter) -> Shard | None:
        return Shard(1) if parameter.shape[1:] == (1,) else None

    model = adapted()
    shard(model, init_device_mesh("cpu", (1,)), shard_placement_fn=place)
    one_step(model, model)


def penalty_of_a_single_factor() -> None:
    model = adapted()
    fully_shard(model.get_base_model().first[0].lora_A, mesh=mesh())
    model.orthogonality_penalty()


def blocks_on_two_meshes(**changes: Any) -> None:
    model = adapted(**changes)
    copies = init_device_mesh("cpu", (1, 2), mesh_dim_names=("copy", "part"))
    fully_shard(model.get_base_model().first, mesh=copies)
    fully_shard(model.get_base_model().second, mesh=mesh())
    one_step(fully_shard(model, mesh=mesh()), model)


def factors_on_every_process() -> None:
    model = adapted()
    distribute_module(model, mesh())
    model.update_and_allocate(0)


def factors_cut_by_hand() -> None:
    model = adapted()
    rows = 4 if distributed.get_rank() == 0 else 2  # fully_shard makes it 3 and 3
    for layer in model.base_model.adapters["default"].layers.values():
        for factors in (layer.lora_A, layer.lora_E, layer.lora_B):
            whole = factors["default"].detach()
            cut = DTensor.from_local(
                whole[:rows], mesh(), [Shard(0)], shape=whole.shape, stride=whole.stride()
            )
            factors["default"] = nn.Parameter(cut)
    model.update_and_allocate(0)


def gradient_on_every_process() -> None:
    model = adapted()
    wrap(model, "fsdp2")
    for parameter in allocator_of(model).parameters():
        parameter.grad = DTensor.from_local(
            torch.zeros(parameter.shape, dtype=parameter.dtype), mesh(), [Replicate()]
        )
    model.update_and_allocate(0)


def merge_under_fsdp2(make: Callable[[], Any]) -> None:
    model = make()
    wrap(model, "fsdp2")
    model.merge_and_unload()


def pruned_file_for_fsdp2(make: Callable[[], Any]) -> None:
    whole, divided = make(), make()
    whole.base_model.finalize()
    wrap(divided, "fsdp2")
    before = whole_parameters(divided)
    with tempfile.TemporaryDirectory() as folder:
        whole.save_pretrained(folder)
        try:
            load_again(divided, folder)
        finally:
            assert all(map(torch.equal, whole_parameters(divided).values(), before.values()))


def state_of_one_process(make: Callable[[], Any]) -> None:
    model = make()
    wrap(model, "fsdp2")
    model.save_pretrained("nowhere", state_dict=whole_parameters(model), save_training_state=True)


def refusals(rank: int, attempts: list[Callable[[], None]]) -> list[str]:
    """Return what each attempt raises; all ranks refuse each before it changes anything."""
    return [refusal(rank, attempt) for attempt in attempts]
