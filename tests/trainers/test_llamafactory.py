"""The plugin for LLaMA-Factory: with a stand-in of its trainer, and (nightly) in its own runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adalora_runs import live_ranks
from programs import output_of_python
from tool_runs import (
    FIELDS,
    MATRICES,
    OFFLINE,
    STEPS,
    are_equal,
    budget_of,
    needs,
    require_no_finding,
    weights_of,
    write_inputs,
    write_settings,
)  # fmt: skip
from tool_stand_ins import (
    PeftPlugin,
    SFTTrainer,
    _load_standard_training_states,
    differences,
    refused_parameters,
    stand_in,
)
from toy_models import tiny_llama, token_batch

from adalora_core.bridge import uninstall
from adalora_core.floor.errors import ParallelismError, RunWarning

NAME = "adalora_core.trainers.llamafactory"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stand_in("llamafactory", monkeypatch)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.setattr(PeftPlugin, "registry", {})
    yield import_module(NAME)
    sys.modules.pop(NAME)
    uninstall()


def made(**changes: Any) -> Any:
    return PeftPlugin("adalora")(tiny_llama(), {"name": "adalora", **FIELDS, **changes}, True)


def trained(module: Any, model: Any, dist_config: Any = None) -> Any:
    args = SimpleNamespace(dist_config=dist_config)
    batches = [token_batch(step) for step in range(STEPS)]
    trainer = module.AdaLoraSFTTrainer(args, model=model, renderer=None, train_dataset=batches)
    trainer.fit()
    return trainer


def test_trainer_allocates_and_its_loss_holds_the_penalty(module: Any, tmp_path: Path) -> None:
    assert refused_parameters(module.AdaLoraSFTTrainer, SFTTrainer) == []
    model = made()
    trainer = trained(module, model)
    assert model.peft_config["default"].total_step == STEPS
    assert sum(live_ranks(model)) == MATRICES * FIELDS["target_r"]
    assert not model.run_report().findings
    batch = token_batch(0)
    alone = SFTTrainer.compute_loss(trainer, batch)
    penalty = model.orthogonality_penalty()
    assert trainer.compute_loss(batch).item() == pytest.approx((alone + penalty).item())
    model.save_pretrained(tmp_path)
    again = made(adapter_name_or_path=str(tmp_path))
    assert sum(live_ranks(again)) == sum(live_ranks(model))


def test_checkpoint_is_loaded_with_its_training_state(module: Any, tmp_path: Path) -> None:
    model = made(total_step=STEPS * 2)
    with pytest.warns(RunWarning, match=f"ADA824: LLaMA-Factory makes {STEPS} optimizer steps"):
        optimizer = trained(module, model).optimizer
    model.save_pretrained(tmp_path / "model", save_training_state=True)
    (tmp_path / "optimizer").mkdir()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer" / "state_dict.pt")
    other = made(total_step=STEPS * 2)
    fresh = torch.optim.AdamW([each for each in other.parameters() if each.requires_grad])
    arguments = (str(tmp_path), other, fresh, torch.device("cpu"))
    module.load_states(*arguments)
    _load_standard_training_states(*arguments)
    assert other.base_model.trained_adapters()[0].allocator.last_step == STEPS - 1
    assert fresh.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()


def test_wrong_run_is_refused_in_a_sentence(module: Any) -> None:
    with pytest.raises(ValueError, match="ADA301"):
        made(target_r=9)
    with pytest.raises(ParallelismError, match="expected one process or DDP, got the dist_config"):
        trained(module, made(), SimpleNamespace(name="fsdp2"))
    with pytest.raises(TypeError, match="expected a model of"):
        trained(module, tiny_llama())


def test_start_puts_the_trainer_into_the_tool(module: Any) -> None:
    module.main()
    assert module.sft_trainer.SFTTrainer is module.AdaLoraSFTTrainer
    assert module.checkpoint._load_standard_training_states is module.load_states


@pytest.mark.nightly
@needs("llamafactory")
@pytest.mark.filterwarnings("ignore")
def test_the_stand_in_is_true() -> None:
    assert differences("llamafactory") == []


@pytest.mark.nightly
@needs("llamafactory")
def test_run_of_llamafactory_ends_at_the_budget_resumes_and_is_divided(tmp_path: Path) -> None:
    write_inputs(tmp_path, lambda text: [{"type": "text", "value": text}])
    changes = {
        "model": "model",
        "template": "chatml",
        "peft_config": FIELDS,
        "global_batch_size": 8,
        "cutoff_len": 64,
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "batching_workers": 0,
        "bf16": False,
        "output_dir": "whole",
    }
    file = tmp_path / "llamafactory.yaml"
    write_settings(file, changes)
    options = {"variables": OFFLINE, "cwd": tmp_path}
    output_of_python("-m", NAME, file, **options)
    assert budget_of(tmp_path / "whole") == (MATRICES * FIELDS["target_r"], STEPS)
    middle = f"resume_from_checkpoint=whole/checkpoint-{STEPS // 2}"
    output_of_python("-m", NAME, file, "output_dir=resumed", middle, **options)
    assert are_equal(tmp_path / "whole", tmp_path / "resumed")
    require_no_finding(tmp_path)
    # LLaMA-Factory waits for an accelerator after every step of several processes.
    script = f"import torch\ntorch.accelerator.synchronize = lambda *_: None\nimport {NAME} as m\n"
    (tmp_path / "start.py").write_text(script + "m.main()\n", encoding="utf-8")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    output_of_python(*launcher, "start.py", file, "output_dir=divided", **options)
    whole, divided = weights_of(tmp_path / "whole"), weights_of(tmp_path / "divided")
    for name, expected in whole.items():
        torch.testing.assert_close(divided[name], expected, rtol=1e-4, atol=1e-5)
