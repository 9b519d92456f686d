import torch
import torch.distributed.checkpoint as dcp
from model import STEPS, adapted, batch
from torch import distributed
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from adalora_core.trainers.distributed import AdapterState, factor_placement

STOP = 12


def sharded():
    model = adapted()
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    place = factor_placement(model, processes=mesh.size())
    for block in model.get_base_model().model.layers:
        fully_shard(block, mesh=mesh, shard_placement_fn=place)
    fully_shard(model, mesh=mesh, shard_placement_fn=place)
    return model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])


def train(model, optimizer, steps):
    for step in steps:
        model(**batch(step)).loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    model, optimizer = sharded()
    train(model, optimizer, range(STOP))
    moments = get_optimizer_state_dict(model, optimizer)
    dcp.save({"adapter": AdapterState(model), "optimizer": moments}, checkpoint_id="checkpoint")
    train(model, optimizer, range(STOP, STEPS))
    model.save_pretrained("by-fsdp2")
    distributed.destroy_process_group()
