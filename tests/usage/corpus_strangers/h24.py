"""Focal loss on logits. The model never sees labels, so it cannot add AdaLoRA's
orthogonality term; we add it ourselves (same formula as in PEFT)."""
import torch
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME, EPOCHS, GAMMA = "bert-base-uncased", 3, 2.0


def focal(logits, y):
    logp = F.log_softmax(logits, -1).gather(1, y[:, None]).squeeze(1)
    return (-(1 - logp.exp()) ** GAMMA * logp).mean()


def orthogonality(model, adapter="default"):
    total, n = 0.0, 0
    for name, p in model.named_parameters():
        if adapter not in name:
            continue
        if "lora_A" in name:
            gram = p @ p.T
        elif "lora_B" in name:
            gram = p.T @ p
        else:
            continue
        total = total + torch.linalg.norm(gram - torch.eye(gram.size(0), device=gram.device))
        n += 1
    return total / n


def main():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("tweet_eval", "hate", split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=96), batched=True, remove_columns=["text"])
    dl = DataLoader(ds, 32, shuffle=True, collate_fn=DataCollatorWithPadding(tok))
    n = EPOCHS * len(dl)

    cfg = AdaLoraConfig(
        task_type="SEQ_CLS", init_r=8, target_r=4, lora_alpha=16, orth_reg_weight=0.5,
        target_modules=["query", "key", "value"], tinit=n // 10, tfinal=n // 4, deltaT=5, total_step=n,
    )
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2), cfg).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    step = 0
    model.train()
    for ep in range(EPOCHS):
        for batch in dl:
            batch = batch.to("cuda")
            y = batch.pop("labels")
            task = focal(model(**batch).logits, y)
            loss = task + cfg.orth_reg_weight * orthogonality(model)
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        print(ep, task.item(), loss.item())
    model.save_pretrained("hate-adalora")


if __name__ == "__main__":
    main()
