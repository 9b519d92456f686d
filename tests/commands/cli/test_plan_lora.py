"""Test `adalora plan` of LoRA, rsLoRA and DoRA: doors, tables, problems, a picture."""

from __future__ import annotations

import json
import re

import pytest
from header_files import small_gpt2, small_llama, write_model

from adalora_core.commands.cli import main
from adalora_core.commands.injection.injecting import RELEASE

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def plan(write, tmp_path, capsys):
    """Run `adalora plan` on content and tensors; return exit code, output and errors."""

    def run(content, *arguments, tensors=None, settings=None, name="run.json"):
        if tensors is not None:
            model = write_model(tmp_path / "base" / "model.safetensors", tensors)
            if settings is not None:
                (model.parent / "config.json").write_text(json.dumps(settings))
            arguments = ("--weights", str(model.parent), *arguments)
        code = main(["plan", str(write(content, name)), *arguments])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


def _of(plan, fields, tensors, *arguments, **options):
    code, out, _ = plan(LORA | fields, "-o", "json", *arguments, tensors=tensors, **options)
    assert code == 0, out
    found = json.loads(out)
    first, *found["notes"] = found["notes"]
    assert first.startswith("the model is planned by names and shapes of the headers: ")
    return found


def test_table_fits_a_terminal_and_names_what_is_not_reached(plan):
    tensors = small_llama(layers=11) | {
        f"model.layers.{layer}.a_part_of_the_model_with_a_long_name.{name}.weight": (
            "F32",
            [16, 16],
        )
        for layer in range(11)
        for name in ("q_proj", "gate_proj")
    }
    fields = {
        "layers_to_transform": [0, 1, 2, 7],
        "target_modules": ["q_proj", "v_proj", "mlp.gate"],
    }
    code, out, _ = plan(LORA | fields, tensors=tensors, settings={"model_type": "llama"})
    assert code == 0
    assert max(map(len, out.splitlines())) < 80
    assert out.startswith("LoRA of rank 4\nscale: lora_alpha / r = 8 / 4 = 2\n\n")
    assert f"\nadapted by {RELEASE}: 12 linear layers of a model" in out
    assert re.search(r"[.]{3}\S*_name[.]q_proj +4 of 11 +16 -> 16 +4 +2 +512\n", out)
    assert "in the layers 0-2, 7 alone: self_attn.q_proj, v_proj" in out
    assert "\nnot adapted: gate_proj (11), self_attn.q_proj (7), v_proj (7)" in out
    assert "usual for the architecture, and not adapted: self_attn.q_proj (7), v_proj" in out
    assert "trained: 1,408 numbers (12.63%) in lora_A, lora_B\n" in out
    assert (
        "note: target_modules[2] 'mlp.gate' matches no module; did you mean\n"
        '  ["gate_proj"]? the model has the linear layers' in out
    )


def test_json_has_modules_shapes_scales_and_bytes(plan):
    fields = {"use_rslora": True, "use_dora": True, "alpha_pattern": {"v_proj": 16}}
    found = _of(plan, fields, small_llama())
    assert (found["method"], found["rank"], found["scale"]) == ("rsLoRA with DoRA", 4, 4.0)
    assert found["modules"][1] == {
        "path": "model.layers.0.self_attn.v_proj",
        "kind": "linear",
        "rank": 4,
        "alpha": 16.0,
        "scale": 8.0,
        "tensors": {
            "lora_A.weight": [4, 16], "lora_B.weight": [8, 4], "lora_magnitude_vector": [8]
        },
        "dtype": "F32",
        "owner": "model.layers.0.self_attn.v_proj",
        "trained": 4 * (16 + 8) + 8,
    }  # fmt: skip
    trained = 2 * (4 * 32 + 16 + 4 * 24 + 8)
    assert found["trained_parameters"] == trained
    assert found["training_bytes"] == 4 * 4 * trained
    assert found["not_adapted"] == {"lm_head": 1}
    assert _of(plan, {"modules_to_save": ["lm_head"]}, small_llama())["not_adapted"] == {}


