# launch: torchrun --standalone --nproc_per_node=8 h20.py
import os
import torch
import torch.distributed as dist
import torch.nn as nn
from datasets import load_from_disk
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForCausalLM, default_data_collator


def is_main():
    return dist.get_rank() == 0


def train(model, loader, sampler, opt, epochs, device):
    step = 0
    for ep in range(epochs):
        sampler.set_epoch(ep)
        model.train()
        for batch in loader:
            batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(**batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad(set_to_none=True)
            step += 1
            if is_main() and step % 25 == 0:
                print(f"ep {ep} step {step} loss {loss.item():.4f}", flush=True)


def main():
    dist.init_process_group("nccl")
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    epochs = 3

    ds = load_from_disk("/data/packed_2k")
    sampler = DistributedSampler(ds, shuffle=True, drop_last=True)
    loader = DataLoader(ds, batch_size=2, sampler=sampler, collate_fn=default_data_collator, num_workers=2)
    total = epochs * len(loader)

    model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1", torch_dtype=torch.bfloat16)
    cfg = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=16, target_r=8, lora_alpha=32,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        tinit=int(0.1 * total), tfinal=int(0.3 * total), deltaT=10, total_step=total,
    )
    peft_model = get_peft_model(model, cfg).to(device)
    if is_main():
        peft_model.print_trainable_parameters()
    ddp = nn.parallel.DistributedDataParallel(peft_model, device_ids=[local_rank])
    opt = torch.optim.AdamW([p for p in ddp.parameters() if p.requires_grad], lr=2e-4)
    train(ddp, loader, sampler, opt, epochs, device)
    if is_main():
        peft_model.save_pretrained("mistral-adalora")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
