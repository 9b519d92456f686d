"""
Second half of an interrupted run.

The cluster's first job was stopped within the warm-up (step < tinit, no rank was pruned yet) and left
    warm/adapter/        save_pretrained
    warm/state.pt        {"step": ..., "optimizer": ..., "scheduler": ...}
Here the same schedule goes on where it stopped.
"""
import itertools

import torch
from datasets import load_from_disk
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, get_linear_schedule_with_warmup

BASE = "facebook/opt-1.3b"
dev = torch.device("cuda:0")


def forever(loader):
    for epoch in itertools.count():
        for b in loader:
            yield epoch, b


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    ds = load_from_disk("data/tokenised")
    loader = DataLoader(ds, 8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))

    base = AutoModelForCausalLM.from_pretrained(BASE)
    model = PeftModel.from_pretrained(base, "warm/adapter", is_trainable=True).to(dev)
    cfg = model.peft_config["default"]
    st = torch.load("warm/state.pt", map_location=dev)
    assert st["step"] < cfg.tinit, "pruning already began, take another checkpoint"

    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    sched = get_linear_schedule_with_warmup(opt, 100, cfg.total_step)
    opt.load_state_dict(st["optimizer"])
    sched.load_state_dict(st["scheduler"])

    step = st["step"]
    model.train()
    for epoch, batch in forever(loader):
        if step >= cfg.total_step:
            break
        loss = model(**batch.to(dev)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        step += 1
        model.base_model.update_and_allocate(step)
        opt.zero_grad()
        if step % 50 == 0:
            print(f"{step}/{cfg.total_step} epoch {epoch} loss {loss.item():.4f}")
    model.save_pretrained("final/adapter")


if __name__ == "__main__":
    main()
