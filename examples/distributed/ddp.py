import torch
from model import STEPS, adapted, batch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

distributed.init_process_group("gloo")
model = adapted()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
wrapped = DistributedDataParallel(model)
for step in range(STEPS):
    wrapped(**batch(step)).loss.backward()
    optimizer.step()
    model.update_and_allocate(step)
    optimizer.zero_grad()
model.save_pretrained("by-ddp", is_main_process=distributed.get_rank() == 0)
distributed.barrier()  # all leave when the files are there
distributed.destroy_process_group()