DOORS = {
    "a script": (
        "train.py",
        "from peft import LoraConfig\nLoraConfig(r=4, lora_alpha=8, target_modules=['q_proj'])\n",
    ),
    "a tool's file": (
        "run.yaml",
        "base_model: x\nadapter: lora\nlora_r: 4\nlora_alpha: 8\nlora_target_modules: [q_proj]\n",
    ),
    "a section": (
        "run.toml",
        '[a]\npeft_type = "LORA"\nr = 4\nlora_alpha = 8\ntarget_modules = ["q_proj"]\n',
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_configuration_is_found_where_it_is(door, plan):
    name, text = DOORS[door]
    code, out, _ = plan(text, "-o", "json", tensors=small_llama(), name=name)
    assert code == 0, out
    assert [each["path"] for each in json.loads(out)["modules"]] == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"
    ]  # fmt: skip


def test_several_calls_and_values_of_a_run(plan):
    two = "from peft import LoraConfig\nLoraConfig(r=4)\nLoraConfig(r=n)\n"
    _, out, _ = plan(two, name="train.py")
    assert "LoRA of rank 4\n" in out
    assert "note: the first of 2 configurations; for others --key /LoraConfig/1\n" in out
    code, _, error = plan(two, "--key", "/LoraConfig/1", name="train.py")
    assert code == 2
    assert "known only when the run starts: r; write the values into a configuration" in error
    assert plan(two.replace("r=n", "r=2"), "--key", "/LoraConfig/1", name="train.py")[0] == 0


NOTES = {
    "the end of a name": ({"target_modules": ["q_proj", "mlp.v_proj"]}, 'did you mean ["v_proj"]'),
    "the beginning of a name": ({"target_modules": ["q_proj", "v"]}, 'did you mean ["v_proj"]'),
    "an expression of a pattern": ({"rank_pattern": {"k_proj": 2}}, "'k_proj' gives no module"),
    "an excluded name": ({"exclude_modules": ["k_proj"]}, "exclude_modules: 'k_proj' matches no"),
    "a layer": ({"layers_to_transform": [0, 9]}, "layers_to_transform: no target is in layer 9"),
    "a target in no layer": (
        {"target_modules": ["q_proj", "embed_tokens"], "layers_to_transform": [0]},
        "target_modules[1] 'embed_tokens' is excluded, copied, or in no asked layer",
    ),
    "a start from data": ({"init_lora_weights": "loftq"}, "'loftq' is planned as the default"),
}


@pytest.mark.parametrize("case", NOTES)
def test_entry_that_means_nothing_is_a_note(case, plan):
    fields, note = NOTES[case]
    (found,) = _of(plan, fields, small_llama())["notes"]
    assert note in found


PROBLEMS = {
    "a rank in a text": ("r", {"r": "8"}, "r should be a number above 0, of 64 bits, got '8'"),
    "a list of numbers": ("target_modules", {"target_modules": [1]}, "target_modules should be"),
    "no rank in a pattern": ("rank_pattern", {"rank_pattern": {"q_proj": 0}}, "positive integer"),
    "layers beside a text": (
        "layers_to_transform",
        {"target_modules": ".*q_proj", "layers_to_transform": [0]},
        "`layers_to_transform` cannot be used when `target_modules` is a str",
    ),
    "no expression": ("target_modules", {"target_modules": "*q"}, "nothing to repeat"),
    "a pattern of nothing": ("alpha_pattern", {"alpha_pattern": {"*q": 2}}, "nothing to repeat"),
    "a norm": ("target_modules", {"target_modules": ["input_layernorm"]}, "is not supported"),
    "nothing": ("target_modules", {"target_modules": ["qkv"]}, "Target modules {'qkv'} not found"),
    "a token too many": (
        "trainable_token_indices", {"trainable_token_indices": [99]}, "has 32 rows, and no row 99"
    ),
    "a parameter of a target": (
        "target_parameters", {"target_parameters": ["q_proj.weight"]}, "Trying to wrap"
    ),
    "layers that cannot be repeated": (
        "layer_replication", {"layer_replication": [[0, 2]]}, "Could not locate the layers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_problem_is_one_sentence_with_its_place(case, plan):
    field, fields, message = PROBLEMS[case]
    settings = {"vocab_size": 32}
    code, out, _ = plan(LORA | fields, "-o", "json", tensors=small_llama(), settings=settings)
    assert code == 1
    first, *_ = json.loads(out)["problems"]
    assert first["pointer"] == f"/{field}"
    assert message in first["message"]


def test_a_budget_without_the_model_exits_2_with_one_sentence(plan):
    code, out, error = plan(LORA, "--budget", "20MB")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "add --weights" in error


def test_conv1d_of_gpt2_is_known_by_its_bias(plan):
    wide = {"attn.c_attn.weight": ("F32", [16, 48]), "attn.c_attn.bias": ("F32", [48])}
    tensors = small_gpt2() | {f"h.0.{name}": info for name, info in wide.items()}
    tensors["h.0.attn.bias"] = ("F32", [1, 1, 8, 8])  # a mask, which is not trained
    fields = {"target_modules": ["h.0.attn.c_attn"], "use_dora": True, "bias": "all"}
    found = _of(plan, fields, tensors)
    assert found["trained_whole"] == 48
    assert found["trained_whole_names"] == ["h.0.attn.c_attn.bias"]
    assert found["modules"][0]["tensors"]["lora_magnitude_vector"] == [48]


def test_folder_of_an_adapter_is_compared_with_its_tensors(tmp_path, capsys):
    folder = tmp_path / "adapter"
    shapes = {"lora_A": [4, 16], "lora_B": [16, 4]}
    start = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{start}.{name}.weight": ("F32", shape) for name, shape in shapes.items()}
    file = write_model(folder / "adapter_model.safetensors", tensors)
    settings = LORA | {"target_modules": ["q_proj"], "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    base = write_model(tmp_path / "base" / "model.safetensors", small_llama(layers=1))

    def plan(*arguments):
        code = main(["plan", str(folder), "--weights", str(base), *arguments])
        return code, capsys.readouterr().out

    def severities_of_check():
        main(["check", str(folder), "-o", "json"])
        (report,) = json.loads(capsys.readouterr().out)["reports"]
        return [each["severity"] for each in report["diagnostics"]]

    code, out = plan()
    assert code == 0
    assert "trained: 128 numbers" in out
    assert "\nwarning[ADA826]: the adapter changes nothing: lora_A.weight and lora_B.weight" in out
    data = file.read_bytes()
    for numbers, rank, kinds, severities in (
        (b"\0" * 512, 4, ["zero"], ["warning"]),
        (b"\0\0\xc0\x7f" * 128, 4, ["not-finite"], ["error"]),
        (b"\0\0\x80\x3f" * 128, 8, ["shape"], ["error"]),
        (b"\0\0\x80\x3f" * 128, 4, [], []),
    ):
        file.write_bytes(data[:-512] + numbers)
        (folder / "adapter_config.json").write_text(json.dumps(settings | {"r": rank}))
        code, out = plan("-o", "json")
        found = json.loads(out)["faults"]
        assert [each["kind"] for each in found] == kinds
        assert [each["severity"] for each in found] == severities == severities_of_check()
        assert code == ("error" in severities)
    file.unlink()
    assert main(["plan", str(folder)]) == 2
    file.write_bytes(data)
    assert "the tensors are" not in plan()[1]
    file.write_bytes(data[:-512] + b"\0\0\x80\x3f" * 128)
    assert plan()[1].endswith(
        "\nnote: the tensors are those of the configuration and of the base model\n"
    )
    settings |= {"layer_replication": [[0, 1]]}  # shapes are not compared
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert "the tensors are" not in plan()[1]


def test_rank_beyond_floating_point_is_one_sentence(plan):
    tensors = {f"layers.0.{name}.weight": ("F32", [512, 512]) for name in ("q_proj", "v_proj")}
    code, out, err = plan(LORA | {"r": 10**308}, tensors=tensors)
    assert (code, err) == (1, "")
    assert out.startswith("error: r should be a number above 0, of 64 bits, got 1000")


def test_start_that_peft_takes_for_false_is_planned(plan):
    assert _of(plan, {"init_lora_weights": {}}, small_llama())["trained_parameters"] > 0
