"""A small router (fully fine-tuned) and an expert (AdaLoRA) trained side by side on the same batches."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

ROUTER = "google/bert_uncased_L-2_H-128_A-2"
EXPERT = "bert-large-uncased"
EPOCHS = 3

tok = AutoTokenizer.from_pretrained(EXPERT)
ds = load_dataset("yelp_review_full", split="train[:40000]")
ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=192), batched=True, remove_columns=["text"])
ds = ds.rename_column("label", "labels")
dl = DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorWithPadding(tok))
total = EPOCHS * len(dl)

router = AutoModelForSequenceClassification.from_pretrained(ROUTER, num_labels=5).cuda()
expert = AutoModelForSequenceClassification.from_pretrained(EXPERT, num_labels=5)
expert = get_peft_model(expert, AdaLoraConfig(
    task_type="SEQ_CLS", init_r=12, target_r=6, lora_alpha=24,
    target_modules=["query", "key", "value"],
    tinit=total // 10, tfinal=total // 4, deltaT=20, total_step=total,
)).cuda()

router_opt = torch.optim.AdamW(router.parameters(), lr=5e-5)
expert_opt = torch.optim.AdamW([p for p in expert.parameters() if p.requires_grad], lr=4e-4)

step = 0
for epoch in range(EPOCHS):
    router.train()
    expert.train()
    for batch in dl:
        batch = batch.to("cuda")

        r_loss = router(**batch).loss
        r_loss.backward()
        router_opt.step()
        router_opt.zero_grad()

        e_loss = expert(**batch).loss
        e_loss.backward()
        expert_opt.step()
        expert.base_model.update_and_allocate(step)
        expert_opt.zero_grad()

        step += 1
        if step % 100 == 0:
            print(f"{step}/{total} router {r_loss.item():.3f} expert {e_loss.item():.3f}")

router.save_pretrained("router")
expert.save_pretrained("expert-adalora")
tok.save_pretrained("router")
