"""Family ADA0xx: what is wrong with the text itself; raised by the sources, not by the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from adalora_core.contract.rule import Finding, Rule

if TYPE_CHECKING:
    import json

    from adalora_core.contract.shapes import Path

_GOOD = (
    '{"peft_type": "ADALORA", "target_modules": ["q_proj"], "init_r": 12, "target_r": 8,\n'
    ' "tfinal": 200, "total_step": 1000}\n'
)


class SourceRule(Rule):
    """A rule whose findings come from the reader of the text."""

    needs = "source"


class SyntaxFault(SourceRule):
    code = "ADA001"
    name = "syntax-error"
    severity = "error"
    summary = "the text is not valid JSON, YAML or TOML"
    why = "Nothing can be said about a document that cannot be read; PEFT raises at load."
    bad = _GOOD.replace("1000}", "1000,}")
    good = _GOOD
    hint = "correct the text at the position that the message names"
    can_be_ignored = False


class DuplicateKey(SourceRule):
    code = "ADA002"
    name = "duplicate-key"
    severity = "error"
    summary = "an object has the same key twice"
    why = (
        "The last one wins without a word, in Python's json and in PyYAML, so which value trains "
        "depends on the order of the lines. TOML refuses such a file."
    )
    bad = _GOOD.replace('"init_r": 12', '"init_r": 12, "init_r": 16')
    good = _GOOD
    hint = "remove one of the two"


class BadEncoding(SourceRule):
    code = "ADA004"
    name = "bad-encoding"
    severity = "error"
    summary = "the file is not UTF-8 text, or a string holds characters that are no text"
    why = (
        "PEFT opens the file as text in the machine's encoding. UTF-16, Latin-1 bytes, NUL and "
        "lone surrogates read differently, or not at all, on the next machine."
    )
    bad = _GOOD.replace("q_proj", "q_proj\\ud800")
    good = _GOOD
    hint = "save the file as UTF-8, without a byte order mark"


class LimitExceeded(SourceRule):
    code = "ADA005"
    name = "limit-exceeded"
    severity = "error"
    summary = "the document is larger, deeper or longer than the limits allow"
    why = (
        "A configuration has a hundred values, not a million. The limits keep a broken or hostile "
        "file from hanging a pipeline; `adalora check --limit NAME=NUMBER` raises them."
    )
    bad = "[" * 100 + "]" * 100
    good = _GOOD
    hint = "check that this is the file that was meant, or raise the limit with --limit"
    can_be_ignored = False


class NoBlock(SourceRule):
    code = "ADA006"
    name = "no-adalora-block"
    severity = "error"
    summary = "a named file, or the place that --key names, holds no AdaLoRA configuration"
    why = (
        "A check that finds nothing to check must not pass: a renamed key would switch it off for "
        "ever. --ignore-unmatched lets files without a block pass, for hooks."
    )
    bad = '{"model": {"name": "opt"}}\n'
    good = _GOOD
    example_options = {"key": "/peft"}
    hint = 'the block is the mapping with "peft_type": "ADALORA"; point at it with --key /section'
    can_be_ignored = False


class NotAMapping(SourceRule):
    code = "ADA007"
    name = "not-a-mapping"
    severity = "error"
    summary = "the configuration is a list, a string or a number, not an object"
    why = "PEFT reads a configuration as keyword arguments of a class: it must have keys."
    bad = '["ADALORA"]\n'
    good = _GOOD
    hint = 'write an object: {"peft_type": "ADALORA", ...}'
    can_be_ignored = False


class ManyDocuments(SourceRule):
    code = "ADA008"
    name = "many-documents"
    severity = "error"
    summary = "a YAML stream holds more than one document"
    why = "Trainers read one document: yaml.safe_load raises for a second one."
    bad = "peft_type: ADALORA\n---\npeft_type: ADALORA\n"
    good = (
        "peft_type: ADALORA\ntarget_modules: [q_proj]\ninit_r: 12\ntarget_r: 8\n"
        "tfinal: 200\ntotal_step: 1000\n"
    )
    language = "yaml"
    hint = "split the file"
    can_be_ignored = False


class EmptyInput(SourceRule):
    code = "ADA009"
    name = "empty-input"
    severity = "error"
    summary = "the document is empty"
    why = "An empty file is what an interrupted write leaves; PEFT cannot load it."
    bad = "\n"
    good = _GOOD
    hint = "write the configuration again"
    can_be_ignored = False


SYNTAX_ERROR = SyntaxFault()
DUPLICATE_KEY = DuplicateKey()
BAD_ENCODING = BadEncoding()
LIMIT_EXCEEDED = LimitExceeded()
NO_BLOCK = NoBlock()
NOT_A_MAPPING = NotAMapping()
MANY_DOCUMENTS = ManyDocuments()
EMPTY_INPUT = EmptyInput()

RULES = (
    SYNTAX_ERROR,
    DUPLICATE_KEY,
    BAD_ENCODING,
    LIMIT_EXCEEDED,
    NO_BLOCK,
    NOT_A_MAPPING,
    MANY_DOCUMENTS,
    EMPTY_INPUT,
)


MOST_RELATED = 8
"""Places of one repeated key that are named besides the last."""


def duplicate_key(path: Path, key: str, extents: list[tuple[int, int]]) -> Finding:
    """Return the finding on a key that stands at all of `extents`."""
    return Finding(
        DUPLICATE_KEY,
        (*path, key),
        f"the key {key!r} stands {len(extents)} times in one object; the last one wins",
        "key",
        related_offsets=tuple((extent, "also here") for extent in extents[:-1][:MOST_RELATED]),
    )


def impossible_characters(value: Any) -> list[Finding]:
    """Return a finding for each string, key or value, that no UTF-8 file could hold."""
    found = []
    stack: list[tuple[Path, Any]] = [((), value)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            stack += [((*path, key), entry) for key, entry in node.items()]
            found += [_impossible((*path, key), key, "key") for key in node if _is_impossible(key)]
        elif isinstance(node, list):
            stack += [((*path, index), entry) for index, entry in enumerate(node)]
        elif _is_impossible(node):
            found.append(_impossible(path, node, "value"))
    return found


def _is_impossible(value: Any) -> bool:
    return isinstance(value, str) and any(
        character == "\0" or "\ud800" <= character <= "\udfff" for character in value
    )


def _impossible(path: Path, value: str, at: Literal["key", "value"]) -> Finding:
    return Finding(
        BAD_ENCODING, path, f"a string holds NUL or half of a surrogate pair: {value!r}", at
    )


def _trailing_comma(error: json.JSONDecodeError) -> int | None:
    """Return the position of a comma before a closing bracket, if that is what is wrong."""
    if error.msg.startswith("Illegal trailing comma"):  # since Python 3.13, at the comma
        return error.pos
    before = error.doc[: error.pos].rstrip()
    closes = error.doc.startswith(("]", "}"), error.pos)
    return len(before) - 1 if closes and before.endswith(",") else None


def explain_json_error(error: json.JSONDecodeError) -> tuple[int, str, str | None]:
    """Return position, message and hint of a decoding error, in words that say what to do."""
    text, at = error.doc, error.pos
    message = f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
    comma = _trailing_comma(error)
    if comma is not None:
        return comma, "not valid JSON: a comma before the closing bracket", "remove it"
    if text.startswith(("/", "#"), at):
        return at, "not valid JSON: JSON has no comments", "remove the comment, or use YAML"
    if text.startswith("'", at):
        return at, message, "JSON strings stand in double quotes"
    for word, json_word in (("True", "true"), ("False", "false"), ("None", "null")):
        if text.startswith(word, at):
            return at, f"not valid JSON: {word} is Python", f"write {json_word}"
    if error.msg.startswith("Extra data"):
        return at, "not valid JSON: there is text behind the document", "remove it"
    if not text[at:].strip():
        return at, "not valid JSON: the text ends too early", "is the file cut off?"
    return at, message, None
