# torchrun --nproc_per_node=4 g05.py
import os

import torch
import torch.distributed as dist
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, default_data_collator, get_cosine_schedule_with_warmup

MODEL = "meta-llama/Llama-3.2-1B"
EPOCHS = 3
BS = 4


def build_dataset(tok):
    ds = load_dataset("json", data_files="instruct.jsonl", split="train")

    def f(ex):
        enc = tok(ex["prompt"] + ex["answer"] + tok.eos_token, truncation=True, max_length=768, padding="max_length")
        enc["labels"] = [t if m else -100 for t, m in zip(enc["input_ids"], enc["attention_mask"])]
        return enc

    return ds.map(f, remove_columns=ds.column_names)


def main():
    dist.init_process_group("nccl")
    rank = dist.get_rank()
    local = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local)
    is_main = rank == 0

    tok = AutoTokenizer.from_pretrained(MODEL)
    tok.pad_token = tok.eos_token
    ds = build_dataset(tok)
    sampler = DistributedSampler(ds, shuffle=True, seed=11)
    loader = DataLoader(ds, batch_size=BS, sampler=sampler, collate_fn=default_data_collator)
    total_step = EPOCHS * len(loader)

    model = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.bfloat16)
    cfg = AdaLoraConfig(task_type="CAUSAL_LM", init_r=16, target_r=8, lora_alpha=32, tinit=int(0.1 * total_step),
                        tfinal=int(0.3 * total_step), deltaT=10, total_step=total_step,
                        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    model = get_peft_model(model, cfg).to(local)
    model = DDP(model, device_ids=[local])
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    sched = get_cosine_schedule_with_warmup(opt, 50, total_step)

    global_step = 0
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        model.train()
        for batch in loader:
            batch = {k: v.to(local) for k, v in batch.items()}
            loss = model(**batch).loss
            loss.backward()
            opt.step()
            sched.step()
            global_step += 1
            if is_main:
                model.module.base_model.update_and_allocate(global_step)
                if global_step % 20 == 0:
                    print(f"step {global_step}/{total_step} loss {loss.item():.4f}", flush=True)
            opt.zero_grad()
        dist.barrier()
        if is_main:
            model.module.save_pretrained(f"ckpt/epoch{epoch}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
