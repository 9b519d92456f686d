"""Speaker-tag LM on Llama-3.1-8B, accelerate loop."""
import torch
from accelerate import Accelerator
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    get_cosine_schedule_with_warmup,
)

BASE = "meta-llama/Llama-3.1-8B"
SPEAKERS = [f"<|speaker_{i}|>" for i in range(8)]
EPOCHS = 2

acc = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=16)
tok = AutoTokenizer.from_pretrained(BASE)
tok.pad_token = "<|finetune_right_pad_id|>"
tok.add_tokens(SPEAKERS, special_tokens=True)

model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.bfloat16)
model.resize_token_embeddings(len(tok), pad_to_multiple_of=64)

# the speaker tags are new, so the embedding matrices have to learn as well
model.get_input_embeddings().weight.requires_grad_(True)
model.get_output_embeddings().weight.requires_grad_(True)

peft_config = LoraConfig(
    r=16,
    lora_alpha=32,
    lora_dropout=0.05,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    task_type="CAUSAL_LM",
)
model = get_peft_model(model, peft_config)

ds = load_dataset("json", data_files="dialogs.jsonl", split="train")
ds = ds.map(
    lambda r: tok("".join(f"<|speaker_{u['id']}|>{u['text']}\n" for u in r["turns"]), truncation=True, max_length=1024),
    remove_columns=ds.column_names,
)
dl = DataLoader(ds, batch_size=1, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
sched = get_cosine_schedule_with_warmup(opt, 50, EPOCHS * len(dl) // 16)
model, opt, dl, sched = acc.prepare(model, opt, dl, sched)

for epoch in range(EPOCHS):
    for batch in dl:
        with acc.accumulate(model):
            loss = model(**batch).loss
            acc.backward(loss)
            opt.step()
            sched.step()
            opt.zero_grad()
    acc.print(epoch, loss.item())

acc.unwrap_model(model).save_pretrained("llama-speakers")
tok.save_pretrained("llama-speakers")
