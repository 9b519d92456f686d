"""
Two phases, two adapters, one after the other:
  1. domain adaptation on plain text, merged into the weights when it is done
  2. instruction tuning on the merged model with a new adapter, new schedule, new optimizer and new counter
"""
import gc

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

BASE = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
tok = AutoTokenizer.from_pretrained(BASE)
tok.pad_token = tok.eos_token


def texts(path, field, length):
    d = load_dataset("json", data_files=path, split="train")
    return d.map(lambda b: tok(b[field], truncation=True, max_length=length), batched=True,
                 remove_columns=d.column_names)


def fit(net, ds, *, epochs, bs, lr, ranks, name):
    loader = DataLoader(ds, bs, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    total = epochs * len(loader)
    hi, lo = ranks
    peft_net = get_peft_model(net, AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=hi, target_r=lo, tinit=total // 10, tfinal=total // 4,
        deltaT=max(1, total // 200), total_step=total,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]))
    peft_net.train()
    opt = torch.optim.AdamW([p for p in peft_net.parameters() if p.requires_grad], lr=lr)
    step = 0
    for epoch in range(epochs):
        for batch in loader:
            loss = peft_net(**batch.to("cuda")).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(peft_net.parameters(), 0.5)
            opt.step()
            step += 1
            peft_net.base_model.update_and_allocate(step)
            opt.zero_grad()
            if step % 50 == 0:
                print(f"[{name}] {step}/{total} {loss.item():.3f}")
    peft_net.save_pretrained(f"phases/{name}")
    return peft_net


def main():
    net = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.float32).to("cuda")

    domain = fit(net, texts("domain.jsonl", "text", 512), epochs=1, bs=8, lr=3e-4, ranks=(16, 10), name="domain")
    net = domain.merge_and_unload()
    net.save_pretrained("phases/domain-merged")
    del domain
    gc.collect()
    torch.cuda.empty_cache()

    chat = fit(net, texts("chat.jsonl", "conversation", 768), epochs=3, bs=4, lr=2e-4, ranks=(12, 8), name="chat")
    chat.merge_and_unload().save_pretrained("phases/final")
    tok.save_pretrained("phases/final")


if __name__ == "__main__":
    main()
