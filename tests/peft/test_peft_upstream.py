"""What docs/upstream.md says of PEFT and of tools around it, with PEFT alone."""

from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from adalora_runs import live_ranks
from peft.tuners.adamss.asa_callback import AdamssAsaCallback
from toy_models import tiny_llama, token_batch
from trainer_runs import LLAMA, STEPS, TARGET_BUDGET, Sequences, arguments_for
from transformers import Trainer
from walkthroughs import blocks_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "upstream.md"
TEXT = PAGE.read_text(encoding="utf-8")
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
INITIAL_BUDGET = 24


def block(language: str, begin: str) -> str:
    """Return the only block of the page in a language that contains a text."""
    (found,) = [
        each.content
        for each in blocks_of(PAGE)
        if each.language == language and begin in each.content
    ]
    return found


def defined_by(begin: str, **names: Any) -> dict[str, Any]:
    """Run a block of the page with names, and return what it defines."""
    exec(block("py", begin), names)  # noqa: S102 - the page's own code
    return names


def llama(**changes: Any) -> Any:
    return peft.get_peft_model(tiny_llama(), peft.AdaLoraConfig(**LLAMA | changes))


def trainer_for(model: Any, folder: Path, **options: Any) -> Trainer:
    return Trainer(model, arguments_for(folder), train_dataset=Sequences(), **options)


def train(model: Any, allocate: Any, steps: int = STEPS, lr: float = 1e-2) -> float:
    """Train in PEFT's order with a call of `allocate(step)`, and return the task's last loss."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for step in range(steps):
        model(**token_batch(step)).loss.backward()
        optimizer.step()
        allocate(step)
        optimizer.zero_grad()
    with torch.no_grad():
        return float(model.base_model.model(**token_batch(9999, batch=64)).loss)


def test_each_entry_names_tests_and_they_exist() -> None:
    entries = re.split(r"^## ", TEXT, flags=re.MULTILINE)[2:]
    assert len(entries) == 7
    assert all(NAMED_TEST.search(each) for each in entries)
    for file, names in NAMED_TEST.findall(TEXT):
        tree: ast.AST = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for name in names.split("::"):
            found = [
                each for each in ast.iter_child_nodes(tree) if getattr(each, "name", 0) == name
            ]
            assert found, f"{file} has no {names}"
            tree = found[0]


@pytest.mark.slow
def test_callbacks_bring_a_run_of_trainer_to_its_budget(tmp_path: Path) -> None:
    proposed = defined_by("class AdaLoraCallback")["AdaLoraCallback"]
    found = {}
    for name, callbacks in {
        "none": [],
        "AdamssAsaCallback": [AdamssAsaCallback()],
        "proposed": [proposed()],
    }.items():
        model = llama()
        trainer_for(model, tmp_path, callbacks=callbacks).train()
        found[name] = sum(live_ranks(model)), model.peft_config["default"].rank_pattern
    assert found["none"] == (INITIAL_BUDGET, None)
    assert found["AdamssAsaCallback"][0] == TARGET_BUDGET
    assert found["proposed"] == found["AdamssAsaCallback"]
    with pytest.warns(UserWarning, match="total_step is 99 but the Trainer makes 24 steps"):
        trainer_for(llama(total_step=99), tmp_path, callbacks=[proposed()]).train()


def test_example_never_allocates() -> None:
    for is_guarded, expected in ((True, INITIAL_BUDGET), (False, TARGET_BUDGET)):
        model = llama()

        def allocate(step: int, model: Any = model, is_guarded: bool = is_guarded) -> None:
            pattern = model.peft_config["default"].rank_pattern
            if not is_guarded or (pattern is not None and step >= LLAMA["tinit"]):
                model.update_and_allocate(step)

        train(model, allocate)
        assert sum(live_ranks(model)) == expected


def test_usage_of_the_documentation_raises_and_ours_runs() -> None:
    schedule = {"tinit": 200, "tfinal": 1000, "deltaT": 10}
    modules = {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    with pytest.raises(ValueError, match="`total_step` is None"):
        peft.AdaLoraConfig(init_r=12, **schedule, **modules)
    from script_parts import base_model

    base = base_model("BertForSequenceClassification")
    batch = {"input_ids": torch.tensor([[2, 5, 6, 3]]), "labels": torch.tensor([1])}
    trained = SimpleNamespace(step=lambda: None, zero_grad=lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        names = defined_by("for step, batch", model=base, dataloader=[batch] * 2, optimizer=trained)
    assert names["step"] == 1
    assert len(names["model"].base_model.rankallocator.exp_avg_ipt) == 3 * 4


def experiments() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return PEFT's configuration of MetaMathQA and the one of the page."""
    corpus = json.loads((ROOT / "tests/contract/corpus/configurations.json").read_text())
    (theirs,) = [each["content"] for each in corpus if each["name"] == "experiment-01"]
    return theirs, json.loads(block("json", "ADALORA"))


