"""Adapt a model of plain torch by module names, save the head and compare what comes back.

Source: huggingface/peft, examples/multilayer_perceptron/multilayer_perceptron_lora.ipynb
(with `AdaLoraConfig` and its call per step)
"""

import copy

import peft
import torch
from script_parts import files, kept, numbers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

# attach: from adalora_core.bridge import attach


class Layers(nn.Module):
    """Three linear layers."""

    def __init__(self, width=24):
        super().__init__()
        self.seq = nn.Sequential(
            nn.Linear(20, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
            nn.LogSoftmax(dim=-1),
        )

    def forward(self, x):
        """Return log probabilities."""
        return self.seq(x)


inputs = numbers(128, 20)
batches = DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=32)
config = peft.AdaLoraConfig(
    init_r=6,
    target_r=3,
    tinit=2,
    tfinal=4,
    total_step=12,
    target_modules=["seq.0", "seq.2"],
    modules_to_save=["seq.4"],
)
module = Layers()
untouched = copy.deepcopy(module)
model = peft.get_peft_model(module, config)
# attach: model = attach(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
model.print_trainable_parameters()
losses = []
step = 0
for _ in range(3):
    model.train()
    for x, y in batches:
        loss = criterion(model(x), y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1

before = dict(untouched.named_parameters())
updated = []
for name, parameter in model.base_model.named_parameters():
    if "lora" in name or "ranknum" in name:
        continue
    plain = (
        name.partition(".")[-1]
        .replace("base_layer.", "")
        .replace("original_", "")
        .replace("module.", "")
        .replace("modules_to_save.default.", "")
    )
    if not torch.allclose(parameter, before[plain]):
        updated.append(plain)
model.save_pretrained("saved")
loaded = peft.PeftModel.from_pretrained(untouched, "saved")
expected = model.eval()(inputs)
found = loaded.eval()(inputs)

outcome = {
    "train_losses": losses,
    "updated": sorted(set(updated)),
    "kept": kept(model),
    "files": files("saved"),
    "same_after_loading": torch.allclose(expected, found),
}
