# %%
import wandb
from datasets import load_from_disk
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

BASE = "beomi/KoAlpaca-Polyglot-5.8B"
wandb.init(project="koalpaca-instruct", name="first-try")

tok = AutoTokenizer.from_pretrained(BASE)
if tok.pad_token is None:
    tok.pad_token = tok.eos_token
net = AutoModelForCausalLM.from_pretrained(BASE, trust_remote_code=True)

# %%
# ---- data: already tokenized to 512 ----
ds = load_from_disk("/data/ko_instruct_512")
n_rows = len(ds["train"])
per_gpu = 4
accum = 4
n_epochs = 5
n_updates = (n_rows // (per_gpu * accum)) * n_epochs

# ---- adapter ----
ada = AdaLoraConfig(
    task_type=TaskType.CAUSAL_LM,
    inference_mode=False,
    init_r=8,
    target_modules=["query_key_value"],
    lora_alpha=32,
    lora_dropout=0.1,
    tinit=200,
    tfinal=1000,
    deltaT=10,
    total_step=n_updates,  # needed!
)
net = get_peft_model(net, ada)

# %%
targs = TrainingArguments(
    output_dir="koalpaca_adalora",
    per_device_train_batch_size=per_gpu,
    gradient_accumulation_steps=accum,
    num_train_epochs=n_epochs,
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=5e-5,
    bf16=True,
    report_to="wandb",
)
trainer = Trainer(
    model=net,
    args=targs,
    train_dataset=ds["train"],
    eval_dataset=ds["test"],
    data_collator=default_data_collator,
)
trainer.train()

net.save_pretrained("/models/koalpaca_adalora")
tok.save_pretrained("/models/koalpaca_adalora")
