"""accelerate launch h12.py  (2+ GPUs)"""
import torch
from accelerate import Accelerator
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

name = "google/flan-t5-small"
epochs, bs, lr = 4, 16, 1e-3


def tokenize(tok, ex):
    out = tok(ex["document"], max_length=512, truncation=True)
    out["labels"] = tok(text_target=ex["summary"], max_length=64, truncation=True)["input_ids"]
    return out


def main():
    acc = Accelerator()
    tok = AutoTokenizer.from_pretrained(name)
    ds = load_dataset("EdinburghNLP/xsum", split="train[:20000]")
    ds = ds.map(lambda e: tokenize(tok, e), batched=True, remove_columns=ds.column_names)
    dl = acc.prepare(DataLoader(ds, bs, shuffle=True, collate_fn=DataCollatorForSeq2Seq(tok)))

    total = len(dl) * epochs
    model = AutoModelForSeq2SeqLM.from_pretrained(name)
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type=TaskType.SEQ_2_SEQ_LM, init_r=12, target_r=6, lora_alpha=24,
            target_modules=["q", "k", "v", "o", "wi_0", "wi_1", "wo"],
            tinit=total // 8, tfinal=total // 4, deltaT=10, total_step=total,
        ),
    )
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model, opt = acc.prepare(model, opt)

    step = 0
    bar = tqdm(total=total, disable=not acc.is_main_process)
    for ep in range(epochs):
        model.train()
        for batch in dl:
            loss = model(**batch).loss
            acc.backward(loss)
            opt.step()
            if acc.is_main_process:
                acc.unwrap_model(model).base_model.update_and_allocate(step)
                bar.set_postfix(loss=loss.item())
                bar.update(1)
            opt.zero_grad()
            step += 1
    acc.wait_for_everyone()
    if acc.is_main_process:
        acc.unwrap_model(model).save_pretrained("xsum-adalora")


if __name__ == "__main__":
    main()
