"""The settings of a project, and what a search leaves out, are those of `adalora check`."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from language_server import LanguageServer
from served_documents import COMMAND, WRONG, json_text

from adalora_core.commands.cli import main


@pytest.fixture
def opened(root):
    """Open a file below the root in a server, and return the codes of its findings."""

    def open_file(server, name, values=WRONG):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_text(values))
        return [each["code"] for each in server.open(path, "json")]

    return open_file


@pytest.fixture
def settings(root, server):
    """Write pyproject.toml as an editor saves it."""
    path = root / "pyproject.toml"

    def save(text):
        path.write_text(text)
        name = {"uri": path.as_uri()}
        server.notify("textDocument/didSave", {"textDocument": name})

    yield save
    path.unlink()


def test_settings_of_the_project_apply_and_change(server, root, opened, settings):
    assert opened(server, "changing.json") == ["ADA302"]
    uri = (root / "changing.json").as_uri()
    number = len(server.published[uri])
    settings('[tool.adalora]\nignore = ["ADA302"]\n')
    assert server.diagnostics(uri, after=number) == []
    number = len(server.published[uri])
    settings('[tool.adalora]\nexclude = ["changing.json"]\n')
    server.diagnostics(uri, after=number)
    assert opened(server, "other.json") == ["ADA302"]


def test_changes_of_the_settings_are_watched(root, opened):
    watching = {"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}}
    with LanguageServer(COMMAND, root, capabilities=watching) as server:
        assert opened(server, "watched.json") == ["ADA302"]
        ((asked,),) = (each["registrations"] for each in server.registered)
        patterns = [each["globPattern"] for each in asked["registerOptions"]["watchers"]]
        assert patterns == ["**/pyproject.toml", "**/.gitignore"]
        settings = root / "pyproject.toml"
        settings.write_text('[tool.adalora]\nignore = ["ADA302"]\n')
        changed = {"changes": [{"uri": settings.as_uri(), "type": 1}]}
        server.notify(asked["method"], changed)
        assert server.diagnostics((root / "watched.json").as_uri(), after=1) == []
        settings.unlink()


def test_changed_settings_apply_to_the_next_edit_without_a_message(server, root, opened):
    assert opened(server, "next.json") == ["ADA302"]
    path = root / "pyproject.toml"
    path.write_text('[tool.adalora]\nignore = ["ADA302"]\n')
    server.change((root / "next.json").as_uri(), 2, {"text": json_text(WRONG)})
    assert server.diagnostics((root / "next.json").as_uri(), version=2) == []
    path.unlink()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.adalora]\nunknown = 1\n", "tool.adalora.unknown: unknown key"),
        ("[tool.adalora\n", "not valid TOML: expected ']'"),
        ('[tool.adalora]\npolicy = "missing.json"\n', "missing.json"),
        ('[tool.adalora]\nselect = ["XYZ"]\n', "there is no rule 'XYZ'"),
    ],
    ids=["unknown-key", "no-toml", "no-policy", "no-rule"],
)
def test_wrong_settings_are_shown_once_and_files_are_checked(server, opened, settings, text, told):
    settings(text)
    before = len(server.shown)
    assert opened(server, "one.json") == ["ADA302"]
    assert opened(server, "two.json") == ["ADA302"]
    (message,) = server.shown[before:]
    assert told in message
    assert "the settings of the project are not used" in message


def test_server_leaves_out_what_the_command_leaves_out(root, tmp_path, capsys, monkeypatch, opened):
    subprocess.run([shutil.which("git"), "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("ignored/\n*.local.json\n")
    (root / "pyproject.toml").write_text('[tool.adalora]\nexclude = ["out/*.json", "skip.json"]\n')
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json_text(WRONG))
    left_out = (
        "ignored/a.json", "b.local.json", "out/c.json", "sub/skip.json", ".hidden/d.json",
        "node_modules/x/e.json", "sub/f.txt",
    )  # fmt: skip
    checked = ("g.json", "sub/h.json", "sub/out.json")
    with LanguageServer(COMMAND, root) as server:
        for name in left_out:
            assert opened_or_silent(server, opened, name) == [], name
        for name in checked:
            assert opened(server, name) == ["ADA302"], name
        (root / "link.json").symlink_to(elsewhere)
        assert server.open(root / "link.json", "json") == []
        # A file outside of every open folder is checked by the settings beside it.
        assert server.open(elsewhere, "json") != []
    monkeypatch.chdir(root)
    main(["check", "-o", "concise", "."])
    printed = capsys.readouterr().out
    assert all(name in printed for name in checked)
    assert not any(name in printed for name in (*left_out, "link.json"))


def opened_or_silent(server, opened, name):
    """Open a file of which the server may take no notice at all."""
    if name.endswith(".txt"):
        server.notify(
            "textDocument/didOpen",
            {"textDocument": {"uri": f"file:///{name}", "languageId": "json", "version": 1,
                              "text": json_text(WRONG)}},
        )  # fmt: skip
        return server.published.get(f"file:///{name}", [])
    return opened(server, name)
