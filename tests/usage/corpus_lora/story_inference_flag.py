from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from stories import collator, rows

model = AutoModelForCausalLM.from_pretrained("./models/internlm2-chat-7b", device_map="auto", trust_remote_code=True)
model.enable_input_require_grads()
config = LoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["wqkv", "wo"],
    inference_mode=True,
    r=8,
    lora_alpha=32,
    lora_dropout=0.1,
)
model = get_peft_model(model, config)
trainer = Trainer(
    model=model, args=TrainingArguments("stories", num_train_epochs=2), train_dataset=rows, data_collator=collator
)
trainer.train()
