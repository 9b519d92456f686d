from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSemanticSegmentation, Trainer, TrainingArguments

from scenes import id2label, label2id, test_rows, train_rows

checkpoint = "nvidia/mit-b0"
model = AutoModelForSemanticSegmentation.from_pretrained(
    checkpoint, id2label=id2label, label2id=label2id, ignore_mismatched_sizes=True
)
config = LoraConfig(
    r=32,
    lora_alpha=32,
    target_modules=["query", "value"],
    lora_dropout=0.1,
    bias="lora_only",
    modules_to_save=["decode_head"],
)
lora_model = get_peft_model(model, config)
args = TrainingArguments("scenes", learning_rate=5e-4, num_train_epochs=20, label_names=["labels"])
trainer = Trainer(lora_model, args, train_dataset=train_rows, eval_dataset=test_rows)
trainer.train()
lora_model.save_pretrained("scenes-lora")
