"""Configurations from public repositories are judged as a reader judged them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contract_corpus import BY_NAME, CORPUS, unpacked, write_entry

from adalora_core.checker.check import check_config
from adalora_core.commands.cli import main

CODES = {
    "DELTAT_GT_WINDOW": "ADA203",
    "DORA_UNSUPPORTED": "ADA401",
    "DROPOUT_HIGH": "ADA412",
    "FEW_ALLOCATIONS": "ADA207",
    "IGNORED_FIELD": "ADA405",
    "LOFTQ_UNSUPPORTED": "ADA402",
    "NEVER_ALLOCATED": "ADA308",
    "NO_ALLOCATION_AT_ALL": "ADA206",
    "NO_BUDGET_PHASE": "ADA202",
    "ORTH_NEGATIVE": "ADA103",
    "ORTH_ZERO": "ADA703",
    "PATTERN_IN_LIST": "ADA506",
    "PEFT_TYPE": "ADA105",
    "RANKS_DEFAULTED": "ADA306",
    "RANKS_EQUAL": "ADA302",
    "RANK_ORDER": "ADA301",
    "RANK_RATIO": "ADA307",
    "R_IGNORED": "ADA303",
    "SHORT_WINDOW": "ADA208",
    "SMALL_SCALE": "ADA413",
    "TFINAL_LOOKS_ABSOLUTE": "ADA209",
    "TFINAL_ZERO": "ADA210",
    "TOOL_TRAINS_OTHERWISE": "ADA211",
    "TOTAL_STEP_MISSING": "ADA201",
    "TOTAL_STEP_NULL_IN_ADAPTER": "ADA702",
    "UNKNOWN_KEY": "ADA104",
    "UNKNOWN_TASK_TYPE": "ADA107",
}
"""The reader's reasons, and the rules that mean the same."""

OVERRULED = {
    # name: (verdict, added codes, missing codes); the reasons are in corpus/README.md
    "adapter-11": ("valid", set(), {"ADA105"}),
    "adapter-88": ("error", {"ADA306"}, set()),
    "wrapped-21": ("warning", set(), set()),
    "wrapped-29": ("error", {"ADA211"}, {"ADA104"}),
    "wrapped-26": ("warning", {"ADA101"}, set()),
    "wrapped-27": ("warning", {"ADA101"}, set()),
    "kwargs-36": ("warning", set(), {"ADA210"}),
    "kwargs-41": ("warning", {"ADA510"}, {"ADA210", "ADA703"}),
    "kwargs-42": ("error", set(), {"ADA210"}),
    "kwargs-44": ("error", set(), {"ADA210"}),
    "experiment-01": ("warning", {"ADA413"}, set()),
    "adapter-03": ("warning", {"ADA413"}, set()),
    "wrapped-20a": ("warning", {"ADA413"}, set()),
    "wrapped-20c": ("warning", {"ADA413"}, set()),
    "kwargs-59": ("error", {"ADA413"}, set()),
    "kwargs-80": ("error", {"ADA413"}, set()),
    "kwargs-81": ("warning", {"ADA413"}, set()),
}


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry["name"])
def test_real_configuration_is_judged_as_read(entry, tmp_path, capsys):
    strict = ["--strict-keys"] if entry["kind"] == "kwargs" else []
    code = main(["check", "--isolated", "-o", "json", *strict, str(write_entry(entry, tmp_path))])
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    found = {d["code"]: d["severity"] for d in report["diagnostics"] if d["severity"] != "info"}
    verdict = "error" if "error" in found.values() else "warning" if found else "valid"

    expected = {CODES[reason] for reason in entry["reasons"]}
    wanted, added, gone = OVERRULED.get(entry["name"], (entry["verdict"], set(), set()))
    assert set(found) == (expected | added) - gone, (
        f"if the rules are right, explain {entry['name']} in OVERRULED and in corpus/README.md"
    )
    assert verdict == wanted
    assert code == (1 if verdict == "error" else 0)


def test_overruled_verdicts_are_explained_in_the_readme():
    readme = (Path(__file__).parent / "corpus" / "README.md").read_text("utf-8")
    for name in OVERRULED:
        assert name in readme or f"`-{name.rpartition('-')[2]}`" in readme


def test_corpus_covers_every_kind_and_verdict():
    assert len(CORPUS) == 127
    assert {entry["kind"] for entry in CORPUS} == {
        "adapter", "experiment", "kwargs", "paper", "wrapped"
    }  # fmt: skip
    assert {entry["verdict"] for entry in CORPUS} == {"valid", "warning", "error"}


def test_real_saved_adapter_of_a_finished_run_has_no_finding_but_its_small_scale():
    report = check_config(json.dumps(unpacked(BY_NAME["adapter-03"]["content"])))
    assert [d.code for d in report.diagnostics if d.severity != "info"] == ["ADA413"]
    changes = {"rank_pattern": {"q_proj": 16}, "inference_mode": True}
    lora_form = unpacked(BY_NAME["adapter-03"]["content"]) | changes
    assert [d.code for d in check_config(lora_form).errors] == ["ADA304"]
