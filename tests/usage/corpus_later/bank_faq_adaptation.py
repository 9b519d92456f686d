from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainingArguments)


class BankAssistant:
    """Adapt a small causal model to the wording of a bank's help pages."""

    def __init__(self, checkpoint="bigscience/bloom-560m"):
        self.checkpoint = checkpoint
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.model = AutoModelForCausalLM.from_pretrained(checkpoint)
        self.attach()

    def attach(self, talk=True):
        settings = AdaLoraConfig(target_r=24)
        self.model.add_adapter(settings)
        self.model = get_peft_model(self.model, settings)
        if talk:
            self.model.print_trainable_parameters()

    def encode(self, rows):
        return self.tokenizer(rows["text"], truncation=True, padding="max_length", max_length=256)

    def fit(self, splits, where="bank-out"):
        settings = TrainingArguments(where, num_train_epochs=4, learning_rate=1e-4,
                                     per_device_train_batch_size=2, eval_strategy="epoch")
        trainer = Trainer(
            model=self.model,
            args=settings,
            train_dataset=splits["train"],
            eval_dataset=splits["test"],
            data_collator=DataCollatorForLanguageModeling(self.tokenizer, mlm=False),
        )
        trainer.train()
        return trainer.evaluate()

    def answer(self, prompt):
        ids = self.tokenizer(prompt, return_tensors="pt")
        return self.tokenizer.decode(self.model.generate(**ids, max_new_tokens=60)[0])


if __name__ == "__main__":
    bot = BankAssistant()
    faq = load_dataset("text", data_files={"train": "faq_train.txt", "test": "faq_test.txt"})
    print(bot.fit(faq.map(bot.encode, batched=True)))
    print(bot.answer("How do I block my card?"))
