"""Second round on new data. The rank budget of the loaded adapter is final
(pruned and stored by round one), so no further allocation is done here."""
import argparse
import torch
from datasets import load_dataset
from peft import PeftConfig, PeftModel
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("adapter")
    ap.add_argument("data", help="jsonl with a text field")
    ap.add_argument("--out", required=True)
    ap.add_argument("--epochs", type=int, default=1)
    ap.add_argument("--lr", type=float, default=5e-5)
    a = ap.parse_args()

    pc = PeftConfig.from_pretrained(a.adapter)
    tok = AutoTokenizer.from_pretrained(pc.base_model_name_or_path)
    if tok.pad_token is None:
        tok.pad_token = tok.eos_token
    base = AutoModelForCausalLM.from_pretrained(pc.base_model_name_or_path)
    model = PeftModel.from_pretrained(base, a.adapter, is_trainable=True).to("cuda")
    model.print_trainable_parameters()

    ds = load_dataset("json", data_files=a.data, split="train")
    ds = ds.map(lambda r: tok(r["text"], truncation=True, max_length=512), remove_columns=ds.column_names)
    dl = DataLoader(ds, 4, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=a.lr)
    model.train()
    for epoch in range(a.epochs):
        for i, batch in enumerate(dl):
            loss = model(**batch.to("cuda")).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            opt.step()
            opt.zero_grad()
            if i % 50 == 0:
                print(epoch, i, loss.item())
    model.save_pretrained(a.out)


if __name__ == "__main__":
    main()
