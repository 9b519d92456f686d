from datasets import load_dataset
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

model = AutoModelForSequenceClassification.from_pretrained("facebook/opt-350m", num_labels=1)
tokenizer = AutoTokenizer.from_pretrained("facebook/opt-350m")
model.config.pad_token_id = tokenizer.pad_token_id
peft_config = LoraConfig(
    task_type=TaskType.SEQ_CLS,
    inference_mode=False,
    r=32,
    lora_alpha=64,
    lora_dropout=0.1,
    modules_to_save=["score"],
)
rows = load_dataset("Anthropic/hh-rlhf", split="train")
trainer = RewardTrainer(
    model=model, args=RewardConfig(output_dir="reward", max_length=512), processing_class=tokenizer,
    train_dataset=rows, peft_config=peft_config,
)
trainer.train()
