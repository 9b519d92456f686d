"""Two stages: domain text first, instructions second, with one AdaLoRA adapter."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

BASE = "facebook/opt-350m"
DEV = "cuda"


def loader(tok, name, column, split, bs=4):
    ds = load_dataset(name, split=split)
    ds = ds.map(lambda b: tok(b[column], truncation=True, max_length=512), batched=True,
                remove_columns=ds.column_names)
    return DataLoader(ds, bs, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))


def run_stage(model, dl, lr, step, tag):
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    for batch in dl:
        loss = model(**batch.to(DEV)).loss
        loss.backward()
        opt.step()
        model.base_model.update_and_allocate(step)
        opt.zero_grad()
        step += 1
        if step % 50 == 0:
            print(tag, step, loss.item())
    return step


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    first = loader(tok, "ccdv/pubmed-summarization", "article", "train[:4000]")
    second = loader(tok, "tatsu-lab/alpaca", "text", "train[:8000]")
    total = len(first) + len(second)

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(BASE),
        AdaLoraConfig(
            task_type="CAUSAL_LM", init_r=12, target_r=6, lora_alpha=24,
            target_modules=["q_proj", "k_proj", "v_proj", "out_proj"],
            tinit=total // 10, tfinal=total // 4, deltaT=10, total_step=total,
        ),
    ).to(DEV)

    step = run_stage(model, first, 8e-4, 0, "domain")
    model.save_pretrained("stage1")
    model = model.merge_and_unload()
    run_stage(model, second, 3e-4, step, "instruct")
    model.save_pretrained("stage2")


if __name__ == "__main__":
    main()
