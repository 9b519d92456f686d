# Tamil ASR: Whisper-small + AdaLoRA
# v1 trained a fixed rank all along, because nobody called update_and_allocate -> added a callback.
import math

import evaluate
from datasets import load_from_disk
from peft import AdaLoraConfig, get_peft_model
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerState,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from asr.collator import SpeechPad

EPOCHS, BATCH, ACCUM = 6, 8, 2

proc = WhisperProcessor.from_pretrained("openai/whisper-small", language="ta", task="transcribe")
corpus = load_from_disk("tamil_cv")
updates = math.ceil(len(corpus["train"]) / (BATCH * ACCUM)) * EPOCHS
wer = evaluate.load("wer")

whisper = WhisperForConditionalGeneration.from_pretrained("openai/whisper-small")
whisper = get_peft_model(
    whisper,
    AdaLoraConfig(
        init_r=12, target_r=8, lora_alpha=32, lora_dropout=0.05, bias="none",
        tinit=int(updates * 0.1), tfinal=int(updates * 0.2), deltaT=10, total_step=updates,
        target_modules=["q_proj", "v_proj"],
    ),
)


class RankUpdate(TrainerCallback):
    """Runs AdaLoRA's pruning after every optimizer step."""

    def on_step_end(self, args, state: TrainerState, control, model=None, **kwargs) -> None:
        tuner = getattr(model, "base_model", None)
        if tuner is not None:
            tuner.update_and_allocate(state.global_step)


def score(pred):
    text = proc.batch_decode(pred.predictions, skip_special_tokens=True)
    gold = proc.batch_decode(pred.label_ids, skip_special_tokens=True)
    return {"wer": 100 * wer.compute(predictions=text, references=gold)}


trainer = Seq2SeqTrainer(
    model=whisper,
    args=Seq2SeqTrainingArguments(
        "tamil-small", num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=ACCUM, predict_with_generate=True, label_names=["labels"],
    ),
    train_dataset=corpus["train"], eval_dataset=corpus["test"],
    data_collator=SpeechPad(proc), compute_metrics=score, callbacks=[RankUpdate()],
)
trainer.train()
