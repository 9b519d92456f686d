"""Add an adapter to a sentence-transformers model, train it with its trainer and save it.

Source: UKPLab/sentence-transformers,
examples/sentence_transformer/training/peft/training_gooaq_lora.py (with `AdaLoraConfig`)
"""

from datasets import Dataset
from peft import AdaLoraConfig, TaskType
from script_parts import base_model, files, kept, sentences, tokenizer
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    models,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss

# attach: from adalora_core import AdaLoraCallback
# attach: from adalora_core.bridge import attach

base_model("BertModel").save_pretrained("encoder")
tokenizer().save_pretrained("encoder")
encoder = models.Transformer("encoder")
model = SentenceTransformer(modules=[encoder, models.Pooling(16)], device="cpu")
config = AdaLoraConfig(
    task_type=TaskType.FEATURE_EXTRACTION,
    inference_mode=False,
    init_r=6,
    target_r=3,
    tinit=1,
    tfinal=2,
    deltaT=1,
    total_step=8,
    lora_alpha=128,
    lora_dropout=0.1,
)
model.add_adapter(config)
rows = Dataset.from_dict({"question": sentences(32), "answer": sentences(32, seed=3)})
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir="gooaq",
        max_steps=8,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        warmup_ratio=0.1,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="steps",
        save_steps=4,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=rows,
    eval_dataset=rows,
    loss=MultipleNegativesRankingLoss(model),
)
# attach: AdaLoraCallback(attach(model)).add_to(trainer)
trainer.train()
model.save_pretrained("final")
history = trainer.state.log_history

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "kept": kept(model),
    "files": [name for name in files("final") if "adapter" in name or "model" in name],
}
