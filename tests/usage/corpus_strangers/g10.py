"""Distil a fine-tuned RoBERTa-large into RoBERTa-base. Only the student carries AdaLoRA."""
import torch
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

TEACHER = "models/roberta-large-mnli-ft"
STUDENT = "roberta-base"
TEMP, ALPHA = 2.0, 0.5
EPOCHS, BS = 2, 32
dev = "cuda"


def loaders():
    tok = AutoTokenizer.from_pretrained(STUDENT)
    ds = load_dataset("glue", "mnli")
    ds = ds.map(lambda b: tok(b["premise"], b["hypothesis"], truncation=True, max_length=128), batched=True)
    ds = ds.rename_column("label", "labels").remove_columns(["premise", "hypothesis", "idx"])
    c = DataCollatorWithPadding(tok)
    return (DataLoader(ds["train"], BS, shuffle=True, collate_fn=c),
            DataLoader(ds["validation_matched"], 128, collate_fn=c))


@torch.no_grad()
def accuracy(m, loader):
    m.eval()
    ok = n = 0
    for b in loader:
        b = b.to(dev)
        ok += (m(**b).logits.argmax(-1) == b["labels"]).sum().item()
        n += len(b["labels"])
    m.train()
    return ok / n


def kd(s, t):
    return F.kl_div(F.log_softmax(s / TEMP, -1), F.softmax(t / TEMP, -1), reduction="batchmean") * TEMP ** 2


train, val = loaders()
teacher = AutoModelForSequenceClassification.from_pretrained(TEACHER, num_labels=3).to(dev).eval()
teacher.requires_grad_(False)

student = AutoModelForSequenceClassification.from_pretrained(STUDENT, num_labels=3)
N = EPOCHS * len(train)
student = get_peft_model(student, AdaLoraConfig(
    task_type="SEQ_CLS", init_r=12, target_r=8, tinit=1000, tfinal=6000, deltaT=50, total_step=N,
    target_modules=["query", "value", "intermediate.dense", "output.dense"])).to(dev)
opt = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=5e-4)

step = 0
for epoch in range(EPOCHS):
    student.train()
    for batch in train:
        batch = batch.to(dev)
        out = student(**batch)
        with torch.no_grad():
            t_logits = teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        # out.loss = CE + AdaLoRA's orthogonality term
        loss = out.loss + ALPHA * kd(out.logits, t_logits)
        loss.backward()
        opt.step()
        step += 1
        student.base_model.update_and_allocate(step)
        opt.zero_grad()
    print(epoch, accuracy(student, val))
student.save_pretrained("student-adalora")
