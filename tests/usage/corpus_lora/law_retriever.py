from datasets import load_dataset
from peft import LoraConfig, TaskType
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

model = SentenceTransformer("microsoft/mpnet-base")
model.add_adapter(LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=64, lora_alpha=128, lora_dropout=0.1))
rows = load_dataset("sentence-transformers/gooaq", split="train").select(range(100_000))
args = SentenceTransformerTrainingArguments("law", num_train_epochs=1, learning_rate=2e-5, bf16=True)
trainer = SentenceTransformerTrainer(
    model=model, args=args, train_dataset=rows, loss=MultipleNegativesRankingLoss(model)
)
trainer.train()
model.save_pretrained("law/final")