def test_experiment_differs_from_theirs_in_its_scale_alone() -> None:
    theirs, ours = (peft.AdaLoraConfig(**each) for each in experiments())
    changed = {name for name, each in theirs.to_dict().items() if getattr(ours, name) != each} - {
        "peft_version"
    }
    assert changed == {"lora_alpha"}
    assert (theirs.lora_alpha / theirs.init_r, ours.lora_alpha / ours.init_r) == (0.125, 1.0)


@pytest.mark.slow
def test_scale_of_one_learns_more_than_an_eighth() -> None:
    losses = {}
    for alpha in (1, 8):
        model = llama(init_r=8, target_r=4, lora_alpha=alpha, total_step=60)
        losses[alpha] = train(model, model.update_and_allocate, 60)
        layers = [each for each in model.modules() if hasattr(each, "ranknum")]
        assert {each.scaling["default"] / 8 for each in layers} == {alpha / 8}
    assert losses[8] < losses[1] - 0.05


def test_peft_ignores_the_start_of_lora() -> None:
    values = []
    for start in (True, "lora"):
        model = llama(init_lora_weights=start)
        values.append([p for name, p in model.named_parameters() if "lora_E" in name])
    assert all(torch.equal(*pair) for pair in zip(*values, strict=True))


# --- ms-swift ------------------------------------------------------------------------------------

SWIFT = '''
from transformers import TrainerCallback


class AdaloraCallback(TrainerCallback):
    """Does what that of ms-swift does: allocates where the model's own `zero_grad` is called."""

    def __init__(self, args, trainer):
        self.finished = 0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        model.peft_config["default"].total_step = state.max_steps
        clear = model.zero_grad

        def allocate_first(*options, **named):
            model.update_and_allocate(self.finished + 1)
            clear(*options, **named)

        model.zero_grad = allocate_first

    def on_step_end(self, args, state, control, **kwargs):
        self.finished = state.global_step
'''


def test_callback_of_swift_counts_from_one_after_a_resume() -> None:
    calls: dict[str, list[int]] = {}
    for name, text in {"swift": SWIFT, "page": block("py", "class AdaloraCallback")}.items():
        names: dict[str, Any] = {}
        exec(text, names)  # noqa: S102 - the callback under test
        callback = names["AdaloraCallback"](None, None)
        calls[name] = []
        model = SimpleNamespace(
            peft_config={"default": SimpleNamespace()},
            zero_grad=lambda: None,
            update_and_allocate=calls[name].append,
        )
        state = SimpleNamespace(global_step=10, max_steps=STEPS)
        callback.on_train_begin(None, state, None, model=model)
        for _ in range(2):
            callback.on_optimizer_step(None, state, None, model=model)
            model.zero_grad()
            state.global_step += 1
            callback.on_step_end(None, state, None, model=model)
    assert calls == {"swift": [1, 12], "page": [11, 12]}


# --- sentence-transformers and axolotl -----------------------------------------------------------


@pytest.mark.slow
def test_sentence_transformers_with_peft_alone_reaches_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)
    from datasets import Dataset
    from script_parts import base_model, sentences, tokenizer
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    base_model("BertModel").save_pretrained("encoder")
    tokenizer().save_pretrained("encoder")
    parts = [Transformer("encoder"), Pooling(16)]
    model = SentenceTransformer(modules=parts, device="cpu")
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir="run", max_steps=8, per_device_train_batch_size=4, learning_rate=1e-2,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        ),
        train_dataset=Dataset.from_dict({"a": sentences(32), "b": sentences(32, seed=3)}),
        loss=MultipleNegativesRankingLoss(model),
    )  # fmt: skip
    fields = {"init_r": 6, "target_r": 3, "tinit": 1, "tfinal": 2, "total_step": 8}
    config = peft.AdaLoraConfig(target_modules=["query", "value"], **fields)
    encoder = defined_by("class Allocate", model=model, config=config, trainer=trainer)["encoder"]
    trainer.train()
    assert sum(live_ranks(encoder)) == 3 * 4
    encoder.save_pretrained("adapter")
    loaded = peft.PeftModel.from_pretrained(base_model("BertModel"), "adapter")
    ids = torch.tensor([[2, 5, 6, 3]])
    outputs = [each.eval()(ids).last_hidden_state for each in (encoder, loaded)]
    torch.testing.assert_close(*outputs)
    assert not torch.allclose(outputs[0], base_model("BertModel").eval()(ids).last_hidden_state)


def test_figures_of_a_study_are_those_of_its_page() -> None:
    evidence = (ROOT / "docs" / "evidence-tables.md").read_text(encoding="utf-8")
    figures = re.findall(r"[+-]\d\.\d+ \[[^\]]*\]", TEXT)
    assert len(figures) == 2
    assert all(each in evidence for each in figures)
