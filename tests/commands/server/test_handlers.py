"""`adalora server` starts, ends and fails as a command of a shell does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from language_server import LanguageServer
from served_documents import COMMAND, WRONG, json_text, opened_notebook, python_text, server_with

from adalora_core.floor.errors import MissingExtraError

WITHOUT_PYGLS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pygls":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "pygls" else found(name)
from adalora_core.commands.cli import main
sys.exit(main(["server"]))
"""

LOADED_BY_THE_WORKER = """
import sys
from adalora_core.floor.worker import Channel
send = Channel.send
def show(self, content):
    names = {name.partition(".")[0] for name in sys.modules}
    print("LOADED", *names, file=sys.stderr, flush=True)
    send(self, content)
Channel.send = show
"""


def test_missing_package_is_one_sentence_with_the_command_to_install_it():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYGLS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    expected = MissingExtraError("pygls", "lsp", "adalora server")
    assert done.stderr == f"adalora server: {expected}\n"
    assert "pip install '.[lsp]'" in done.stderr


def test_help_and_wrong_options():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "Language Server Protocol" in done.stdout
    done = subprocess.run([*COMMAND, "--port=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unrecognized arguments" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--stdio"], 1)])
def test_server_that_was_shut_down_ends_with_0_and_another_with_1(tmp_path, arguments, code):
    with LanguageServer([*COMMAND, *arguments], tmp_path) as server:
        if code == 0:
            assert server.request("shutdown", None) is None
        server.notify("exit", None)
        assert server.process.wait(timeout=300) == code


def test_server_whose_editor_is_gone_ends_with_1(tmp_path):
    with LanguageServer(COMMAND, tmp_path) as server:
        assert server.hang_up() == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a handler")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_server_that_waits_for_its_editor(tmp_path, number, code):
    with LanguageServer(COMMAND, tmp_path) as server:
        uri = (tmp_path / "a.json").as_uri()
        assert server.open_text(uri, "json", json_text(WRONG))
        server.process.send_signal(number)
        assert server.process.wait(timeout=300) == code


def test_whole_conversation_loads_no_torch(tmp_path):
    log = tmp_path / "log"
    with LanguageServer(server_with(LOADED_BY_THE_WORKER), tmp_path, log=log) as server:
        texts = {
            ".json": json_text(WRONG),
            ".yaml": "".join(f"{k}: {json.dumps(v)}\n" for k, v in WRONG.items()),
            ".toml": "".join(f"{k} = {json.dumps(v)}\n" for k, v in WRONG.items()),
            ".py": python_text(WRONG),
        }
        for suffix, text in texts.items():
            uri = (tmp_path / f"a{suffix}").as_uri()
            assert server.open_text(uri, "any", text)
            server.at("hover", uri, 1, 3)
            server.at("completion", uri, 1, 3)
            server.request("textDocument/codeLens", {"textDocument": {"uri": uri}})
        server.notify("notebookDocument/didOpen", opened_notebook("file:///a.ipynb"))
        server.request("shutdown", None)
        server.notify("exit", None)
        assert server.process.wait(timeout=300) == 0
    *_, line = [each for each in log.read_text().splitlines() if each.startswith("LOADED")]
    loaded = set(line.split())
    assert {"lsprotocol", "yaml", "tomllib"} <= loaded
    assert loaded.isdisjoint({"torch", "transformers", "peft", "numpy", "safetensors"})
