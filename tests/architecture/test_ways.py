"""The ways through the code of docs/architecture.md are those that data really takes."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
WAYS = {
    title: re.findall(r"`([\w/]+)`", re.sub(r"\([^)]*\)", "", line))
    for title, line in re.findall(
        r"^\*\*([^*\n]+)\.\*\* ([^\n]+(?:\n[^\n]+)*)",
        PAGE.partition("## Ways through the code")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
}
"""`{title: modules, in their order}`; what stands in brackets is another way."""

SETTINGS = {
    "total_step": 20, "tinit": 2, "tfinal": 4, "deltaT": 1, "init_r": 4, "target_r": 2,
    "orth_reg_weight": 0.0,
}  # fmt: skip
SCRIPT = """\
from peft import AdaLoraConfig, get_peft_model

model = get_peft_model(base, AdaLoraConfig(total_step=100, target_modules=["q"]))
for batch in loader:
    model(batch).loss.backward()
    optimizer.step()
"""


def entered(call: Callable[[], Any]) -> list[str]:
    """Return the modules whose functions a call runs, in the order of their first call."""
    found: dict[str, None] = {}

    def see(frame: FrameType, event: str, _: object) -> None:
        name = str(frame.f_globals.get("__name__", ""))
        # A module that is loaded on the way is not entered yet.
        if event == "call" and name.startswith("adalora_core.") and not _is_loading(frame):
            found.setdefault(name.removeprefix("adalora_core.").replace(".", "/"))

    threading.setprofile(see)
    sys.setprofile(see)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(found)


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and "adalora_core" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def base() -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))


def train(model: Any, allocate: Callable[[int], Any], steps: range) -> None:
    import torch

    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad])
    for step in steps:
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()
        allocate(step)
        optimizer.zero_grad()


def config_text(folder: Path) -> list[str]:
    from adalora_core.commands.cli import main

    path = folder / "a.json"
    path.write_text(json.dumps({"peft_type": "ADALORA", "total_step": 100, "tfinal": 200}))
    main(["check", "--isolated", str(path)])
    return entered(lambda: main(["check", "--isolated", str(path)]))


def script(folder: Path) -> list[str]:
    from adalora_core import check_config

    path = folder / "train.py"
    path.write_text(SCRIPT)
    return entered(lambda: check_config(path))


def edit(folder: Path) -> list[str]:
    pytest.importorskip("pygls")
    import asyncio

    from lsprotocol import types

    from adalora_core.commands.server.checking import check, published
    from adalora_core.commands.server.handlers import new_server

    server = new_server()
    asked = types.InitializeParams(types.ClientCapabilities())
    server.protocol._handle_request(0, types.INITIALIZE, asked)
    uri = (folder / "a.json").as_uri()
    opened = types.TextDocumentItem(uri, "json", 1, json.dumps({"peft_type": "ADALORA"}))
    changed = types.DidChangeTextDocumentParams(
        types.VersionedTextDocumentIdentifier(2, uri),
        [types.TextDocumentContentChangeWholeDocument(opened.text)],
    )
    server.documents.put_text_document(opened)

    async def type_once() -> None:
        server.protocol._handle_notification(types.TEXT_DOCUMENT_DID_CHANGE, changed)
        _, (shown,) = await server.checks.ask(uri, published)
        assert shown.diagnostics
        # The same once more in this process, where the modules are seen.
        snapshot = server.documents.snapshot(uri)
        assert snapshot is not None
        assert published(check(snapshot, ())) == (None, [shown])

    return entered(lambda: asyncio.run(type_once()))


def layer(_: Path) -> list[str]:
    from adalora_core import AdaLoraConfig, get_peft_model

    config = AdaLoraConfig(target_modules=["0"], **SETTINGS)
    return entered(lambda: get_peft_model(base(), config))


def adapted() -> Any:
    from adalora_core import AdaLoraConfig, get_peft_model

    return get_peft_model(base(), AdaLoraConfig(target_modules=["0"], **SETTINGS))


def mask(_: Path) -> list[str]:
    model = adapted()
    found: list[str] = []

    def allocate(step: int) -> None:
        found[:] = entered(lambda: model.update_and_allocate(step))

    train(model, allocate, range(1, 6))
    return found


def saved(folder: Path) -> list[str]:
    model = adapted()
    train(model, model.update_and_allocate, range(1, 6))
    return entered(lambda: model.save_pretrained(str(folder), save_training_state=True))


def resumed(folder: Path) -> list[str]:
    from adalora_core import AdaLoraModel

    saved(folder)
    return entered(lambda: AdaLoraModel.from_pretrained(base(), str(folder), is_trainable=True))


def with_peft(_: Path) -> list[str]:
    pytest.importorskip("peft")
    import adalora_core.peft
    from adalora_core.bridge import install, uninstall

    config = adalora_core.peft.AdaLoraConfig(target_modules=["0"], **SETTINGS)

    def run() -> None:
        model = adalora_core.peft.get_peft_model(base(), config)
        train(model, model.base_model.update_and_allocate, range(1, 4))

    install()
    try:
        return entered(run)
    finally:
        uninstall()


CALLS = {
    "A configuration text becomes a report": config_text,
    "A script becomes findings": script,
    "An edit becomes marks in an editor": edit,
    "A configuration becomes a layer": layer,
    "A gradient becomes a mask": mask,
    "A save": saved,
    "A resume": resumed,
    "A model of PEFT allocates": with_peft,
}


MOST = {"A gradient becomes a mask": 11, "A model of PEFT allocates": 18}
"""How many modules a way may enter, without those that many ways share."""
SHARED = ("config/", "floor/", "nn/", "ops/")

WITHOUT_TORCH = {
    "A configuration text becomes a report",
    "A script becomes findings",
    "An edit becomes marks in an editor",
}


@pytest.mark.parametrize("title", CALLS)
def test_modules_of_a_way_are_entered_in_the_order_of_the_page(title: str, tmp_path: Path) -> None:
    if title not in WITHOUT_TORCH:
        pytest.importorskip("torch")
    order = [each.removesuffix("/__init__") for each in CALLS[title](tmp_path)]
    way = WAYS[title]
    assert len(way) > 3
    assert len(set(way)) == len(way)
    missing = [each for each in way if each not in order]
    assert missing == [], order
    assert sorted(way, key=order.index) == way
    own = [each for each in order if not each.startswith(SHARED)]
    assert len(own) <= MOST.get(title, len(own)), own


def test_a_script_passes_few_modules_between_its_text_and_its_findings(tmp_path: Path) -> None:
    read = ("checker/documents/python/", "checker/rules", "checker/scripts/")
    found = [each for each in script(tmp_path) if each.startswith(read)]
    assert len(found) <= 20, found


def test_a_configuration_text_passes_few_modules_of_the_checker(tmp_path: Path) -> None:
    found = [each for each in config_text(tmp_path) if each.startswith("checker/")]
    assert len(found) <= 13, found
