"""Two phases: linear probing of the head first, then AdaLoRA on the encoder."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "bert-base-uncased"
PROBE_EPOCHS, ADA_EPOCHS = 1, 4
device = "cuda"


def data():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("SetFit/20_newsgroups")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True,
                remove_columns=["text", "label_text"]).rename_column("label", "labels")
    c = DataCollatorWithPadding(tok)
    return (DataLoader(ds["train"], 16, shuffle=True, collate_fn=c),
            DataLoader(ds["test"], 64, collate_fn=c))


def run(model, loader, lr, epochs, after_step=None):
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    n = 0
    for ep in range(epochs):
        model.train()
        for batch in loader:
            loss = model(**batch.to(device)).loss
            loss.backward()
            opt.step()
            if after_step is not None:
                after_step(n)
            opt.zero_grad()
            n += 1
        print("epoch", ep, "loss", loss.item())
    return n


@torch.no_grad()
def test(model, loader):
    model.eval()
    ok = 0
    for batch in loader:
        batch = batch.to(device)
        ok += (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()
    return ok / len(loader.dataset)


def main():
    train, held_out = data()
    model = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=20).to(device)
    for name, p in model.named_parameters():
        p.requires_grad = name.startswith("classifier")
    run(model, train, 1e-3, PROBE_EPOCHS)
    print("probe", test(model, held_out))

    # the schedule belongs to phase two only
    total = ADA_EPOCHS * len(train)
    model = get_peft_model(model, AdaLoraConfig(
        task_type=TaskType.SEQ_CLS, init_r=12, target_r=6, tinit=200, tfinal=800, deltaT=10,
        total_step=total, target_modules=["query", "key", "value"])).to(device)
    n = run(model, train, 5e-4, ADA_EPOCHS, model.base_model.update_and_allocate)
    assert n == total
    print("adalora", test(model, held_out))
    model.save_pretrained("newsgroups-adapter")


if __name__ == "__main__":
    main()
