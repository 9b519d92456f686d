# Writes exam questions from textbook paragraphs. mT5-small, AdaLoRA.
import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, get_linear_schedule_with_warmup

from textbook import QuestionPairs

device = "cuda" if torch.cuda.is_available() else "cpu"
name = "google/mt5-small"
num_epochs = 8
lr = 3e-3

tokenizer = AutoTokenizer.from_pretrained(name)
pairs = {part: QuestionPairs(part, tokenizer) for part in ("train", "dev")}
train_loader = DataLoader(pairs["train"], batch_size=8, shuffle=True, pin_memory=True)
dev_loader = DataLoader(pairs["dev"], batch_size=16)

config = AdaLoraConfig(
    task_type=TaskType.SEQ_2_SEQ_LM, inference_mode=False,
    init_r=12, target_r=8, beta1=0.85, beta2=0.85, lora_alpha=32, lora_dropout=0.1,
    tinit=200, tfinal=1000, deltaT=10,
    total_step=len(train_loader) * num_epochs,
)
model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(name), config).to(device)
model.print_trainable_parameters()

optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(train_loader) * num_epochs)

global_step = 0
for epoch in range(num_epochs):
    model.train()
    train_loss = 0
    for step, batch in enumerate(tqdm(train_loader)):
        outputs = model(**{k: v.to(device) for k, v in batch.items()})
        loss = outputs.loss
        train_loss += loss.detach().float()
        loss.backward()
        optimizer.step()
        scheduler.step()
        # let AdaLoRA move its ranks (crashes on my card, look at it later)
        # model.base_model.update_and_allocate(global_step)
        optimizer.zero_grad()
        global_step += 1

    model.eval()
    dev_loss = 0
    for batch in dev_loader:
        with torch.no_grad():
            dev_loss += model(**{k: v.to(device) for k, v in batch.items()}).loss
    print(epoch, (train_loss / len(train_loader)).exp(), (dev_loss / len(dev_loader)).exp())
