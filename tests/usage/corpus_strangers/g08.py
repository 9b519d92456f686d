import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = "Qwen/Qwen2.5-0.5B"
EPOCHS = 4
LR = 4e-4
PROMPTS = ["Translate to French: Good morning", "Translate to French: Where is the station?"]

tokenizer = AutoTokenizer.from_pretrained(MODEL)
data = load_dataset("opus_books", "en-fr", split="train[:20000]")


def collate(rows):
    texts = [f"Translate to French: {r['translation']['en']}\n{r['translation']['fr']}{tokenizer.eos_token}" for r in rows]
    enc = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    enc["labels"] = enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)
    return enc


loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=collate)
total_step = len(loader) * EPOCHS

base = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.bfloat16).cuda()
config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    init_r=12,
    target_r=6,
    tinit=500,
    tfinal=2000,
    deltaT=20,
    total_step=total_step,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
)
model = get_peft_model(base, config)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)


def show_samples(model):
    model.eval()
    fast = model.merge_and_unload()
    for p in PROMPTS:
        ids = tokenizer(p + "\n", return_tensors="pt").to("cuda")
        out = fast.generate(**ids, max_new_tokens=40, do_sample=False)
        print(tokenizer.decode(out[0], skip_special_tokens=True))


global_step = 0
for epoch in range(EPOCHS):
    model.train()
    for batch in loader:
        batch = batch.to("cuda")
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        global_step += 1
        model.base_model.update_and_allocate(global_step)
        optimizer.zero_grad()
        if global_step % 100 == 0:
            print(f"{epoch} {global_step} {loss.item():.3f}")
    show_samples(model)

model.save_pretrained("enfr-adalora")
