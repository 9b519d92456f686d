"""Distil a fine-tuned BERT-large into BERT-base; only the student carries AdaLoRA."""
import torch
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

TEACHER = "yoshitomo-matsubara/bert-large-uncased-mnli"
STUDENT = "bert-base-uncased"
T = 2.0
EPOCHS = 2
DEV = "cuda"


def kd(student_logits, teacher_logits):
    return F.kl_div(
        F.log_softmax(student_logits / T, -1), F.softmax(teacher_logits / T, -1), reduction="batchmean"
    ) * T * T


tok = AutoTokenizer.from_pretrained(STUDENT)
ds = load_dataset("glue", "mnli", split="train")
ds = ds.map(lambda b: tok(b["premise"], b["hypothesis"], truncation=True, max_length=128), batched=True)
ds = ds.remove_columns(["premise", "hypothesis", "idx"]).rename_column("label", "labels")
dl = DataLoader(ds, 32, shuffle=True, collate_fn=DataCollatorWithPadding(tok), num_workers=4)
steps = EPOCHS * len(dl)

teacher = AutoModelForSequenceClassification.from_pretrained(TEACHER, num_labels=3).to(DEV).eval()
teacher.requires_grad_(False)

student = AutoModelForSequenceClassification.from_pretrained(STUDENT, num_labels=3)
student = get_peft_model(
    student,
    AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        init_r=16,
        target_r=8,
        lora_alpha=32,
        target_modules=["query", "key", "value"],
        tinit=steps // 10,
        tfinal=steps // 3,
        deltaT=50,
        total_step=steps,
    ),
).to(DEV)
opt = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=5e-4)

it = 0
for epoch in range(EPOCHS):
    student.train()
    for batch in dl:
        batch = batch.to(DEV)
        with torch.no_grad():
            t_logits = teacher(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                token_type_ids=batch["token_type_ids"],
            ).logits
        out = student(**batch)
        loss = out.loss + kd(out.logits, t_logits)
        loss.backward()
        opt.step()
        student.base_model.update_and_allocate(it)
        opt.zero_grad()
        it += 1
        if it % 200 == 0:
            print(f"{it}/{steps} hard={out.loss.item():.3f} all={loss.item():.3f}")

student.save_pretrained("mnli-student-adalora")
