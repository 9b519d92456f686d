"""The rank allocation hangs on the optimizer: every opt.step() is followed by it."""
import functools
import math

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

CKPT = "EleutherAI/pythia-410m"


class Allocation:
    def __init__(self, peft_model):
        self.peft_model = peft_model
        self.calls = 0

    def __call__(self, optimizer, args, kwargs):
        self.peft_model.base_model.update_and_allocate(self.calls)
        self.calls += 1


def encode(tok, batch):
    return tok(batch["text"], truncation=True, max_length=384)


def main(epochs=2, bs=4, accum=4, lr=8e-4):
    tok = AutoTokenizer.from_pretrained(CKPT)
    tok.pad_token = tok.eos_token
    ds = load_dataset("roneneldan/TinyStories", split="train[:20000]")
    ds = ds.map(functools.partial(encode, tok), batched=True, remove_columns=ds.column_names)
    dl = DataLoader(ds, bs, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))

    total = epochs * math.ceil(len(dl) / accum)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(CKPT),
        AdaLoraConfig(
            task_type="CAUSAL_LM", target_modules=["query_key_value"],
            init_r=12, target_r=6, lora_alpha=24,
            tinit=total // 10, tfinal=total // 4, deltaT=10, total_step=total,
        ),
    ).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    alloc = Allocation(model)
    handle = opt.register_step_post_hook(alloc)

    model.train()
    for epoch in range(epochs):
        for i, batch in enumerate(dl, 1):
            loss = model(**batch.to("cuda")).loss
            (loss / accum).backward()
            if i % accum == 0 or i == len(dl):
                opt.step()  # the hook allocates here, gradients are still there
                opt.zero_grad()
        print(f"epoch {epoch}: {alloc.calls} of {total} updates, loss {loss.item():.3f}")
    handle.remove()
    model.save_pretrained("pythia-adalora")


if __name__ == "__main__":
    main()
