"""One base, one adapter per language, trained after one another."""
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

BASE = "bigscience/bloom-1b1"
LANGS = {"de": "data/de.txt", "fr": "data/fr.txt", "sw": "data/sw.txt"}
DEVICE = "cuda"


def lora(r):
    return LoraConfig(
        r=r,
        lora_alpha=2 * r,
        lora_dropout=0.05,
        target_modules=["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
        task_type="CAUSAL_LM",
    )


tok = AutoTokenizer.from_pretrained(BASE)
base = AutoModelForCausalLM.from_pretrained(BASE)

model = get_peft_model(base, lora(8), adapter_name="de")
model.add_adapter("fr", lora(8))
model.add_adapter("sw", lora(32))  # least seen in pretraining, so more capacity
model.to(DEVICE)


def loader(path):
    ds = load_dataset("text", data_files=path, split="train")
    ds = ds.filter(lambda r: len(r["text"]) > 20)
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True, remove_columns=["text"])
    return DataLoader(ds, 8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))


for lang, path in LANGS.items():
    model.set_adapter(lang)  # makes this adapter active and the only trainable one
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=2e-4)
    model.train()
    for batch in loader(path):
        loss = model(**batch.to(DEVICE)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad()
    print(lang, loss.item())

model.save_pretrained("bloom-langs")
