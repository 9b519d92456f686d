from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import distributed
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from adalora_core.trainers.distributed import AdapterState


def state_of(model, optimizer, step, world):
    state = {
        "step": step,
        "world": world,
        "adapter": AdapterState(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
    }
    if world == distributed.get_world_size():  # dropout differs between processes
        state[f"random of {distributed.get_rank()}"] = torch.get_rng_state()
    return state


def save(folder, model, optimizer, step):
    state = state_of(model, optimizer, step, distributed.get_world_size())
    dcp.save(state, checkpoint_id=folder / f"step-{step:06d}")


def resume(folder, model, optimizer):
    """Return the first step to train."""
    whole = sorted(each.parent for each in folder.glob("step-*/.metadata"))
    if not whole:
        return 0
    saved = {"world": 0}
    dcp.load(saved, checkpoint_id=whole[-1])
    state = state_of(model, optimizer, 0, saved["world"])
    dcp.load(state, checkpoint_id=whole[-1])
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    if (random := state.get(f"random of {distributed.get_rank()}")) is not None:
        torch.set_rng_state(random)
    return state["step"]


def run(folder):
    from fsdp2 import sharded, train
    from model import STEPS

    model, optimizer = sharded()
    for step in range(resume(folder, model, optimizer), STEPS):
        train(model, optimizer, [step])
        if step % 10 == 9:
            save(folder, model, optimizer, step + 1)
    model.save_pretrained(folder / "adapter")
    distributed.barrier()  # a thread of gloo may still hold tensors of the save


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    run(Path("checkpoints"))
    distributed.destroy_process_group()
