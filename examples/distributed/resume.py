import torch.distributed.checkpoint as dcp
from fsdp2 import STOP, sharded, train
from model import STEPS
from torch import distributed
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from adalora_core.trainers.distributed import AdapterState

distributed.init_process_group("gloo")
model, optimizer = sharded()
state = {
    "adapter": AdapterState(model),
    "optimizer": get_optimizer_state_dict(model, optimizer),
}
dcp.load(state, checkpoint_id="checkpoint")
set_optimizer_state_dict(model, optimizer, state["optimizer"])
train(model, optimizer, range(STOP, STEPS))
model.save_pretrained("resumed")
distributed.destroy_process_group()
