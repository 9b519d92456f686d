"""The plugin for ms-swift: with stand-ins of its classes, and (nightly) in its own runs."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adalora_runs import live_ranks
from module_files import module_of
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
from tool_stand_ins import PeftTuner, TrainerCallback, differences, refused_parameters, stand_in
from toy_models import tiny_llama
from trainer_runs import Sequences
from transformers import Trainer, TrainingArguments

from adalora_core.bridge import uninstall


@pytest.fixture
def path(capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_module("adalora_core.trainers.ms_swift", run_name="__main__")
    return capsys.readouterr().out.strip()


@pytest.fixture
def module(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stand_in("swift", monkeypatch)
    yield module_of(path)
    uninstall()


def settings(**changes: Any) -> SimpleNamespace:
    schedule = {"target_r": 2, "init_r": 4, "tinit": 2, "tfinal": 3, "deltaT": 1,
                "beta1": 0.85, "beta2": 0.85, "orth_reg_weight": 0.5}  # fmt: skip
    of_lora = {"lora_alpha": 8, "lora_dropout": 0.05, "lora_bias": "none", "use_rslora": False,
               "use_dora": False, "init_weights": True, "task_type": "causal_lm",
               "target_modules": ["q_proj", "v_proj"], "modules_to_save": []}  # fmt: skip
    given = {f"adalora_{name}": value for name, value in schedule.items()}
    return SimpleNamespace(**of_lora | given | changes)


@pytest.mark.parametrize(
    ("task", "of_peft"),
    [("embedding", None), ("reranker", "SEQ_CLS"), ("generative_reranker", "CAUSAL_LM")],
)
def test_tasks_of_ms_swift_are_those_that_it_gives_peft(
    module: Any, task: str, of_peft: str | None
) -> None:
    model = module.AdaLoraTuner.prepare_model(settings(task_type=task), tiny_llama())
    assert model.peft_config["default"].task_type == of_peft


def test_plugin_makes_the_model_and_its_trainer_allocates(module: Any, tmp_path: Path) -> None:
    assert refused_parameters(module.AdaLoraTuner, PeftTuner) == []
    assert refused_parameters(module.AddAdaLoraCallback, TrainerCallback) == []
    tuner = module.tuners_map["adalora"]
    model = tuner.prepare_model(settings(), tiny_llama())
    assert model.peft_config["default"].lora_alpha == 8

    class SwiftTrainer(Trainer):
        def __init__(self, model: Any, args: Any, **options: Any) -> None:
            callback = module.callbacks_map["adalora"](args, self)
            super().__init__(model, args, callbacks=[callback], **options)

    arguments = TrainingArguments(
        str(tmp_path), max_steps=STEPS, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", label_smoothing_factor=0.1,
    )  # fmt: skip
    SwiftTrainer(model, arguments, train_dataset=Sequences()).train()
    assert sum(live_ranks(model)) == 8
    assert model.peft_config["default"].total_step == STEPS
    assert not model.run_report().findings
    model.save_pretrained(tmp_path / "saved")
    loaded = tuner.from_pretrained(tiny_llama(), str(tmp_path / "saved"), is_trainable=True)
    assert sum(live_ranks(loaded)) == 8


@pytest.mark.parametrize(
    ("changes", "code"), [({"adalora_target_r": 9}, "ADA301"), ({"use_dora": True}, "use_dora")]
)
def test_settings_that_cannot_be_right_are_refused(
    module: Any, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(ValueError, match=code):
        module.AdaLoraTuner.prepare_model(settings(**changes), tiny_llama())


@pytest.mark.nightly
@needs("swift")
@pytest.mark.filterwarnings("ignore")
def test_the_stand_in_is_true() -> None:
    assert differences("swift") == []


@pytest.mark.nightly
@needs("swift")
@pytest.mark.parametrize("processes", [1, 2])
def test_command_of_ms_swift_ends_at_the_budget_and_resumes(
    processes: int, path: str, tmp_path: Path
) -> None:
    write_inputs(tmp_path, str)
    schedule = {
        f"adalora_{name}": FIELDS[name] for name in ("init_r", "target_r", "tinit", "tfinal")
    }
    changes = schedule | {
        "model": "model", "model_type": "llama", "template": "dummy", "max_steps": STEPS,
        "save_steps": STEPS // 2, "lora_dropout": 0, "per_device_train_batch_size": 4,
        "torch_dtype": "float32", "use_cpu": "true", "report_to": "none", "add_version": "false",
        "check_model": "false", "learning_rate": 0.01,
    }  # fmt: skip
    variables = OFFLINE
    if processes > 1:
        changes["ddp_backend"] = "gloo"
        variables = OFFLINE | {"NPROC_PER_NODE": "2"}

    def train(output: str, **more: Any) -> Path:
        file = tmp_path / "swift.yaml"
        given = {"external_plugins": path, "output_dir": output, **more}
        write_settings(file, changes | given)
        command = ("-m", "swift.cli.main", "sft", file)
        output_of_python(*command, variables=variables, cwd=tmp_path)
        return tmp_path / output / f"checkpoint-{STEPS}"

    whole = train("whole")
    assert budget_of(whole) == (MATRICES * FIELDS["target_r"], STEPS)
    middle = str(tmp_path / "whole" / f"checkpoint-{STEPS // 2}")
    assert are_equal(whole, train("resumed", resume_from_checkpoint=middle))
    require_no_finding(tmp_path)
    # Without the plugin, ms-swift's own callback allocates on one process alone.
    values = [
        each
        for name, each in weights_of(train("alone", external_plugins=None)).items()
        if "lora_E" in name
    ]
    kept = sum(int((each != 0).sum()) for each in values)
    wanted = FIELDS["target_r"] if processes == 1 else FIELDS["init_r"]
    assert kept == MATRICES * wanted


def test_folder_of_the_plugin_shadows_no_package(path: str) -> None:
    # ms-swift puts the folder before `sys.path`.
    names = {each.stem for each in Path(path).parent.glob("*.py")}
    assert names == {"__init__", "__main__", "adalora_ms_swift"}
