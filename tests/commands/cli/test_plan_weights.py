"""Test `adalora plan --weights`: what a configuration means for the model to adapt."""

from __future__ import annotations

import json

import pytest
from header_files import small_gpt2, small_llama, write_model

from adalora_core.commands.cli import main
from adalora_core.commands.injection.injecting import RELEASE
from adalora_core.config.rules.base import SOUND


@pytest.fixture
def plan(write, tmp_path, capsys):
    """Run `adalora plan` on changed fields and tensors; return exit code, output and errors."""

    def run(fields, tensors=None, *arguments, settings=None):
        model = write_model(tmp_path / "base" / "model.safetensors", tensors or small_llama())
        if settings is not None:
            (model.parent / "config.json").write_text(json.dumps(settings))
        path = write(SOUND | fields)
        code = main(["plan", str(path), "--weights", str(model.parent), *arguments])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


def _weights(plan, fields, *arguments, **options):
    code, out, _ = plan(fields, options.pop("tensors", None), "-o", "json", *arguments, **options)
    assert code == 0, out
    found = json.loads(out)["weights"]
    first, *found["notes"] = found["notes"]
    assert first.startswith("the model is planned by names and shapes of the headers: ")
    return found


def _modules(weights):
    return [matrix["module"] for matrix in weights["matrices"]]


def test_text_names_groups_parameters_and_memory(plan):
    code, out, _ = plan({}, small_llama(layers=11))
    assert code == 0
    assert "budget: 264 triplets of 22 matrices at the start, 176 at the end" in out
    assert "model.layers.*.self_attn.q_proj  11 x [16 -> 16]" in out
    assert "model.layers.*.self_attn.v_proj  11 x [16 -> 8]" in out
    assert "trainable at the start: 7,656 (138.90%), rank 12 everywhere" in out
    assert (
        "left at the end: 5,104 (92.60%) if every matrix keeps rank 8, else 4,752 to 5,456" in out
    )
    assert "adapter: 30.6 kB at the start, plus as much for gradients and twice for AdamW\n" in out
    assert "allocator: 61.2 kB, in PEFT 91.9 kB" in out


def test_text_names_no_spread_where_all_matrices_are_alike(plan):
    _, out, _ = plan({"target_modules": ["q_proj"]}, small_llama(layers=11))
    assert "left at the end: 2,904 (52.69%) for every distribution of the rank\n" in out


def test_json_numbers_are_those_of_the_formula(plan):
    weights = _weights(plan, {})
    entries = 2 * (16 + 16 + 1) + 2 * (16 + 8 + 1)
    assert weights["trainable_parameters"] == {
        "start": 12 * entries,
        "end": 8 * entries,
        # 32 triplets over four matrices of 12: the small ones full, then the large ones, and back.
        "end_least": 24 * 25 + 8 * 33,
        "end_most": 24 * 33 + 8 * 25,
        "trained_whole": 0,
    }
    assert weights["adapter_bytes"] == 4 * 12 * entries
    assert weights["allocator_bytes"] == {
        "adalora-core": 2 * 4 * 12 * entries, "peft": 3 * 4 * 12 * entries
    }  # fmt: skip
    assert weights["matrices"][1] == {
        "module": "model.layers.0.self_attn.v_proj", "inputs": 16, "outputs": 8
    }  # fmt: skip


def test_all_linear_leaves_out_what_has_a_row_per_token(plan):
    tensors = {"q.weight": ("F32", [16, 16]), "to_words.weight": ("F32", [32, 16])}
    fields = {"target_modules": "all-linear"}
    settings = {"text_config": {"vocab_size": 32}}
    assert _modules(_weights(plan, fields, tensors=tensors)) == ["q", "to_words"]
    assert _modules(_weights(plan, fields, tensors=tensors, settings=settings)) == ["q"]


def test_targets_that_are_not_set_come_from_the_model_type(plan):
    fields = {"target_modules": None}
    weights = _weights(plan, fields, settings={"model_type": "llama"})
    assert len(weights["matrices"]) == 4
    assert "the default for the model type" in weights["notes"][0]
    code, out, _ = plan(fields, settings={"model_type": "new"})
    assert code == 1
    assert "Please specify `target_modules`" in out


def test_what_is_trained_whole_is_counted_and_named(plan):
    whole = {"modules_to_save": ["lm_head"], "task_type": "SEQ_CLS", "bias": "lora_only"}
    weights = _weights(plan, whole)
    assert weights["trainable_parameters"]["trained_whole"] == 32 * 16 + 2 * 8
    attention = [f"model.layers.{n}.self_attn.{x}_proj.bias" for n in (0, 1) for x in "qv"]
    assert set(weights["trained_whole_names"]) <= {"lm_head", *attention}
    assert "lm_head" in weights["trained_whole_names"]
    (line,) = (each for each in plan(whole)[1].splitlines() if "without an adapter" in each)
    assert line.endswith("model.layers.*.self_attn.v_proj.bias, lm_head")
    assert any("has no 'classifier'" in note for note in weights["notes"])
    everywhere = small_llama() | {"model.norm.bias": ("F32", [5])}
    weights = _weights(plan, {"bias": "all"}, tensors=everywhere)
    assert weights["trainable_parameters"]["trained_whole"] == 2 * 8 + 5


