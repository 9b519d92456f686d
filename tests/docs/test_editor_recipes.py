"""The recipes for editors: a faulty file is opened in the editor, and what it shows is read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import pytest
from served_documents import WRONG, json_text, line_of

from adalora_core.commands.server.checking import FIX_ALL

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "editors.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
TEXT = json_text(WRONG)
LINE = line_of(TEXT, "init_r")
LONGEST_WAIT = 60


def blocks(section, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with a faulty file, where the command is in the PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    command = programs / "adalora"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m adalora_core "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "run.json").write_text(TEXT)
    return tmp_path


ASK = f"""
vim.wait({LONGEST_WAIT}000, function() return #vim.diagnostic.get(0) > 0 end)
local out = {{ codes = vim.tbl_map(function(d) return d.code end, vim.diagnostic.get(0)) }}
local client = vim.lsp.get_clients()[1]
local place = {{
  textDocument = vim.lsp.util.make_text_document_params(0),
  position = {{ line = {LINE}, character = 5 }},
}}
local found = vim.lsp.buf_request_sync(0, 'textDocument/hover', place, {LONGEST_WAIT}000)
out.hover = found[client.id].result.contents.value
vim.api.nvim_win_set_cursor(0, {{ {LINE + 1}, 0 }})
local context = {{ only = {{ 'quickfix' }}, diagnostics = {{}} }}
vim.lsp.buf.code_action({{ apply = true, context = context }})
vim.wait({LONGEST_WAIT}000, function() return #vim.diagnostic.get(0) == 0 end)
out.text = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), '\\n')
io.stdout:write(vim.json.encode(out))
vim.cmd('qall!')
"""


def neovim():
    """Return Neovim and the recipe for its version, or skip the test."""
    newer, older = blocks("Neovim", "lua")
    program = shutil.which("nvim")
    if program is not None:
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"NVIM v(\d+)\.(\d+)", shown.stdout)
        version = (int(found[1]), int(found[2])) if found else (0, 0)
        if version >= (0, 10):
            return program, newer if version >= (0, 11) else older
    return pytest.skip(
        "no Neovim 0.10 here; would have shown that its recipe marks, explains and fixes a fault"
    )


@pytest.mark.slow
def test_neovim_marks_explains_and_fixes_a_fault(project):
    program, recipe = neovim()
    (project / "init.lua").write_text(recipe)
    (project / "ask.lua").write_text(ASK)
    done = subprocess.run(
        [program, "--headless", "--clean", "-u", "init.lua", "run.json", "-c", "luafile ask.lua"],
        cwd=project, capture_output=True, text=True, timeout=LONGEST_WAIT * 4, check=False,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    assert seen["codes"] == ["ADA302"]
    assert "Rank of every matrix at the start." in seen["hover"]
    assert json.loads(seen["text"])["init_r"] == 12


def helix():
    """Return Helix, whose program has two names, or skip the test."""
    program = shutil.which("hx") or shutil.which("helix")
    return program or pytest.skip("no Helix here; would have shown that its recipe marks a fault")


@pytest.mark.slow
def test_helix_marks_a_fault(project):
    program = helix()
    (recipe,) = blocks("Helix", "toml")
    (project / "config" / "helix").mkdir(parents=True)
    (project / "config" / "helix" / "languages.toml").write_text(recipe)
    for language in ("json", "yaml", "toml", "python"):
        done = subprocess.run(
            [program, "--health", language], capture_output=True, text=True, check=True
        )
        assert str(project / "programs" / "adalora") in done.stdout, language
    shown = screen([program, f"run.json:{LINE + 1}:13"], project, b"PEFT crashes at the first")
    assert b"PEFT crashes at the first" in shown


def screen(command, folder, wanted):
    """Run a program in a terminal until it shows some text, and return all that it printed."""
    terminal, inner = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        env=os.environ | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(inner)
    shown = b""
    with contextlib.suppress(OSError):  # it has ended
        while wanted not in shown and select.select([terminal], [], [], LONGEST_WAIT)[0]:
            shown += os.read(terminal, 1 << 16)
        os.write(terminal, b":q!\r")
        while select.select([terminal], [], [], LONGEST_WAIT)[0] and os.read(terminal, 1 << 16):
            pass
    os.close(terminal)
    process.wait(LONGEST_WAIT)
    return shown


def test_extras_are_installed_from_where_the_package_is(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "tools")
    from install_forms import SOURCE

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    command = re.compile(r"pip install [^\n`]*?([\w.-]+)\[(\w+)\]")
    for path in (PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")):
        text, builds = path.read_text("utf-8"), path.name == "build.md"
        assert SOURCE == "." or builds or not re.search(r"pip install \.[`\s]", text), path
        for source, extra in command.findall(text):
            of_a_clone = builds or extra in {"dev", "docs", "test"}
            assert source == ("." if of_a_clone else SOURCE), path
            assert extra in project["optional-dependencies"], path
    build = (PROJECT / "docs" / "build.md").read_text("utf-8")
    assert {"lsp"} <= set(re.findall(r'pip install "\.\[(\w+)\]"', build))


def test_recipes_that_are_not_run_can_be_read():
    (settings,) = blocks("VS Code", "json")
    settings = json.loads(settings)
    assert settings["glspc.server.command"] == "adalora"
    assert settings["glspc.server.commandArguments"] == ["server"]
    assert f'"{FIX_ALL}"' in SECTIONS["VS Code"]
    extension, cargo = map(tomllib.loads, blocks("Zed", "toml"))
    assert extension["language_servers"]["adalora"]["languages"]
    assert cargo["lib"]["crate-type"] == ["cdylib"]
