"""AdaLoRA allocation as an optimizer post-step hook, so that the loop stays clean."""
import torch
from datasets import load_dataset
from itertools import count
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


def attach_allocator(optimizer, peft_model):
    counter = count()

    def hook(opt, args, kwargs):
        peft_model.base_model.update_and_allocate(next(counter))

    return optimizer.register_step_post_hook(hook)


def train(model, loader, optimizer, epochs, device):
    for epoch in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            loss = model(**batch.to(device)).loss
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


def main():
    name, epochs, device = "facebook/opt-125m", 3, "cuda"
    tok = AutoTokenizer.from_pretrained(name)
    ds = load_dataset("imdb", split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True,
                remove_columns=ds.column_names)
    loader = DataLoader(ds, 16, shuffle=True, drop_last=True,
                        collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    total = epochs * len(loader)
    cfg = AdaLoraConfig(task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=500, tfinal=1000, deltaT=10,
                        total_step=total, target_modules=["q_proj", "k_proj", "v_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(name), cfg).to(device)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4)
    handle = attach_allocator(optimizer, model)
    train(model, loader, optimizer, epochs, device)
    handle.remove()
    model.save_pretrained("imdb-lm-adapter")


if __name__ == "__main__":
    main()