IGNORED = {
    "a name that is not there": (
        {"target_modules": ["q_proj", "vproj"]},
        "target_modules[1] 'vproj' matches no module",
        'did you mean ["v_proj"]? the model has the linear layers q_proj (2), v_proj (2)',
    ),
    "an expression in a list": (
        {"target_modules": ["q_proj", ".*v_proj"]},
        "'.*v_proj' matches no module",
        "write names, a list holds no regular expressions",
    ),
}
"""Entries beside others that match: PEFT ignores them."""


@pytest.mark.parametrize("case", IGNORED)
def test_entry_that_matches_nothing_beside_others_is_a_note(case, plan):
    fields, message, hint = IGNORED[case]
    weights = _weights(plan, fields)
    (note,) = weights["notes"]
    assert message in note
    assert hint in note
    assert len(weights["matrices"]) == 2


REFUSED = {
    "names that are not there": (
        {"target_modules": ["vproj"]},
        'did you mean ["v_proj"]? the model has the linear layers q_proj (2), v_proj (2), lm_head',
    ),
    "many names": (
        {"target_modules": [f"q{number}" for number in range(99)]},
        "lm_head (1); the embeddings embed_tokens (1)\n",
    ),
    "a name as an expression": (
        {"target_modules": "q_proj|v_proj"},
        'write ".*(q_proj|v_proj)" or a list of names',
    ),
    "an expression that matches nothing": (
        {"target_modules": r".*\.query"},
        "write an expression for paths such as model.layers.0.self_attn.q_proj",
    ),
    "layers that are not there": (
        {"layers_to_transform": [7]},
        "accepted without layers_to_transform; the layers of the model are 0 to 1",
    ),
    "everything excluded": ({"exclude_modules": r".*_proj"}, "accepted without exclude_modules"),
    "an embedding": (
        {"target_modules": ["embed_tokens"]},
        'write the usual targets of the architecture, ["q_proj", "v_proj"]; the model has',
    ),
    "a container": ({"target_modules": ["self_attn"]}, "the linear layers q_proj (2), v_proj"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_configuration_that_does_not_fit_exits_1_and_names_what_fits(case, plan):
    fields, hint = REFUSED[case]
    # Under PEFT some of them are errors without a model.
    ours = ("--runtime", "adalora-core")
    code, out, _ = plan(fields, None, *ours)
    assert code == 1
    assert hint in out
    assert out.startswith("error: adalora-core refuses it: ")
    assert plan(fields)[0] == 1
    code, out, _ = plan(fields, None, "-o", "json", *ours)
    (problem,) = json.loads(out)["problems"]
    assert hint.strip() in problem["hint"]
    assert code == 1


LLAMA_TARGETS = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up")] + ["vproj"]


@pytest.mark.parametrize("settings", [None, {"model_type": "gpt2"}])
def test_names_of_another_architecture_are_one_error_with_its_usual_targets(plan, settings):
    fields = {"target_modules": LLAMA_TARGETS}
    _, out, _ = plan(fields, small_gpt2(), "-o", "json", settings=settings)
    (problem,) = json.loads(out)["problems"]
    assert problem["message"].startswith(f"{RELEASE} refuses it: Target modules {{")
    assert problem["hint"] == (
        'write the usual targets of the architecture, ["c_attn"]; the model has the linear '
        "layers c_proj (4), c_attn (2), c_fc (2); the embeddings wte (1)"
    )
    fields = {"target_modules": [*LLAMA_TARGETS, "c_attn"]}
    notes = _weights(plan, fields, tensors=small_gpt2(), settings=settings)["notes"]
    assert ["did you mean" in note for note in notes] == [False] * 6 + [True]
    tensors = {"mix.weight": ("F32", [4, 4]), "look.weight": ("F32", [4, 4, 3, 3])}
    _, out, _ = plan({"target_modules": LLAMA_TARGETS}, tensors, settings=settings)
    assert "hint: the model has the linear layers mix (1); the convolutions look (1)\n" in out


SAVED = {
    "inference_mode": True,
    "target_modules": ["q_proj"],
    "rank_pattern": {
        f"model.layers.{layer}.self_attn.q_proj.lora_E": [True] * 8 + [False] * 4
        for layer in range(2)
    },
}
FIRST, SECOND = SAVED["rank_pattern"]
KEPT = SAVED["rank_pattern"][FIRST]
OF_THE_MODEL = {
    "as saved": (SAVED, None),
    "an unknown module": (
        SAVED | {"rank_pattern": {f"model.{FIRST}": KEPT}},
        "rank_pattern names 'model.model.layers.0.self_attn.q_proj', which has no adapter",
    ),
    "a module without an adapter": (
        SAVED | {"target_modules": "all-linear", "exclude_modules": ["q_proj"]},
        "'model.layers.0.self_attn.q_proj', which has no adapter in this model",
    ),
    "the adapter's name": (
        SAVED | {"rank_pattern": {f"{key}.default": KEPT for key in (FIRST, SECOND)}},
        None,
    ),
    "tokens": ({"trainable_token_indices": [0, 31]}, None),
    "a token too many": ({"trainable_token_indices": [32]}, "32"),
    "tokens of a block": (
        {"trainable_token_indices": {"self_attn": [0]}},
        "accepted without trainable_token_indices",
    ),
    "tokens of the end of a name": ({"trainable_token_indices": {"tokens": [32]}}, "32"),
    "tokens of nothing": ({"trainable_token_indices": {"wte": [0]}}, "wte"),
    "a copy": ({"modules_to_save": ["layers.0"]}, None),
    # PEFT looks for the ends of paths: "norm" is one of input_layernorm.
    "a copy inside a copy": (
        {"modules_to_save": ["layers.0", "norm"]},
        "cannot load what it saves: KeyError",
    ),
    # "attn" is none of the parts of a path, so PEFT adapts what is inside, and copies it then.
    "a target inside a copy": (
        {"modules_to_save": ["attn"], "target_modules": ["q_proj", "lm_head"]},
        "cannot load what it saves: KeyError",
    ),
    "a target inside a copy, excluded": (
        {
            "modules_to_save": ["attn"],
            "target_modules": ".*d|.*v_proj",
            "exclude_modules": ".*v_.*",
        },
        None,
    ),
}


@pytest.mark.parametrize("case", OF_THE_MODEL)
def test_other_fields_are_compared_with_the_model(case, plan):
    fields, message = OF_THE_MODEL[case]
    code, out, _ = plan(fields)
    assert code == (1 if message else 0), out
    assert (message or "") in out


@pytest.mark.parametrize(
    "fields", [{"ensure_weight_tying": True}, {"trainable_token_indices": [0]}]
)
def test_setting_that_our_models_refuse_is_a_problem_of_the_plan(fields, plan):
    code, out, _ = plan(fields, None, "--runtime", "adalora-core")
    assert code == 1
    assert f"{next(iter(fields))}: adalora_core.get_peft_model does not follow it" in out


@pytest.mark.parametrize(
    "fields",
    [
        OF_THE_MODEL["a module without an adapter"][0],
        SAVED | {"lora_dropout": float("nan")},
        SAVED | {"alpha_pattern": {"(": 3}},
    ],
)
def test_what_our_loading_does_not_read_is_no_problem_of_the_plan(fields, plan):
    code, out, _ = plan(fields, None, "--runtime", "adalora-core")
    assert code == 0, out


def test_copy_and_target_inside_a_copy_are_right_for_our_models(plan):
    fields, _ = OF_THE_MODEL["a copy inside a copy"]
    assert plan(fields, None, "--runtime", "adalora-core")[0] == 0
    fields, _ = OF_THE_MODEL["a target inside a copy"]
    weights = _weights(plan, fields, "--runtime", "adalora-core")
    assert _modules(weights) == ["lm_head"]
    assert weights["trainable_parameters"]["trained_whole"] == 2 * (16 * 16 + 16 * 8 + 8)


def test_quantised_layers_are_read_where_the_header_has_their_sizes(plan):
    gptq = {
        "q.qweight": ("I32", [8, 24]), "q.scales": ("BF16", [1, 24]), "q.g_idx": ("I32", [64]),
    }  # fmt: skip
    awq = {"q.qweight": ("I32", [64, 3]), "q.scales": ("BF16", [1, 24])}
    for tensors in (gptq, awq):
        (matrix,) = _weights(plan, {"target_modules": ["q"]}, tensors=tensors)["matrices"]
        assert (matrix["inputs"], matrix["outputs"]) == (64, 24)
    packed = {"q.weight": ("U8", [768, 1]), "q.weight.absmax": ("F32", [24])}
    code, out, _ = plan({"target_modules": ["q"]}, packed)
    assert code == 1
    assert "is not supported" in out


def test_exclusion_that_matches_nothing_is_a_note(plan):
    weights = _weights(plan, {"exclude_modules": ["lm_haed", "lm_head"]})
    assert weights["notes"] == ["exclude_modules: 'lm_haed' matches no module"]


def test_weights_that_are_missing_or_damaged_exit_2(write, tmp_path, capsys):
    path = str(write(SOUND))
    assert main(["plan", path, "--weights", str(tmp_path / "none")]) == 2
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    assert main(["plan", path, "--weights", str(tmp_path / "model.safetensors")]) == 2
    assert "not a safetensors file" in capsys.readouterr().err
    write_model(tmp_path / "base" / "model.safetensors", small_llama())
    (tmp_path / "base" / "config.json").write_text("{")
    assert main(["plan", path, "--weights", str(tmp_path / "base")]) == 2
    assert "config.json: not valid JSON" in capsys.readouterr().err
