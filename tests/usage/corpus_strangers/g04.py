"""OPT-350m on wikitext. The rank allocator hangs on the optimizer as a post-step hook."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

device = "cuda" if torch.cuda.is_available() else "cpu"
BLOCK, BS, EPOCHS = 512, 4, 2

tok = AutoTokenizer.from_pretrained("facebook/opt-350m")
raw = load_dataset("wikitext", "wikitext-2-raw-v1", split="train")


def chunk(batch):
    ids = sum(tok(batch["text"])["input_ids"], [])
    n = len(ids) // BLOCK * BLOCK
    return {"input_ids": [ids[i:i + BLOCK] for i in range(0, n, BLOCK)]}


train = raw.map(chunk, batched=True, remove_columns=raw.column_names)
loader = DataLoader(train, batch_size=BS, shuffle=True, drop_last=True,
                    collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
T = EPOCHS * len(loader)

model = AutoModelForCausalLM.from_pretrained("facebook/opt-350m")
model = get_peft_model(model, AdaLoraConfig(
    task_type="CAUSAL_LM", init_r=16, target_r=8, lora_alpha=16, tinit=T // 8, tfinal=T // 4, deltaT=4,
    total_step=T, target_modules=["q_proj", "v_proj", "fc1", "fc2"]))
model.to(device)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


class Counter:
    n = 0


def allocate(opt, args, kwargs):
    Counter.n += 1
    model.base_model.update_and_allocate(Counter.n)


handle = optimizer.register_step_post_hook(allocate)

model.train()
for epoch in range(EPOCHS):
    running = 0.0
    for i, batch in enumerate(loader):
        batch = batch.to(device)
        out = model(**batch)
        out.loss.backward()
        optimizer.step()      # hook fires here
        optimizer.zero_grad(set_to_none=True)
        running += out.loss.item()
        if i % 100 == 99:
            print(epoch, i + 1, running / 100)
            running = 0.0

handle.remove()
print("steps", Counter.n, "of", T)
model.save_pretrained("opt350m-wt2-adalora")
