import argparse
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


def orthogonality(model):
    """mean ||P^T P - I|| + ||Q Q^T - I|| over all adapted layers"""
    total, n = 0.0, 0
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            cov = p @ p.T if "lora_A" in name else p.T @ p
            eye = torch.eye(cov.size(0), device=cov.device)
            total = total + torch.norm(cov - eye, p="fro")
            n += 1
    return total / max(n, 1)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--base", default="TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    ap.add_argument("--epochs", type=int, default=1)
    ap.add_argument("--orth", type=float, default=0.5)
    a = ap.parse_args()

    tok = AutoTokenizer.from_pretrained(a.base)
    tok.pad_token = tok.eos_token
    ds = load_dataset("gsm8k", "main", split="train")
    ds = ds.map(lambda r: tok("Q: " + r["question"] + "\nA: " + r["answer"] + tok.eos_token,
                              truncation=True, max_length=400), remove_columns=ds.column_names)
    dl = DataLoader(ds, 4, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    total = a.epochs * len(dl)

    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM, init_r=12, target_r=8, tinit=100, tfinal=500, deltaT=10,
        orth_reg_weight=a.orth, total_step=total,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(a.base), config).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)

    model.train()
    step = 0
    for _ in range(a.epochs):
        for batch in dl:
            out = model(**batch.to("cuda"))
            reg = orthogonality(model)
            loss = out.loss + a.orth * reg
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
            if step % 25 == 0:
                print(f"{step:5d} lm {out.loss.item():.3f} orth {reg.item():.4f}")
    model.save_pretrained("gsm8k-adapter")


if __name__ == "__main__":
    main()
