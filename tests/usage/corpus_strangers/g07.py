"""
DDP fine-tuning of BERT for NER with AdaLoRA.
    torchrun --standalone --nproc_per_node 2 g07.py
"""
import os

import torch
import torch.distributed as dist
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification

NAME, EPOCHS, BS = "bert-base-cased", 4, 16


def encode(tok):
    def fn(batch):
        enc = tok(batch["tokens"], is_split_into_words=True, truncation=True, max_length=160)
        labels = []
        for i, tags in enumerate(batch["ner_tags"]):
            prev, row = None, []
            for w in enc.word_ids(i):
                row.append(-100 if w is None or w == prev else tags[w])
                prev = w
            labels.append(row)
        enc["labels"] = labels
        return enc
    return fn


def evaluate(model, loader, dev):
    model.eval()
    hit = torch.zeros(2, device=dev)
    with torch.no_grad():
        for b in loader:
            b = b.to(dev)
            pred = model(**b).logits.argmax(-1)
            mask = b["labels"] != -100
            hit += torch.stack([(pred[mask] == b["labels"][mask]).sum(), mask.sum()]).float()
    dist.all_reduce(hit)
    model.train()
    return (hit[0] / hit[1]).item()


def run():
    dist.init_process_group(backend="nccl")
    dev = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(dev)
    torch.manual_seed(0)
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("conll2003")
    ds = ds.map(encode(tok), batched=True, remove_columns=ds["train"].column_names)
    coll = DataCollatorForTokenClassification(tok)
    sampler = DistributedSampler(ds["train"])
    train = DataLoader(ds["train"], BS, sampler=sampler, collate_fn=coll)
    val = DataLoader(ds["validation"], BS, sampler=DistributedSampler(ds["validation"], shuffle=False), collate_fn=coll)

    steps = len(train) * EPOCHS      # already the share of one process
    net = AutoModelForTokenClassification.from_pretrained(NAME, num_labels=9)
    net = get_peft_model(net, AdaLoraConfig(
        task_type="TOKEN_CLS", target_modules=["query", "value", "dense"], init_r=8, target_r=4,
        tinit=100, tfinal=500, deltaT=10, total_step=steps, lora_alpha=16)).to(dev)
    ddp = DistributedDataParallel(net, device_ids=[dev.index])
    opt = torch.optim.AdamW((p for p in ddp.parameters() if p.requires_grad), lr=5e-4)

    step = 0
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for batch in train:
            out = ddp(**batch.to(dev))
            out.loss.backward()
            torch.nn.utils.clip_grad_norm_(ddp.parameters(), 1.0)
            opt.step()
            ddp.module.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        acc = evaluate(ddp, val, dev)
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: token accuracy {acc:.4f}")
    if dist.get_rank() == 0:
        ddp.module.save_pretrained("ner-adalora")
        tok.save_pretrained("ner-adalora")
    dist.destroy_process_group()


if __name__ == "__main__":
    run()
