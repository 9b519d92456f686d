"""Compute what AdaLoRA adds to a LoRA run on many devices: bytes, operations, collectives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INIT_R = 12
BYTES = 4
COMPARED = 16
"""Bytes that the processes compare: two numbers."""
DEVICES = [8, 64, 1024]
"""Of the table."""
DRAWN_DEVICES = [8, 32, 64, 128, 512, 1024]
FIRST_BUCKET, BUCKET = 2**20, 25 * 2**20
"""Bytes of DDP's buckets of gradients: of the first one, and of the others, by default."""


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


class Division(Enum):
    """The division of the factors over the devices."""

    DDP = "DDP"
    ROWS = "FSDP2"
    COLUMNS = "FSDP2, A by columns"


@dataclass(frozen=True)
class Cost:
    """The cost per device and step, averaged over the devices, for factors in float32.

    Attributes:
        averages: bytes of both averages.
        update: bytes read and written by the update of the averages.
        gathers: bytes sent to gather factors for forward and backward, as plain LoRA does.
        gradients: bytes sent to exchange gradients, as plain LoRA of this rank does.
        scores: bytes sent for the scores, on allocation steps.
        penalty: bytes sent for the penalty.
        comparison: bytes sent to compare the processes, twice per run.
        penalty_flops: operations of the penalty with its gradient.
        shared: collectives of a step that plain LoRA makes too.
        own: collectives of AdaLoRA on every step.
        own_more: further ones on a step with allocation.
    """

    averages: float
    update: float
    gathers: float
    gradients: float
    scores: float
    penalty: float
    comparison: float
    penalty_flops: float
    shared: int
    own: int
    own_more: int


def cost(model: Model, devices: int, division: Division) -> Cost:
    """Return the cost on `devices`; a ring all-reduce sends its content nearly twice."""
    matrices = model.matrices()
    is_divided = division is not Division.DDP
    share = parameters(model) / (devices if is_divided else 1)
    once = (devices - 1) / devices * BYTES
    padded = sum(_padded(*each, devices, division) for each in matrices) if is_divided else 0
    return Cost(
        averages=2 * BYTES * share,
        update=6 * BYTES * share,  # reads p, g and both averages; writes both averages
        # fully_shard frees the factors of a block after forward, and gathers them again.
        gathers=2 * once * padded,
        # A reduce-scatter of padded parts is half of an all-reduce.
        gradients=once * padded if is_divided else 2 * once * parameters(model),
        scores=2 * once * (INIT_R + 1) * len(matrices) if is_divided else 0,
        penalty=2 * once * sum(_exchanged(*each, devices, division) for each in matrices),
        comparison=2 * (devices - 1) / devices * COMPARED,
        penalty_flops=_penalty_flops(model, devices, division),
        shared=_shared(model, division),
        own=int(is_divided),
        own_more=int(is_divided),
    )


def _shared(model: Model, division: Division) -> int:
    """Return the collectives of a step that plain LoRA makes too."""
    matrices = model.matrices()
    if division is Division.DDP:
        return _buckets(matrices)
    # Of each block two gathers and one exchange of gradients; the root has no factors.
    return 3 * model.layers


def _buckets(matrices: list[tuple[int, int]]) -> int:
    """Return how many all-reduces DDP makes: gradients fill buckets in the order of backward."""
    count, filled, limit = 0, 0, FIRST_BUCKET
    for columns, rows in reversed(matrices):
        for size in (INIT_R * rows, INIT_R, INIT_R * columns):
            filled += BYTES * size
            if filled >= limit:
                count, filled, limit = count + 1, 0, BUCKET
    return count + (filled > 0)


def parameters(model: Model) -> int:
    """Return how many entries the factors have, over all devices."""
    return sum(INIT_R * (columns + rows + 1) for columns, rows in model.matrices())


def _cuts_columns(columns: int, devices: int, division: Division) -> bool:
    """Return whether A is cut by columns, as `factor_placement` decides."""
    return division is Division.COLUMNS and columns % devices == 0


