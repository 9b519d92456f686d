"""One base model, one adapter for each customer, trained one after the other."""
import argparse
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


def loader_for(customer, tok, bs):
    d = load_dataset("json", data_files=f"customers/{customer}.jsonl", split="train")
    d = d.map(lambda b: tok(b["text"], truncation=True, max_length=512), batched=True, remove_columns=d.column_names)
    return DataLoader(d, bs, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))


def config_for(total):
    return AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=8,
        tinit=total // 10,
        tfinal=total // 4,
        deltaT=5,
        total_step=total,
        target_modules=["q_proj", "v_proj"],
    )


def train(model, loader, epochs, lr):
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    step = 0
    for epoch in range(epochs):
        for batch in loader:
            loss = model(**batch.to(model.device)).loss
            loss.backward()
            opt.step()
            step += 1
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
        print(f"  epoch {epoch}: {loss.item():.4f}")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--base", default="facebook/opt-1.3b")
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--bs", type=int, default=4)
    args = ap.parse_args()
    customers = ["acme", "globex", "initech"]

    tok = AutoTokenizer.from_pretrained(args.base)
    base = AutoModelForCausalLM.from_pretrained(args.base).cuda()
    model = None
    for c in customers:
        loader = loader_for(c, tok, args.bs)
        cfg = config_for(len(loader) * args.epochs)
        if model is None:
            model = get_peft_model(base, cfg, adapter_name=c)
        else:
            model.add_adapter(c, cfg)
        model.set_adapter(c)
        print(c, len(loader))
        train(model, loader, args.epochs, 5e-4)
        model.save_pretrained("adapters", selected_adapters=[c])


if __name__ == "__main__":
    main()
