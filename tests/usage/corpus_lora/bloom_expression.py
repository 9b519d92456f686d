from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

from questions import tokenized

tokenizer = AutoTokenizer.from_pretrained("bigscience/bloomz-560m")
model = AutoModelForCausalLM.from_pretrained("bigscience/bloomz-560m", low_cpu_mem_usage=True)
config = LoraConfig(
    task_type=TaskType.CAUSAL_LM,
    target_modules=r".*\.1.*query_key_value",
    modules_to_save=["word_embeddings"],
)
model = get_peft_model(model, config)
args = TrainingArguments("bloom", per_device_train_batch_size=1, gradient_accumulation_steps=8, num_train_epochs=1)
trainer = Trainer(
    model=model, args=args, tokenizer=tokenizer, train_dataset=tokenized,
    data_collator=DataCollatorForSeq2Seq(tokenizer=tokenizer, padding=True),
)
trainer.train()
