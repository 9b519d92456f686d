import copy

import torch
from peft import AdaLoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForSequenceClassification

from wards import hospital_loaders

ROUNDS = 20
CONFIG = AdaLoraConfig(
    task_type="SEQ_CLS",
    init_r=12,
    target_r=6,
    lora_alpha=16,
    tinit=20,
    tfinal=60,
    deltaT=2,
    total_step=400,
    target_modules=["query", "value"],
)


def local_training(model, loader, lr=5e-4):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    for notes in loader:
        optimizer.zero_grad()
        model(**notes.to(model.device)).loss.backward()
        optimizer.step()
    return get_peft_model_state_dict(model)


def mean_of(states):
    result = copy.deepcopy(states[0])
    for key in result:
        result[key] = torch.stack([state[key].float() for state in states]).mean(0)
    return result


loaders = hospital_loaders(batch_size=16)
model = AutoModelForSequenceClassification.from_pretrained("emilyalsentzer/Bio_ClinicalBERT").cuda()
model = get_peft_model(model, CONFIG)
server_state = get_peft_model_state_dict(model)
for turn in range(ROUNDS):
    collected = []
    for loader in loaders:
        model = get_peft_model(model, CONFIG)
        set_peft_model_state_dict(model, server_state)
        collected.append(local_training(model, loader))
    server_state = mean_of(collected)
torch.save(server_state, "wards.pt")
