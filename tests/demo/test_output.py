"""The output folder gets complete results or none, and keeps the user's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from adalora_core.demo.output import ADAPTER, HEAT_MAP, REPORT, publish, staging_folder


def write_results(folder: Path, text: str) -> None:
    (folder / ADAPTER).mkdir()
    (folder / ADAPTER / "adapter_config.json").write_text(text)
    (folder / HEAT_MAP).write_text(text)
    (folder / REPORT).write_text(text)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(folder: Path, text: str) -> None:
    with staging_folder(folder) as staging:
        write_results(staging, text)
        publish(staging, folder)


def test_publish_into_a_new_folder_leaves_only_the_results(tmp_path):
    run(tmp_path / "out", "first")
    assert set(tree(tmp_path / "out")) == {f"{ADAPTER}/adapter_config.json", HEAT_MAP, REPORT}


def test_publish_replaces_an_earlier_run_and_keeps_other_files(tmp_path):
    run(tmp_path, "first")
    (tmp_path / ADAPTER / "stale.txt").write_text("of the first run")
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, "second")
    assert tree(tmp_path) == {
        f"{ADAPTER}/adapter_config.json": "second",
        HEAT_MAP: "second",
        REPORT: "second",
        "notes.txt": "mine",
    }


def fail_while_staging(folder: Path, error: BaseException) -> None:
    with staging_folder(folder) as staging:
        write_results(staging, "unfinished")
        raise error


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_staging_folder_that_fails_removes_what_it_made(tmp_path, error):
    with pytest.raises(type(error)):
        fail_while_staging(tmp_path / "out", error)
    assert list(tmp_path.iterdir()) == []


def test_staging_folder_that_fails_keeps_an_earlier_run(tmp_path):
    run(tmp_path, "first")
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fail_while_staging(tmp_path, KeyboardInterrupt())
    assert tree(tmp_path) == before


@pytest.mark.parametrize("failing_rename", range(1, 7))
def test_publish_that_fails_at_any_rename_puts_the_earlier_run_back(
    tmp_path, monkeypatch, failing_rename
):
    run(tmp_path, "first")
    before = tree(tmp_path)
    original = Path.replace
    count = 0

    def replace(self, target):
        nonlocal count
        count += 1
        if count == failing_rename:
            raise OSError(5, "Input/output error")
        return original(self, target)

    with staging_folder(tmp_path) as staging:
        write_results(staging, "second")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with pytest.raises(OSError, match="Input/output error"):
                publish(staging, tmp_path)
    assert tree(tmp_path) == before


def test_staging_folder_at_a_file_is_an_error(tmp_path):
    target = tmp_path / "out"
    target.write_text("a file")
    with pytest.raises(NotADirectoryError, match="give another --output"), staging_folder(target):
        pass
    assert target.read_text() == "a file"
