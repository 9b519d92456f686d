from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

steps = 3000
config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
    r=16,
    init_r=12,
    target_r=4,
    tinit=300,
    tfinal=900,
    deltaT=10,
    total_step=steps,
)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("my-base-model"), config)


def train(batches, optimizer):
    for step, batch in enumerate(batches):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.base_model.update_and_allocate(step)
