"""Run `adalora check` in a test, in an empty folder."""

from __future__ import annotations

import json

import pytest

from adalora_core.commands.cli import main


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path_factory, monkeypatch):
    """Run every test in a folder without a pyproject.toml above it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def check(capsys):
    """Run `adalora check` and return exit code, standard output and standard error."""

    def run(*arguments):
        try:
            code = main(["check", *map(str, arguments)])
        except SystemExit as exit_:
            code = exit_.code
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


@pytest.fixture
def write(tmp_path):
    """Write a configuration, or a text, to a file and return its path."""

    def to_file(content, name="adapter_config.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file
