# flan-t5 on xsum subset
import torch
from torch.utils.data import DataLoader
from datasets import load_dataset
from transformers import AutoTokenizer, T5ForConditionalGeneration, DataCollatorForSeq2Seq
from peft import get_peft_model, AdaLoraConfig

NAME = "google/flan-t5-small"
EPOCHS = 5
tok = AutoTokenizer.from_pretrained(NAME)
model = T5ForConditionalGeneration.from_pretrained(NAME)

train = load_dataset("EdinburghNLP/xsum", split="train[:8000]")


def prep(b):
    x = tok(["summarize: " + d for d in b["document"]], max_length=384, truncation=True)
    x["labels"] = tok(text_target=b["summary"], max_length=64, truncation=True)["input_ids"]
    return x


train = train.map(prep, batched=True, remove_columns=train.column_names)
dl = DataLoader(train, batch_size=16, shuffle=True, collate_fn=DataCollatorForSeq2Seq(tok, model))
n = len(dl) * EPOCHS

model = get_peft_model(model, AdaLoraConfig(
    task_type="SEQ_2_SEQ_LM", init_r=12, target_r=8, tinit=200, tfinal=800, deltaT=10,
    total_step=n, target_modules=["q", "v"]))
model.cuda().train()
optim = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3)
sched = torch.optim.lr_scheduler.LinearLR(optim, 1.0, 0.0, total_iters=n)

for epoch in range(EPOCHS):
    seen = 0.0
    for step, batch in enumerate(dl):
        out = model(**batch.to("cuda"))
        out.loss.backward()
        optim.step()
        sched.step()
        model.base_model.update_and_allocate(step)
        optim.zero_grad()
        seen += out.loss.item()
        if step % 100 == 0:
            print(epoch, step, out.loss.item())
    print("epoch", epoch, "avg", seen / len(dl))

model.save_pretrained("flan-xsum")
model.eval()
ids = tok("summarize: " + "The storm hit the coast on Monday.", return_tensors="pt").to("cuda")
print(tok.decode(model.generate(**ids, max_new_tokens=40)[0], skip_special_tokens=True))
