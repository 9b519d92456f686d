import argparse
import logging

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (AutoModelForSeq2SeqLM, AutoTokenizer,
                          DataCollatorForSeq2Seq, get_linear_schedule_with_warmup)

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("samsum")


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="google/flan-t5-base")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch_size", type=int, default=8)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--out", default="samsum-adalora")
    return p.parse_args()


def get_data(tok, bs):
    ds = load_dataset("knkarthick/samsum")

    def enc(ex):
        x = tok(["summarize: " + d for d in ex["dialogue"]], max_length=512, truncation=True)
        x["labels"] = tok(text_target=ex["summary"], max_length=96, truncation=True)["input_ids"]
        return x

    ds = ds.map(enc, batched=True, remove_columns=ds["train"].column_names)
    return ds


def step_all(model, optimizer, scheduler, global_step):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    model.base_model.update_and_allocate(global_step)


def main():
    args = parse()
    tok = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(args.model)
    ds = get_data(tok, args.batch_size)
    coll = DataCollatorForSeq2Seq(tok, model=model)
    train = DataLoader(ds["train"], args.batch_size, shuffle=True, collate_fn=coll)
    val = DataLoader(ds["validation"], args.batch_size, collate_fn=coll)

    total = len(train) * args.epochs
    cfg = AdaLoraConfig(task_type="SEQ_2_SEQ_LM", init_r=12, target_r=8, tinit=200, tfinal=1000, deltaT=10,
                        lora_alpha=32, lora_dropout=0.1, total_step=total, target_modules=["q", "v"])
    model = get_peft_model(model, cfg).cuda()
    model.print_trainable_parameters()
    opt = torch.optim.AdamW(model.parameters(), lr=args.lr)
    sched = get_linear_schedule_with_warmup(opt, 100, total)

    gs = 0
    for ep in range(args.epochs):
        model.train()
        for batch in tqdm(train):
            batch = {k: v.cuda() for k, v in batch.items()}
            loss = model(**batch).loss
            loss.backward()
            gs += 1
            step_all(model, opt, sched, gs)
        model.eval()
        tot = 0.0
        with torch.no_grad():
            for batch in val:
                tot += model(**{k: v.cuda() for k, v in batch.items()}).loss.item()
        log.info("epoch %d val loss %.4f", ep, tot / len(val))
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
