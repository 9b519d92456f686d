"""One backbone, two tasks: a sentiment adapter and a topic adapter trained in turn."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

BASE = "facebook/opt-125m"
TARGETS = ["q_proj", "v_proj"]
tok = AutoTokenizer.from_pretrained(BASE)


def loader(name, template):
    ds = load_dataset(name, split="train").shuffle(seed=0).select(range(8000))
    names = ds.features["label"].names
    ds = ds.map(lambda r: tok(template.format(r["text"][:400], names[r["label"]]) + tok.eos_token),
                remove_columns=ds.column_names)
    return DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))


def config(total):
    return AdaLoraConfig(task_type="CAUSAL_LM", init_r=8, target_r=4, tinit=100, tfinal=300,
                         deltaT=5, total_step=total, target_modules=TARGETS)


def fit(model, dl, epochs):
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    step = 0
    for ep in range(epochs):
        for batch in dl:
            loss = model(**batch.to("cuda")).loss
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        print(ep, loss.item())


EPOCHS = 2
sentiment = loader("rotten_tomatoes", "Review: {}\nSentiment: {}")
topic = loader("ag_news", "News: {}\nTopic: {}")

model = AutoModelForCausalLM.from_pretrained(BASE)
model = get_peft_model(model, config(len(sentiment) * EPOCHS), adapter_name="sentiment").cuda()
model.train()
fit(model, sentiment, EPOCHS)

model.add_adapter("topic", config(len(topic) * EPOCHS))
model.set_adapter("topic")
fit(model, topic, EPOCHS)

model.save_pretrained("two-tasks")
