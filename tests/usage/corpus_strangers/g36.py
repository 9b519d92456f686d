"""Layer-wise learning rates + AdaLoRA on RoBERTa."""
import re

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling

MODEL_NAME = "roberta-base"
BASE_LR = 1e-3
DECAY = 0.95
EPOCHS = 2
BATCH = 32


def get_loader(tok):
    ds = load_dataset("ag_news", split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=128), batched=True,
                remove_columns=ds.column_names)
    return DataLoader(ds, BATCH, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm_probability=0.15))


def layerwise_optimizer(model):
    n_layers = model.config.num_hidden_layers
    groups = {}
    for name, p in model.named_parameters():
        m = re.search(r"layer\.(\d+)\.", name)
        depth = n_layers - int(m.group(1)) if m else 0
        groups.setdefault(depth, []).append(p)
    return torch.optim.AdamW([{"params": ps, "lr": BASE_LR * DECAY ** d} for d, ps in groups.items()])


def main():
    device = torch.device("cuda")
    tok = AutoTokenizer.from_pretrained(MODEL_NAME)
    loader = get_loader(tok)
    total = len(loader) * EPOCHS

    model = AutoModelForMaskedLM.from_pretrained(MODEL_NAME).to(device)
    optimizer = layerwise_optimizer(model)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=total)

    config = AdaLoraConfig(
        init_r=12,
        target_r=8,
        tinit=total // 10,
        tfinal=total // 4,
        deltaT=10,
        total_step=total,
        target_modules=["query", "value"],
    )
    model = get_peft_model(model, config)
    model.print_trainable_parameters()
    model.to(device)

    step = 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in loader:
            batch = batch.to(device)
            loss = model.base_model(**batch).loss
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            model.base_model.update_and_allocate(step)
            model.zero_grad()
            if step % 100 == 0:
                print(f"epoch {epoch} step {step}/{total} loss {loss.item():.4f}")
    model.save_pretrained("roberta-agnews-mlm")


if __name__ == "__main__":
    main()
