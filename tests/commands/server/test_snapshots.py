"""Positions of a client and offsets are turned into each other as the protocol counts them."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st
from lsprotocol.types import Position, Range

from adalora_core.commands.server.snapshots import Text, difference

ENCODINGS = st.sampled_from(("utf-8", "utf-16", "utf-32"))
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
TEXTS = st.text("ab é\U0001f600\ud800\u2028\x0b\x0c\x85\r\n", max_size=30)
POSITIONS = st.tuples(st.integers(0, 12), st.integers(0, 30))


def lines_of(text):
    """Return the lines of a text without their ends, by the words of the protocol."""
    return re.split(r"\r\n|\n|\r", text)


def reference_offset(text, position, encoding):
    """Return the offset of a position, one character after the other."""
    lines = lines_of(text)
    line, units = position
    if line >= len(lines):
        return len(text)
    start = 0
    for each in lines[:line]:
        start += len(each)
        start += 2 if text.startswith("\r\n", start) else 1
    codec, width = CODECS[encoding]
    for count, character in enumerate(lines[line]):
        units -= len(character.encode(codec, "surrogatepass")) // width
        if units < 0:
            return start + count
    return start + len(lines[line])


@given(encoding=ENCODINGS, text=TEXTS, position=POSITIONS)
def test_offset_of_a_position(encoding, text, position):
    expected = reference_offset(text, position, encoding)
    assert Text.of(text, encoding).offset(Position(*position)) == expected


@given(encoding=ENCODINGS, text=TEXTS, number=st.integers(0, 30))
def test_position_of_an_offset_leads_back(encoding, text, number):
    offset = min(number, len(text))
    inside = text[offset - 1 : offset + 1] == "\r\n" if offset else False
    whole = Text.of(text, encoding)
    assert whole.offset(whole.position(offset)) == offset - inside


@given(
    encoding=ENCODINGS,
    text=TEXTS,
    edits=st.lists(st.tuples(POSITIONS, POSITIONS, TEXTS), max_size=4),
)
@example("utf-16", "a\rxx\nb", [((1, 0), (1, 2), "")])  # joins the parts of a line end
def test_edited_text_is_that_of_the_protocol(encoding, text, edits):
    edited = Text.of(text, encoding)
    for one, other, new in edits:
        start, end = sorted(reference_offset(text, each, encoding) for each in (one, other))
        text = text[:start] + new + text[end:]
        edited = edited.edited(Range(Position(*one), Position(*other)), new)
        assert edited == Text.of(text, encoding)
        assert str(edited) == text


@given(TEXTS, TEXTS)
def test_difference_makes_one_text_of_the_other(old, new):
    start, end, replacement = difference(old, new)
    assert 0 <= start <= end <= len(old)
    assert old[:start] + replacement + old[end:] == new
    for at in (start, end):
        assert at == 0 or old[at - 1 : at + 1] != "\r\n"


def test_difference_leaves_out_what_is_equal():
    assert difference("init_r: 12.0\nx", "init_r: 12\nx") == (10, 12, "")
