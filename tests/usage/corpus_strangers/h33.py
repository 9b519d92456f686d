import argparse
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers import get_linear_schedule_with_warmup


def orth_regu(model):
    """|| P^T P - I || + || Q Q^T - I ||, averaged over the matrices (AdaLoRA paper, eq. 4)"""
    regu, num = 0.0, 0
    for n, p in model.named_parameters():
        if "lora_A" in n or "lora_B" in n:
            cov = p @ p.T if "lora_A" in n else p.T @ p
            eye = torch.eye(cov.size(0), device=cov.device)
            regu = regu + torch.norm(cov - eye, p="fro")
            num += 1
    return regu / num


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--task", default="stsb", choices=["stsb", "mrpc", "rte"])
    ap.add_argument("--epochs", type=int, default=8)
    ap.add_argument("--orth", type=float, default=0.5)
    a = ap.parse_args()
    keys = ("sentence1", "sentence2")

    tok = AutoTokenizer.from_pretrained("microsoft/deberta-v3-base")
    ds = load_dataset("glue", a.task, split="train")
    ds = ds.map(lambda b: tok(b[keys[0]], b[keys[1]], truncation=True), batched=True)
    ds = ds.remove_columns([*keys, "idx"]).rename_column("label", "labels")
    dl = DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorWithPadding(tok))
    total = a.epochs * len(dl)

    model = AutoModelForSequenceClassification.from_pretrained(
        "microsoft/deberta-v3-base", num_labels=1 if a.task == "stsb" else 2)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="SEQ_CLS", init_r=8, target_r=4, lora_alpha=16, orth_reg_weight=a.orth,
        target_modules=["query_proj", "key_proj", "value_proj"],
        tinit=int(total * .1), tfinal=int(total * .3), deltaT=10, total_step=total)).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sch = get_linear_schedule_with_warmup(opt, total // 20, total)

    step = 0
    model.train()
    for ep in range(a.epochs):
        for b in dl:
            out = model(**b.to("cuda"))
            loss = out.loss + a.orth * orth_regu(model)
            loss.backward()
            opt.step()
            sch.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        print(ep, loss.item())
    model.save_pretrained(f"{a.task}-adalora")


if __name__ == "__main__":
    main()
