"""Interruptible training: a checkpoint per epoch holds everything, the rank allocator's statistics included."""
import os

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME, EPOCHS, CKPT = "roberta-base", 10, "ckpt/last.pt"


def save(model, opt, epoch, step):
    ra = model.base_model.rankallocator
    state = {
        "weights": {n: p.detach().cpu() for n, p in model.named_parameters() if p.requires_grad},
        "opt": opt.state_dict(),
        "epoch": epoch,
        "step": step,
        "ipt": (ra.ipt, ra.exp_avg_ipt, ra.exp_avg_unc),
        "rank_pattern": model.peft_config["default"].rank_pattern,
    }
    os.makedirs(os.path.dirname(CKPT), exist_ok=True)
    torch.save(state, CKPT + ".tmp")
    os.replace(CKPT + ".tmp", CKPT)


def restore(model, opt):
    if not os.path.exists(CKPT):
        return 0, 0
    st = torch.load(CKPT, map_location="cuda", weights_only=False)
    model.load_state_dict(st["weights"], strict=False)
    opt.load_state_dict(st["opt"])
    ra = model.base_model.rankallocator
    ra.ipt, ra.exp_avg_ipt, ra.exp_avg_unc = st["ipt"]
    model.peft_config["default"].rank_pattern = st["rank_pattern"]
    print("resumed after epoch", st["epoch"], "step", st["step"])
    return st["epoch"] + 1, st["step"]


def main():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("glue", "cola", split="train")
    ds = ds.map(lambda b: tok(b["sentence"], truncation=True), batched=True, remove_columns=["sentence", "idx"])
    ds = ds.rename_column("label", "labels")
    dl = DataLoader(ds, 32, shuffle=True, collate_fn=DataCollatorWithPadding(tok))
    total = EPOCHS * len(dl)
    model = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2),
        AdaLoraConfig(task_type="SEQ_CLS", init_r=12, target_r=6, lora_alpha=24,
                      target_modules=["query", "value"], tinit=total // 10, tfinal=total // 4,
                      deltaT=10, total_step=total),
    ).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    first, step = restore(model, opt)
    for epoch in range(first, EPOCHS):
        model.train()
        for batch in dl:
            loss = model(**batch.to("cuda")).loss
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        print(epoch, step, loss.item())
        save(model, opt, epoch, step)
    model.save_pretrained("cola-adalora")


if __name__ == "__main__":
    main()
