import os
from pathlib import Path

from model import BATCH, SEQUENCES, STEPS, adapted
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import adalora_core.peft
from adalora_core.trainers.transformers import AdaLoraCallback

arguments = TrainingArguments(
    "run",
    max_steps=STEPS,
    per_device_train_batch_size=BATCH // int(os.environ["WORLD_SIZE"]),
    save_steps=10,
    report_to=[],
)
model = adapted(adalora_core.peft)  # Trainer knows models of PEFT
trainer = Trainer(model, arguments, train_dataset=SEQUENCES)
AdaLoraCallback().add_to(trainer)
trainer.train(resume_from_checkpoint=get_last_checkpoint("run") if Path("run").is_dir() else None)
trainer.save_model("by-trainer")
