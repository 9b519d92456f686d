# emotion classification, distilroberta + AdaLoRA
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from datasets import load_dataset
from transformers import AutoTokenizer, AutoModelForSequenceClassification, DataCollatorWithPadding
from peft import get_peft_model, AdaLoraConfig


def make_optimizer(net, lr, wd=0.01):
    no_decay = ("bias", "LayerNorm.weight")
    groups = [
        {"params": [p for n, p in net.named_parameters() if not n.endswith(no_decay)], "weight_decay": wd},
        {"params": [p for n, p in net.named_parameters() if n.endswith(no_decay)], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr)


def main():
    device = "cuda"
    epochs = 4
    tok = AutoTokenizer.from_pretrained("distilroberta-base")
    ds = load_dataset("dair-ai/emotion")
    ds = ds.map(lambda b: tok(b["text"], truncation=True), batched=True, remove_columns=["text"])
    ds = ds.rename_column("label", "labels")
    dl = DataLoader(ds["train"], 32, shuffle=True, collate_fn=DataCollatorWithPadding(tok))

    total = epochs * len(dl)
    net = AutoModelForSequenceClassification.from_pretrained("distilroberta-base", num_labels=6).to(device)
    optimizer = make_optimizer(net, 8e-4)

    cfg = AdaLoraConfig(
        task_type="SEQ_CLS",
        init_r=12,
        target_r=6,
        target_modules=["query", "key", "value"],
        lora_alpha=24,
        tinit=total // 10,
        tfinal=total // 4,
        deltaT=8,
        total_step=total,
    )
    net = get_peft_model(net, cfg)
    net.to(device)
    net.print_trainable_parameters()

    step = 0
    for epoch in range(epochs):
        net.train()
        for batch in dl:
            batch = batch.to(device)
            loss = net(**batch).loss
            loss.backward()
            optimizer.step()
            net.base_model.update_and_allocate(step)
            optimizer.zero_grad()
            step += 1
        print(f"epoch {epoch} loss {loss.item():.4f}")
    net.save_pretrained("emotion-adalora")


if __name__ == "__main__":
    main()
