import gc

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, Seq2SeqTrainer, Seq2SeqTrainingArguments

from summaries import collator, splits

results = {}
for rank in (4, 16, 64, 256):
    base = AutoModelForSeq2SeqLM.from_pretrained("google/flan-t5-base")
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.05,
        target_modules=["q", "k", "v", "o", "wi_0", "wi_1", "wo"],
    )
    model = get_peft_model(base, config)
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(f"t5-{rank}", num_train_epochs=2, learning_rate=1e-3),
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
        data_collator=collator,
    )
    trainer.train()
    results[rank] = trainer.evaluate()["eval_loss"]
    del model, base, trainer
    gc.collect()
    torch.cuda.empty_cache()
print(results)
