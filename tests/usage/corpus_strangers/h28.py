# Quick experiment: only the first N batches of each epoch, schedule shortened to match.
import itertools
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

CAP = 300
EPOCHS = 3
tok = AutoTokenizer.from_pretrained("bigscience/bloom-560m")
ds = load_dataset("wikitext", "wikitext-103-raw-v1", split="train[:2%]").filter(lambda r: len(r["text"]) > 100)
ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True, remove_columns=["text"])
dl = DataLoader(ds, 8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))

per_epoch = min(CAP, len(dl))
total_step = EPOCHS * per_epoch

model = AutoModelForCausalLM.from_pretrained("bigscience/bloom-560m")
model = get_peft_model(model, AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["query_key_value"],
    init_r=8,
    target_r=4,
    lora_alpha=16,
    tinit=total_step // 9,
    tfinal=total_step // 3,
    deltaT=3,
    total_step=total_step,
)).cuda()
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

step = 0
model.train()
for epoch in range(EPOCHS):
    losses = []
    for batch in itertools.islice(dl, per_epoch):
        loss = model(**batch.to("cuda")).loss
        loss.backward()
        opt.step()
        model.base_model.update_and_allocate(step)
        opt.zero_grad()
        step += 1
        losses.append(loss.item())
    print(f"epoch {epoch}: mean loss {sum(losses) / len(losses):.3f}")
assert step == total_step
model.save_pretrained("bloom-quick")
