import asyncio
import json
import math
from pathlib import Path

from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments


class Ranks(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kw):
        kw["model"].base_model.update_and_allocate(state.global_step)


class Progress(TrainerCallback):
    def __init__(self, loop, queue):
        self.loop, self.queue = loop, queue

    def on_log(self, args, state, control, logs=None, **kw):
        self.loop.call_soon_threadsafe(self.queue.put_nowait, {"step": state.global_step, **(logs or {})})


def build(job, loop, queue):
    tok = AutoTokenizer.from_pretrained(job["base"])
    data = load_dataset("csv", data_files=job["file"], split="train")
    data = data.map(lambda r: tok(r["text"], truncation=True), batched=True)
    batch, epochs = job.get("batch", 16), job.get("epochs", 3)
    n = math.ceil(len(data) / batch) * epochs
    config = AdaLoraConfig(
        task_type="SEQ_CLS",
        init_r=12,
        target_r=6,
        lora_alpha=24,
        target_modules=job.get("targets", ["query", "value"]),
        tinit=n // 8,
        tfinal=n // 4,
        deltaT=5,
        total_step=n,
    )
    model = AutoModelForSequenceClassification.from_pretrained(job["base"], num_labels=job["labels"])
    return Trainer(
        model=get_peft_model(model, config),
        args=TrainingArguments(job["out"], num_train_epochs=epochs, per_device_train_batch_size=batch),
        train_dataset=data,
        processing_class=tok,
        callbacks=[Ranks(), Progress(loop, queue)],
    )


async def work(folder: Path):
    queue = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for path in sorted(folder.glob("*.job.json")):
        trainer = build(json.loads(path.read_text()), loop, queue)
        await asyncio.to_thread(lambda: trainer.train())
        await asyncio.to_thread(trainer.save_model)
        path.rename(path.with_suffix(".done"))
        while not queue.empty():
            print(await queue.get())


if __name__ == "__main__":
    asyncio.run(work(Path("jobs")))
