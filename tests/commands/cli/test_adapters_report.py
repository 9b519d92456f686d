"""Test `adalora report` and `adalora export-lora` on saved adapters."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = {
    "peft_type": "ADALORA",
    "init_r": 4,
    "target_r": 2,
    "tinit": 10,
    "tfinal": 40,
    "total_step": 100,
    "target_modules": ["q", "v"],
    "rank_pattern": {
        "layers.0.q.lora_E": [True, True, True, True],
        "layers.0.v.lora_E": [False, False, False, False],
    },
}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.mark.parametrize("command", ["report", "export-lora"])
def test_report_on_a_bad_configuration_has_its_lines(
    command: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps(CONFIG | {"init_r": "a\nb"}))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    if command == "export-lora":
        pytest.importorskip("torch", reason="would have shown the report of a command with torch")
    arguments = [str(adapter)] if command == "report" else [str(adapter), str(adapter / "out")]
    assert main([command, *arguments]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first == f"adalora {command}: the configuration has errors"
    assert any(line.lstrip().startswith("hint: ") for line in others)


class TestReport:
    def test_writes_the_map_and_the_table(
        self, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("matplotlib", reason="would have shown that the heat map is drawn")
        assert main(["report", str(adapter), "--output", str(tmp_path / "out")]) == 0
        assert "rank_report.md" in capsys.readouterr().out
        text = (tmp_path / "out" / "rank_report.md").read_text()
        assert "| kept | 4 | 2.00 |" in text
        assert "| `layers.0.q` | 4 |" in text
        assert "1 of 2 matrices are left without any triplet" in text
        assert "budgeting to step 59 with 49 allocations" in text
        assert (tmp_path / "out" / "rank_heatmap.png").read_bytes().startswith(b"\x89PNG")

    def test_table_is_printed_and_nothing_is_written(
        self, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["report", str(adapter)]) == 0
        assert "| `layers.0.q` | 4 |\n" in capsys.readouterr().out
        assert [each.name for each in adapter.iterdir()] == ["adapter_config.json"]

    def test_table_is_written_without_matplotlib_which_is_named(
        self, adapter: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert main(["report", str(adapter), "--output", str(adapter)]) == 0
        shown = capsys.readouterr()
        assert shown.out == f"wrote {adapter / 'rank_report.md'}\n"
        assert "rank_heatmap.png" in shown.err
        assert "pip install '.[plot]'" in shown.err
        text = (adapter / "rank_report.md").read_text()
        assert "| `layers.0.q` | 4 |" in text
        assert "rank_heatmap.png" not in text
        assert not (adapter / "rank_heatmap.png").exists()

    def test_report_shows_that_the_budget_was_not_reached(
        self, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (adapter / "adapter_config.json").write_text(json.dumps({**CONFIG, "target_r": 1}))
        assert main(["report", str(adapter)]) == 0
        text = capsys.readouterr().out
        assert "(an unfinished run, 4 of 8 triplets, target 2)" in text

    def test_an_adapter_that_was_never_allocated_is_refused(
        self, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = adapter / "adapter_config.json"
        path.write_text(json.dumps({**CONFIG, "rank_pattern": None}))
        assert main(["report", str(adapter)]) == 2
        assert "update_and_allocate" in capsys.readouterr().err
        assert [each.name for each in adapter.iterdir()] == ["adapter_config.json"]

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("json", '"layers.0.v": 0'),
            ("peft", '"target_modules": [\n    "layers.0.q"\n  ]'),
            ("axolotl", "lora_rank_pattern:\n  ^layers\\.0\\.q: 4\n"),
        ],
    )
    def test_the_ranks_are_printed_for_plain_lora_and_nothing_is_written(
        self, form: str, expected: str, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["report", str(adapter), "--rank-pattern", form]) == 0
        printed = capsys.readouterr()
        assert expected in printed.out
        assert printed.err == ""
        assert [each.name for each in adapter.iterdir()] == ["adapter_config.json"]

    def test_what_is_known_is_printed_for_programs(
        self, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["report", str(adapter), "-o", "json"]) == 0
        found = [{"module": "layers.0.q", "rank": 4}, {"module": "layers.0.v", "rank": 0}]
        expected = {"version": 1, "adapter": str(adapter), "modules": found}
        assert json.loads(capsys.readouterr().out) == expected
        assert [each.name for each in adapter.iterdir()] == ["adapter_config.json"]

    def test_ranks_of_an_unfinished_run_are_said_to_be_so(
        self, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (adapter / "adapter_config.json").write_text(json.dumps({**CONFIG, "target_r": 1}))
        assert main(["report", str(adapter), "--rank-pattern", "json"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out) == {"layers.0.q": 4, "layers.0.v": 0}
        assert "not final: an unfinished run, 4 of 8 triplets" in printed.err

    def test_printed_ranks_have_no_folder(
        self, adapter: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["report", str(adapter), "--rank-pattern", "json", "--output", "out"]
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "--output" in capsys.readouterr().err

    def test_a_missing_folder_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", "nowhere"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "'nowhere' holds no adapter_config.json; name the folder" in line

    def test_it_loads_no_torch(self, adapter: Path) -> None:
        pytest.importorskip("matplotlib", reason="would have shown that a report loads no torch")
        script = (
            "import sys; from adalora_core.commands.cli import main; "
            f"assert main(['report', {str(adapter)!r}, '--output', {str(adapter)!r}]) == 0; "
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", script], check=True)


class TestExportLora:
    def test_a_saved_adapter_becomes_lora(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        torch = pytest.importorskip("torch", reason="would have shown that an export is written")
        from adalora_core import AdaLoraConfig, get_peft_model

        base = torch.nn.Sequential(torch.nn.Linear(4, 4))
        config = AdaLoraConfig(
            init_r=4, target_r=2, tinit=10, tfinal=40, total_step=100, target_modules=["0"]
        )
        get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
        assert main(["export-lora", str(tmp_path / "adapter"), str(tmp_path / "lora")]) == 0
        written = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
        assert written["peft_type"] == "LORA"
        assert written["rank_pattern"] == {"^0": 4}
        assert str(tmp_path / "lora") in capsys.readouterr().out
        before = (tmp_path / "lora" / "adapter_config.json").stat().st_mtime_ns
        again = ["export-lora", str(tmp_path / "adapter"), str(tmp_path / "lora")]
        assert main(again) == 2
        assert "replace that one with --overwrite" in capsys.readouterr().err
        assert (tmp_path / "lora" / "adapter_config.json").stat().st_mtime_ns == before
        assert main([*again, "--overwrite"]) == 0

    def test_a_folder_without_weights_is_one_line(
        self, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("torch", reason="would have shown the message about missing weights")
        assert main(["export-lora", str(adapter), str(tmp_path / "lora")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("adalora export-lora: from_pretrained: ")
        assert len(error.splitlines()) == 1
        assert not (tmp_path / "lora").exists()
