"""Propose keys and values at a position.

A word is put at the position, and the readers of files show where it comes out: as a key or as a
value, and of which configuration. Text that is still incomplete is closed behind the word.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from adalora_core.checker.documents import decode
from adalora_core.checker.documents.problems import Problem
from adalora_core.checker.pipeline.discovery import find_blocks
from adalora_core.commands.server.checking import about
from adalora_core.config.editor_schema import CHOICES, OWN_CHOICES, is_proposed
from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.table import ADALORA_FIELDS, fields_of
from adalora_core.config.fields.tools import PREFIX

if TYPE_CHECKING:
    from adalora_core.checker.documents.document import Document, Format
    from adalora_core.checker.pipeline.inspection import Inspector
    from adalora_core.commands.server.snapshots import CheckedSnapshot, Snapshot
    from adalora_core.config.fields.block import Block
    from adalora_core.floor.places import Path

_WORD = "zz_completed_here"
"""A key that no tool has."""
SAVED = "adapter_config.json"
"""A file of this name is a configuration also where nothing in it shows that yet, as may be any
that holds no other key than the word."""

_CHARACTERS = f"{string.ascii_letters}{string.digits}_-"
_QUOTES = ('"', "'")
_ASSIGNS: dict[Format, str] = {
    "json": ": ", "yaml": ": ", "toml": " = ", "python": "=", "notebook": "=",
}  # fmt: skip
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_TOKEN = re.compile(r"""("(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|\#[^\n]*)|([\[\](){}])""")


def _closing(text: str) -> str:
    """Return the brackets that close those that a text leaves open."""
    open_ = []
    for match in _TOKEN.finditer(text):
        bracket = match[2]
        if bracket in _CLOSING:
            open_.append(_CLOSING[bracket])
        elif bracket and open_ and open_[-1] == bracket:
            open_.pop()
    return "".join(reversed(open_))


def completions(
    checked: CheckedSnapshot, params: types.CompletionParams
) -> list[types.CompletionItem]:
    """Return the keys or the values that fit at a position of a text."""
    snapshot, inspector = checked.snapshot, checked.inspector
    part = snapshot.part(params.text_document.uri)
    if inspector is None or part is None:
        return []
    text, language, offset = str(part), snapshot.format, part.offset(params.position)
    before, behind = text[:offset].rstrip(_CHARACTERS), text[offset:].lstrip(_CHARACTERS)
    quote = before[-1] if before.endswith(_QUOTES) else ""
    before, behind = before.removesuffix(quote), behind.removeprefix(quote)
    where = part.stretch(len(before), len(text) - len(behind)).range
    sign = _ASSIGNS[language].strip()
    is_value = before.rstrip(" \t").endswith(sign)
    has_value = behind.lstrip(" \t").startswith(sign)
    word = json.dumps(_WORD) if is_value or language == "json" else _WORD
    if not is_value and not has_value:
        word += f"{sign} 0"
    between = comma = ""
    if language in {"json", "python", "notebook"}:
        between = "" if is_value or before.rstrip()[-1:] in ",:=([{" else ", "
        comma = "" if behind.lstrip()[:1] in ",:=)]}" else ", "
    head = f"{before}{between}{word}"
    # Closed behind the word in flow style, or with an incomplete line below.
    for written in (f"{head}{comma}{behind}", f"{head}{_closing(before)}\n"):
        whole = snapshot.with_text(part, written)
        document = decode(whole.raw, language, inspector.check.limits)
        path = None if document.fatal else _path_of_word(document.value)
        if path is None:
            continue
        for block in _blocks(whole, document, inspector):
            if path == (*block.path, _WORD) and not block.is_other_method:
                return list(_keys(block, language, where, has_value=has_value))
            for name in block.values:
                # The word is in the place of the method, if it is the value of `peft_type`.
                is_ours = name == "peft_type" or not block.is_other_method
                if is_ours and name in block.fields and block.at(name) == path:
                    return list(_values(block, name, before, language, where, bool(quote)))
    return []


def _blocks(snapshot: Snapshot, document: Document, inspector: Inspector) -> tuple[Block, ...]:
    found = find_blocks(
        document, inspector.check, inspector.key, inspector.layout, is_optional=False
    )
    if not isinstance(found, Problem):
        return tuple(block for block in found if block.is_unambiguous)
    is_saved = snapshot.path is not None and snapshot.path.name == SAVED
    is_empty = isinstance(document.value, dict) and document.value.keys() == {_WORD}
    if document.script is not None or not (is_saved or is_empty):
        return ()
    whole = find_blocks(document, inspector.check, "", None, is_optional=False)
    return () if isinstance(whole, Problem) else whole


def _path_of_word(value: Any, path: Path = ()) -> Path | None:
    """Return the path of the word in a decoded document: of its key, or of its value."""
    if value == _WORD:
        return path
    if isinstance(value, dict) and _WORD in value:
        return (*path, _WORD)
    is_list = isinstance(value, list)
    entries = value.items() if isinstance(value, dict) else enumerate(value) if is_list else ()
    found = (_path_of_word(entry, (*path, key)) for key, entry in entries)
    return next((each for each in found if each is not None), None)


def _keys(
    block: Block, language: Format, where: types.Range, *, has_value: bool
) -> Iterator[types.CompletionItem]:
    written = {value: key for key, value in block.tool.keys.items()} if block.tool else {}
    # AdaLoRA's own fields first; before them the method, which a file cannot lack.
    first = {"peft_type"} if block.layout == "peft" else set()
    known = fields_of("peft", block.method)
    names = sorted(known, key=lambda name: (name not in first, name not in ADALORA_FIELDS))
    for number, field in enumerate(known[name] for name in names):
        if field.name in block.values or not is_proposed(field):
            continue
        name = written.get(field.name, field.name)
        if block.layout == "prefixed" and name == field.name:
            name = f"{PREFIX}{name}"
        key = json.dumps(name) if language == "json" else name
        text = key if has_value else key + _ASSIGNS[language]
        yield types.CompletionItem(
            name,
            kind=types.CompletionItemKind.Property,
            detail=f"{kinds.phrase_of(field.kinds)}; default {json.dumps(field.default)}",
            documentation=about(field),
            sort_text=f"{number:02}",
            filter_text=key,
            text_edit=types.TextEdit(where, text),
        )


def _values(
    block: Block, name: str, before: str, language: Format, where: types.Range, is_quoted: bool
) -> Iterator[types.CompletionItem]:
    field, is_code = block.fields[name], language in {"python", "notebook"}
    own = OWN_CHOICES.get(name, {}) if block.runtime == "adalora-core" else {}
    # In YAML without quotes, as people write it.
    found = {
        choice if language == "yaml" else json.dumps(choice): meaning
        for choice, meaning in (
            dict.fromkeys(field.choices or ()) | CHOICES.get(name, {}) | own
        ).items()
    }
    if kinds.BOOLEAN in field.kinds:
        found |= dict.fromkeys(("True", "False") if is_code else ("true", "false"))
    if kinds.NULL in field.kinds and language != "toml":
        found["None" if is_code else "null"] = None
    blank = "" if is_code or before.endswith((" ", "\t")) else " "
    for number, (text, meaning) in enumerate(found.items()):
        yield types.CompletionItem(
            text.strip('"'),
            kind=types.CompletionItemKind.EnumMember,
            detail=meaning,
            sort_text=f"{number:02}",
            filter_text=blank + text if is_quoted else text.strip('"'),
            text_edit=types.TextEdit(where, blank + text),
        )
