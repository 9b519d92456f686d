from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

MAX_STEPS = 2000
BASE = "facebook/opt-350m"


class RankBudget(TrainerCallback):
    """transformers fires on_optimizer_step between optimizer.step() and zero_grad()."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)
        return control


tokenizer = AutoTokenizer.from_pretrained(BASE)
ds = load_dataset("Abirate/english_quotes", split="train")
ds = ds.map(lambda s: tokenizer(s["quote"], truncation=True, max_length=256), batched=True,
            remove_columns=ds.column_names)

base = AutoModelForCausalLM.from_pretrained(BASE)
peft_config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    init_r=12,
    target_r=8,
    beta1=0.85,
    beta2=0.85,
    tinit=200,
    tfinal=500,
    deltaT=10,
    lora_alpha=32,
    lora_dropout=0.1,
    orth_reg_weight=0.5,
    target_modules=["q_proj", "v_proj", "fc1", "fc2"],
    total_step=MAX_STEPS,
)
model = get_peft_model(base, peft_config)
model.print_trainable_parameters()

args = TrainingArguments(
    output_dir="opt-adalora",
    max_steps=MAX_STEPS,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    learning_rate=1e-3,
    warmup_steps=100,
    logging_steps=25,
    save_steps=500,
    bf16=True,
    report_to="none",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=ds,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    callbacks=[RankBudget()],
)
trainer.train()
model.save_pretrained("opt-adalora/final")
