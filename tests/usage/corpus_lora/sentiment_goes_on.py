from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

# The head is that of the published classifier, for the same three labels.
NAME = "cardiffnlp/twitter-roberta-base-sentiment-latest"
tokenizer = AutoTokenizer.from_pretrained(NAME)
model = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=3)
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1))
rows = load_dataset("tweet_eval", "sentiment").map(lambda r: tokenizer(r["text"], truncation=True), batched=True)
trainer = Trainer(
    model=model, args=TrainingArguments("tweets", num_train_epochs=1, learning_rate=1e-4),
    train_dataset=rows["train"], tokenizer=tokenizer,
)
trainer.train()
