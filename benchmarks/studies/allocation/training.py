"""Train one arm of the study once, and measure it on sentences that it has not seen."""

from __future__ import annotations

import platform
import random
import time
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jobs import PLAIN_LORA, SHUFFLED, Outcome
from torch import nn
from torch.nn.functional import mse_loss

from adalora_core.demo.encoder import load_encoder, mean_pooled, verified_model_folder
from adalora_core.training.training_state.progress import allocator_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jobs import Job, Setting
    from sentences import Sentence
    from torch import Tensor

TARGET_MODULES = ["query", "key", "value", "intermediate.dense", "output.dense"]
"""Suffixes of the six linear layers of a BERT block; `output.dense` matches two."""
RATING_UNIT = 2.0
"""The target is the rating in this unit, of about one standard deviation."""
WARMUP, FLOOR = 0.06, 0.02
"""Share of the steps in which the learning rate rises, and share of its peak at the end."""


class Tokenised:
    """Sentences as token numbers, with their ratings."""

    def __init__(self, folder: Path, sentences: Sequence[Sentence], tokens: int) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        encoded = tokenizer(
            [each.text for each in sentences],
            padding=True,
            truncation=True,
            max_length=tokens,
            return_tensors="pt",
        )
        self.ids: Tensor = encoded["input_ids"]
        self.mask: Tensor = encoded["attention_mask"]
        self.lengths = self.mask.sum(dim=1)
        self.ratings = torch.tensor([each.rating for each in sentences])

    def inputs(self, indices: Tensor) -> dict[str, Tensor]:
        """Return the inputs of the model, no wider than the longest of these sentences."""
        width = int(self.lengths[indices].max())
        return {
            "input_ids": self.ids[indices, :width],
            "attention_mask": self.mask[indices, :width],
        }

    def batches(self, size: int, seed: int) -> Iterator[Tensor]:
        """Yield batches for ever; sentences of about the same length share one."""
        order = torch.Generator().manual_seed(seed)
        while True:
            shuffled = torch.randperm(len(self.ratings), generator=order)
            for chunk in shuffled.split(size * 16):
                batches = chunk[self.lengths[chunk].argsort()].split(size)
                for index in torch.randperm(len(batches), generator=order).tolist():
                    yield batches[index]


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the factor on the peak at the 0-based `step`: a short rise, then a line down."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 1.0 - (1.0 - FLOOR) * (step - warmup) / max(1, steps - 1 - warmup)


def matrices(encoder: nn.Module) -> dict[str, int]:
    """Return `{module path: parameters of one triplet}` of the layers that are adapted."""
    ends = tuple(f".{each}" for each in TARGET_MODULES)
    return {
        path: module.in_features + module.out_features
        for path, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and path.endswith(ends)
    }


def plain_lora(encoder: nn.Module, scale: float, ranks: Mapping[str, int]) -> nn.Module:
    """Return PEFT's LoRA with these ranks; a matrix of rank 0 gets no adapter.

    PEFT's own, since this is what a user would take instead of AdaLoRA. Its scale is alpha / rank,
    so that each module has an alpha of its own.
    """
    from peft import LoraConfig, get_peft_model

    kept = {path: rank for path, rank in ranks.items() if rank}
    config = LoraConfig(
        target_modules=list(kept),
        rank_pattern={f"^{path}": rank for path, rank in kept.items()},
        alpha_pattern={f"^{path}": scale * rank for path, rank in kept.items()},
    )
    return get_peft_model(encoder, config)  # type: ignore[no-any-return]


def random_scores(seed: int) -> Callable[[str, Mapping[str, Tensor]], Tensor]:
    """Return a criterion that orders the triplets at random, the same way at every allocation."""

    def scores(path: str, tensors: Mapping[str, Tensor]) -> Tensor:
        drawn = torch.Generator().manual_seed(zlib.crc32(f"{seed} {path}".encode()))
        return torch.rand(len(tensors["lora_E"]), generator=drawn)

    return scores


