"""torchrun --nproc_per_node=8 i13.py"""
import os

import torch
import torch.distributed as dist
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

BASE = "Qwen/Qwen2-0.5B"
EPOCHS = 2


def setup():
    dist.init_process_group("nccl")
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    return rank


def dataset(tok):
    ds = load_dataset("databricks/databricks-dolly-15k", split="train")
    return ds.map(lambda r: tok(r["instruction"] + "\n" + r["response"] + tok.eos_token,
                                truncation=True, max_length=512),
                  remove_columns=ds.column_names)


def main():
    local = setup()
    tok = AutoTokenizer.from_pretrained(BASE)
    ds = dataset(tok)
    sampler = DistributedSampler(ds, shuffle=True, seed=1)
    loader = DataLoader(ds, batch_size=4, sampler=sampler, num_workers=2,
                        collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    total = len(loader) * EPOCHS        # already per rank thanks to the sampler

    model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.float32)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=total // 10, tfinal=total // 5,
        deltaT=10, total_step=total, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]))
    model = DDP(model.to(local), device_ids=[local])
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)

    step = 0
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        model.train()
        for batch in loader:
            batch = {k: v.to(local) for k, v in batch.items()}
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            model.module.base_model.update_and_allocate(step)   # all ranks
            opt.zero_grad(set_to_none=True)
            step += 1
            if dist.get_rank() == 0 and step % 20 == 0:
                print(step, total, loss.item(), flush=True)
        if dist.get_rank() == 0:
            model.module.save_pretrained(f"dolly/epoch{epoch}")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
