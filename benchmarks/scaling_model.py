"""What AdaLoRA adds to a LoRA run on many devices, on paper: bytes and collectives, with a plot.

Run: python benchmarks/scaling_model.py [--plot docs/scaling.png]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

INIT_R = 12
BYTES = 4
DEVICES = [8, 32, 128, 512, 1024]


@dataclass(frozen=True)
class Model:
    """A decoder whose linear layers are all adapted."""

    name: str
    layers: int
    hidden: int
    inner: int
    key_value: int

    def matrices(self) -> list[tuple[int, int]]:
        """Return `(in, out)` of every adapted matrix."""
        hidden, inner, key_value = self.hidden, self.inner, self.key_value
        block = [(hidden, hidden), (hidden, key_value), (hidden, key_value), (hidden, hidden)]
        block += [(hidden, inner), (hidden, inner), (inner, hidden)]
        return block * self.layers


MODELS = [
    Model("7B", layers=32, hidden=4096, inner=11008, key_value=4096),
    Model("70B", layers=80, hidden=8192, inner=28672, key_value=1024),
]


@dataclass(frozen=True)
class Cost:
    """Per device, for factors in float32.

    Attributes:
        parameters: entries of all factors, over all devices.
        averages: bytes of both averages.
        update: bytes read and written by the update of the averages, per optimizer step.
        scores: bytes of the all-reduce of the scores, per allocation step.
        penalty: bytes of the exchange of the penalty, per forward pass, as fully_shard cuts.
        penalty_columns: the same with factor_placement.
        gradients: bytes of the gradient exchange, which plain LoRA of this rank has too.
    """

    parameters: int
    averages: float
    update: float
    scores: float
    penalty: float
    penalty_columns: float
    gradients: float


def cost(model: Model, devices: int, *, sharded: bool) -> Cost:
    """Return what `model` costs on `devices`; a ring all-reduce sends its content nearly twice."""
    matrices = model.matrices()
    parameters = sum(INIT_R * (columns + rows + 1) for columns, rows in matrices)
    share = parameters / (devices if sharded else 1)
    ring = 2 * (devices - 1) / devices * BYTES
    gram = INIT_R * INIT_R
    by_rows = sum(INIT_R * columns + gram for columns, _ in matrices)
    return Cost(
        parameters=parameters,
        averages=2 * BYTES * share,
        update=6 * BYTES * share,  # reads p, g and both averages, writes both averages
        scores=ring * INIT_R * len(matrices) if sharded else 0,
        penalty=ring * by_rows if sharded else 0,
        penalty_columns=ring * 2 * gram * len(matrices) if sharded else 0,
        gradients=ring * parameters / (2 if sharded else 1),  # a reduce-scatter is half of it
    )


def table() -> str:
    """Return the table of docs/scaling.md."""
    lines = [
        (
            "| model | devices | strategy | averages | update moves | gradients (LoRA too) "
            "| scores, per allocation | penalty, per forward | the same, A cut by columns |"
        ),
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for model in MODELS:
        for devices in DEVICES:
            for strategy in ("DDP", "FSDP2"):
                each = cost(model, devices, sharded=strategy == "FSDP2")
                cells = [each.averages, each.update, each.gradients, each.scores]
                cells += [each.penalty, each.penalty_columns]
                texts = " | ".join(_size(cell) for cell in cells)
                lines.append(f"| {model.name} | {devices} | {strategy} | {texts} |")
    return "\n".join(lines)


def _size(size: float) -> str:
    if size == 0:
        return "0"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def plot(path: str) -> None:
    """Draw what a device sends per step under FSDP2."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(MODELS), figsize=(10, 4), sharey=True)
    labels = {
        "gradients": "gradients (plain LoRA too)",
        "penalty": "penalty, rows cut",
        "penalty_columns": "penalty, A cut by columns",
        "scores": "scores",
    }
    for panel, model in zip(panels, MODELS, strict=True):
        costs = [cost(model, devices, sharded=True) for devices in DEVICES]
        for name, label in labels.items():
            panel.plot(DEVICES, [getattr(each, name) / 1e6 for each in costs], "o-", label=label)
        panel.set(xscale="log", yscale="log", xlabel="devices", title=model.name)
        panel.set_xticks(DEVICES, [str(each) for each in DEVICES])
    panels[0].set_ylabel("MB sent per device")
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table; draw the plot if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", metavar="FILE")
    arguments = parser.parse_args()
    print(table())
    if arguments.plot:
        plot(arguments.plot)


if __name__ == "__main__":
    main()
