"""AdaLoRA on a home-made MLP regressor.

The network returns a bare tensor, so PEFT has no loss to add its
orthogonality term to; it is added here.
"""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from peft import AdaLoraConfig, get_peft_model


class Net(nn.Module):
    def __init__(self, d_in=64, hidden=512):
        super().__init__()
        self.fc1 = nn.Linear(d_in, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        x = torch.relu(self.fc3(x))
        return self.head(x).squeeze(-1)


def orth_penalty(model):
    terms = []
    for name, p in model.named_parameters():
        if "lora_A" in name:
            g = p @ p.T
        elif "lora_B" in name:
            g = p.T @ p
        else:
            continue
        eye = torch.eye(g.shape[0], device=g.device, dtype=g.dtype)
        terms.append(torch.linalg.matrix_norm(g - eye))
    return torch.stack(terms).mean()


def main(epochs=30, batch=128, lr=2e-3, weight=0.5):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    blob = torch.load("target_domain.pt")
    train = DataLoader(TensorDataset(blob["x"], blob["y"]), batch_size=batch, shuffle=True)
    net = Net()
    net.load_state_dict(torch.load("source_domain_net.pt", map_location="cpu"))

    total = epochs * len(train)
    config = AdaLoraConfig(init_r=16, target_r=6, tinit=int(.1 * total), tfinal=int(.3 * total),
                           deltaT=5, total_step=total, orth_reg_weight=weight,
                           target_modules=["fc2", "fc3"], modules_to_save=["head"])
    model = get_peft_model(net, config).to(device)
    opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)

    step = 0
    for epoch in range(epochs):
        for x, y in train:
            x, y = x.to(device), y.to(device)
            mse = nn.functional.mse_loss(model(x), y)
            loss = mse + weight * orth_penalty(model)
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        print(f"{epoch:3d} mse {mse.item():.5f}")
    model.save_pretrained("regressor-adapter")


if __name__ == "__main__":
    main()
