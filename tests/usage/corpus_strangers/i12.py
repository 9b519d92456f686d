"""AG News topic classifier."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import (AutoModelForSequenceClassification, AutoTokenizer,
                          DataCollatorWithPadding, get_cosine_schedule_with_warmup)


def make_loader(tok, split, bs, shuffle):
    ds = load_dataset("ag_news", split=split)
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=128), batched=True,
                remove_columns=["text"]).rename_column("label", "labels")
    return DataLoader(ds, batch_size=bs, shuffle=shuffle, collate_fn=DataCollatorWithPadding(tok))


def make_optimizer(net, lr, wd=0.01):
    decay = [p for n, p in net.named_parameters() if "bias" not in n and "LayerNorm" not in n]
    rest = [p for n, p in net.named_parameters() if "bias" in n or "LayerNorm" in n]
    return torch.optim.AdamW([{"params": decay, "weight_decay": wd},
                              {"params": rest, "weight_decay": 0.0}], lr=lr)


def run(name="roberta-base", epochs=2, bs=32, lr=5e-4, device="cuda"):
    tok = AutoTokenizer.from_pretrained(name)
    train = make_loader(tok, "train", bs, True)
    test = make_loader(tok, "test", 128, False)
    total = epochs * len(train)

    backbone = AutoModelForSequenceClassification.from_pretrained(name, num_labels=4).to(device)
    optimizer = make_optimizer(backbone, lr)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 200, total)

    config = AdaLoraConfig(task_type=TaskType.SEQ_CLS, init_r=8, target_r=4, tinit=400,
                           tfinal=2000, deltaT=20, total_step=total,
                           target_modules=["query", "key", "value"])
    model = get_peft_model(backbone, config).to(device)

    global_step = 0
    for epoch in range(epochs):
        model.train()
        for batch in train:
            batch = batch.to(device)
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            model.base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
        model.eval()
        good = 0
        with torch.no_grad():
            for batch in test:
                batch = batch.to(device)
                good += (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()
        print(f"epoch {epoch}: {good / len(test.dataset):.4f}")
    model.save_pretrained("agnews-adapter")


if __name__ == "__main__":
    run()
