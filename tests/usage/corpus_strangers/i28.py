"""Distil a big OPT into a small one; only the student carries AdaLoRA."""
import torch
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

TEACHER, STUDENT = "facebook/opt-1.3b", "facebook/opt-125m"
TEMP, ALPHA, EPOCHS = 2.0, 0.5, 2
dev = torch.device("cuda")


def kd(student_logits, teacher_logits, mask):
    s = F.log_softmax(student_logits / TEMP, -1)
    t = F.softmax(teacher_logits / TEMP, -1)
    per_tok = F.kl_div(s, t, reduction="none").sum(-1)
    return (per_tok * mask).sum() / mask.sum() * TEMP ** 2


tok = AutoTokenizer.from_pretrained(STUDENT)
ds = load_dataset("Abirate/english_quotes", split="train")
ds = ds.map(lambda r: tok(r["quote"], truncation=True, max_length=128), remove_columns=ds.column_names)
dl = DataLoader(ds, 8, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
total = EPOCHS * len(dl)

teacher = AutoModelForCausalLM.from_pretrained(TEACHER, torch_dtype=torch.float16).to(dev).eval()
teacher.requires_grad_(False)
student = get_peft_model(
    AutoModelForCausalLM.from_pretrained(STUDENT),
    AdaLoraConfig(task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=total // 10,
                  tfinal=total // 4, deltaT=5, total_step=total,
                  target_modules=["q_proj", "k_proj", "v_proj", "fc1", "fc2"])).to(dev)
opt = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=5e-4)

step = 0
student.train()
for epoch in range(EPOCHS):
    for batch in dl:
        batch = batch.to(dev)
        with torch.no_grad():
            t_logits = teacher(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        out = student(**batch)
        # out.loss: cross entropy plus PEFT's orthogonality term
        loss = out.loss + ALPHA * kd(out.logits, t_logits, batch["attention_mask"])
        loss.backward()
        opt.step()
        student.base_model.update_and_allocate(step)
        opt.zero_grad()
        step += 1
        if step % 50 == 0:
            print(step, total, float(loss))
student.save_pretrained("opt-distilled")