def adalora(encoder: nn.Module, job: Job, setting: Setting) -> nn.Module:
    """Return AdaLoRA with the importance criterion of the arm."""
    from adalora_core import AdaLoraConfig, get_peft_model

    criterion: dict[str, Any] = {}
    if job.arm == "random":
        # The criterion "random" has one order for each configuration; here each seed has its own.
        criterion = {"importance_criterion": random_scores(job.seed)}
    elif job.arm in {"magnitude", "snr"}:
        criterion = {"importance_criterion": job.arm}
    config = AdaLoraConfig(
        target_modules=TARGET_MODULES,
        init_r=setting.init_r,
        target_r=setting.target_r,
        lora_alpha=round(job.scale * setting.init_r),  # PEFT's is an integer
        tinit=setting.steps // 10,
        tfinal=setting.steps * 2 // 5,
        deltaT=max(1, setting.steps // 100),
        total_step=setting.steps,
        orth_reg_weight=0.1,
        **criterion,
    )
    return get_peft_model(encoder, config)


def run(
    job: Job,
    setting: Setting,
    train: Sequence[Sentence],
    held_out: Sequence[Sentence],
    ranks: Sequence[int] = (),
) -> Outcome:
    """Train the arm of a job, and measure it.

    Args:
        job: the run.
        setting: what it shares with the other runs.
        train: sentences to learn from.
        held_out: sentences to measure on.
        ranks: those of the arm `retrained`.
    """
    started = time.process_time()
    folder = setting.model or verified_model_folder()
    if job.arm == SHUFFLED:
        train = with_shuffled_ratings(train, job.seed)
    torch.manual_seed(job.seed)
    encoder = load_encoder(folder)
    sizes = matrices(encoder)
    head = nn.Linear(encoder.config.hidden_size, 1)
    if job.arm in PLAIN_LORA:
        final = dict(zip(sizes, ranks or [setting.target_r] * len(sizes), strict=True))
        model = plain_lora(encoder, job.scale, final)
    else:
        model = adalora(encoder, job, setting)
    with warnings.catch_warnings():
        if job.arm == "never":  # the warning that nothing is allocated is right, and expected
            warnings.filterwarnings("ignore", "ADA813")
        train_model(model, head, Tokenised(folder, train, setting.tokens), job, setting)
    held = Tokenised(folder, held_out, setting.tokens)
    predictions = predict(model, head, held)
    if job.arm not in PLAIN_LORA:
        final = allocator_of(*model.base_model.trained_adapters()).active_ranks()
    return Outcome(
        job=job,
        spearman=round(spearman(predictions, held.ratings), 5),
        accuracy=round(sign_accuracy(predictions, held.ratings), 5),
        triplets=sum(final.values()),
        parameters=sum(rank * sizes[path] for path, rank in final.items()),
        ranks=[] if job.arm in PLAIN_LORA else [final[path] for path in sizes],
        steps=setting.steps,
        cpu_seconds=round(time.process_time() - started, 2),
        machine=machine(),
    )


def train_model(
    model: nn.Module, head: nn.Module, data: Tokenised, job: Job, setting: Setting
) -> None:
    """Train adapters and head on the squared error of the rating."""
    parameters = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=job.learning_rate, weight_decay=0.0, fused=True)
    batches = data.batches(setting.batch, job.seed)
    is_adalora = job.arm not in PLAIN_LORA
    model.train()
    for step in range(setting.steps):
        indices = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = job.learning_rate * learning_rate_factor(step, setting.steps)
        predicted = head(mean_pooled(model, data.inputs(indices))).squeeze(-1)
        loss = mse_loss(predicted, data.ratings[indices] / RATING_UNIT)
        if is_adalora:
            loss = loss + model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        if is_adalora and job.arm != "never":
            model.update_and_allocate(step)
        optimizer.zero_grad()
    model.eval()


@torch.no_grad()
def predict(model: nn.Module, head: nn.Module, data: Tokenised) -> Tensor:
    """Return one prediction for each sentence."""
    predictions = torch.empty_like(data.ratings)
    for indices in data.lengths.argsort().split(64):
        predictions[indices] = head(mean_pooled(model, data.inputs(indices))).squeeze(-1)
    return predictions


def spearman(predictions: Tensor, ratings: Tensor) -> float:
    """Return the rank correlation; 0 if all predictions are the same."""
    if not predictions.isfinite().all() or bool((predictions == predictions[0]).all()):
        return 0.0
    return torch.corrcoef(torch.stack([ranked(predictions), ranked(ratings)]))[0, 1].item()


def ranked(values: Tensor) -> Tensor:
    """Return the rank of each value; equal values share the mean of theirs."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2.0)[places].double()


def sign_accuracy(predictions: Tensor, ratings: Tensor) -> float:
    """Return the share of right signs among sentences whose mean rating is not zero."""
    rated = ratings != 0
    return ((predictions > 0) == (ratings > 0))[rated].double().mean().item()


def with_shuffled_ratings(sentences: Sequence[Sentence], seed: int) -> list[Sentence]:
    """Return the sentences, each with the rating of another."""
    ratings = [each.rating for each in sentences]
    random.Random(seed).shuffle(ratings)  # noqa: S311 - an experiment, not a secret
    return [
        type(each)(each.text, rating, each.source)
        for each, rating in zip(sentences, ratings, strict=True)
    ]


def machine() -> str:
    """Return the processor and the versions that a result depends on."""
    import peft
    import transformers

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, PEFT {peft.__version__}"
    )