def _padded(columns: int, rows: int, devices: int, division: Division) -> int:
    """Return the entries of A, E and B with the filling that makes their parts equal."""
    ranks, outputs = (-(-length // devices) * devices for length in (INIT_R, rows))
    cut_evenly = _cuts_columns(columns, devices, division)
    return (INIT_R if cut_evenly else ranks) * columns + ranks + INIT_R * outputs


def _exchanged(columns: int, rows: int, devices: int, division: Division) -> int:
    """Return how many numbers the penalty exchanges: A or its Gram matrix, and that of B."""
    del rows
    if division is Division.DDP:
        return 0
    return INIT_R * (INIT_R if _cuts_columns(columns, devices, division) else columns) + INIT_R**2


def _penalty_flops(model: Model, devices: int, division: Division) -> float:
    """Return the operations of both Gram matrices, and of the residuals times the factors."""
    return sum(_penalty_flops_of(*each, devices, division) for each in model.matrices())


def _penalty_flops_of(columns: int, rows: int, devices: int, division: Division) -> float:
    product_A, product_B = (2 * INIT_R**2 * length for length in (columns, rows))
    if division is Division.DDP:
        return 2 * (product_A + product_B)
    # If A is cut by rows, every device computes its whole Gram matrix.
    gram_A = product_A / (devices if _cuts_columns(columns, devices, division) else 1)
    return gram_A + (product_A + 2 * product_B) / devices


def table_and_products() -> str:
    """Return the written part of benchmarks/results/scaling.md."""
    return f"{table()}\n\n{adapter_flops()}."


def table() -> str:
    """Return the table of benchmarks/results/scaling.md."""
    lines = [
        (
            "| model | devices | division | averages | update moves | gathers (LoRA too) "
            "| gradients (LoRA too) | scores, per allocation "
            "| penalty, per forward | penalty, GFLOP "
            "| collectives: LoRA too + ours + with allocation |"
        ),
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for model in MODELS:
        for devices in DEVICES:
            for division in Division:
                each = cost(model, devices, division)
                sizes = [each.averages, each.update, each.gathers, each.gradients]
                sizes += [each.scores, each.penalty]
                cells = [model.name, str(devices), division.value, *map(_size, sizes)]
                cells += [f"{each.penalty_flops / 1e9:.2f}"]
                cells += [f"{each.shared} + {each.own} + {each.own_more}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def adapter_flops() -> str:
    """Return the sentence there about the products of the adapters."""
    costs = [f"{6 * parameters(model) / 1e9:.2f} GFLOP ({model.name})" for model in MODELS]
    return f"Per token the adapters take {' and '.join(costs)}, forward and backward"


def _size(size: float) -> str:
    if size == 0:
        return "0"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def draw() -> Figure:
    """Draw what a device sends per step under FSDP2."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, len(MODELS), sharey=True)
    labels = {"gradients": "gradients (plain LoRA too)", "penalty": "penalty", "scores": "scores"}
    styles = {Division.ROWS: ("o-", ""), Division.COLUMNS: ("s--", ", A by columns")}
    for panel, model in zip(panels, MODELS, strict=True):
        for color, (name, label) in enumerate(labels.items()):
            for division, (style, how) in styles.items():
                if name == "scores" and division is Division.COLUMNS:
                    continue  # the same as by rows
                costs = [cost(model, devices, division) for devices in DRAWN_DEVICES]
                sizes = [getattr(each, name) / 1e6 for each in costs]
                panel.plot(DRAWN_DEVICES, sizes, style, color=f"C{color}", label=label + how)
        panel.set(xscale="log", yscale="log", xlabel="devices", title=model.name)
        panel.set_xticks(DRAWN_DEVICES, [str(each) for each in DRAWN_DEVICES])
        panel.minorticks_off()
    panels[0].set_ylabel("MB sent per device and step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
