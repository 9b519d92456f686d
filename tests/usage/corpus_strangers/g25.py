"""R-Drop with the Trainer: two stochastic passes and a symmetric KL on top of the PEFT model's own loss."""
import numpy as np
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainerCallback, TrainingArguments)

NAME = "roberta-base"
STEPS = 2400


class RDropTrainer(Trainer):
    alpha = 1.0

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        first = model(**inputs)
        if not model.training:
            return (first.loss, first) if return_outputs else first.loss
        second = model(**inputs)
        # both .loss carry the orthogonality penalty, so their mean carries it once
        loss = (first.loss + second.loss) / 2
        p, q = F.log_softmax(first.logits, -1), F.log_softmax(second.logits, -1)
        kl = F.kl_div(p, q, reduction="batchmean", log_target=True) + F.kl_div(q, p, reduction="batchmean", log_target=True)
        loss = loss + self.alpha * kl / 2
        return (loss, first) if return_outputs else loss


class Allocate(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        kwargs["model"].base_model.update_and_allocate(state.global_step)


def main():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("glue", "mrpc")
    ds = ds.map(lambda b: tok(b["sentence1"], b["sentence2"], truncation=True), batched=True)

    net = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
    model = get_peft_model(net, AdaLoraConfig(
        task_type="SEQ_CLS", init_r=12, target_r=6, lora_dropout=0.1, tinit=200, tfinal=800, deltaT=5,
        total_step=STEPS, target_modules=["query", "key", "value"]))

    args = TrainingArguments(
        output_dir="out/rdrop",
        max_steps=STEPS,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=6e-4,
        weight_decay=0.01,
        warmup_steps=150,
        eval_strategy="steps",
        eval_steps=200,
        save_strategy="no",
        logging_steps=20,
        report_to=[],
    )

    def metrics(p):
        logits = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
        return {"acc": float((np.argmax(logits, -1) == p.label_ids).mean())}

    trainer = RDropTrainer(model=model, args=args, train_dataset=ds["train"], eval_dataset=ds["validation"],
                           data_collator=DataCollatorWithPadding(tok), compute_metrics=metrics,
                           callbacks=[Allocate()])
    trainer.train()
    print(trainer.evaluate())
    model.save_pretrained("out/rdrop/adapter")


if __name__ == "__main__":
    main()
