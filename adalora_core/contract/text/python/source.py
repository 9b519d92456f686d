"""Decode Python source into a document, by its syntax tree alone."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING

from adalora_core.contract.text import problems
from adalora_core.contract.text.document import Document
from adalora_core.contract.text.problems import Problem
from adalora_core.contract.text.python.configurations import document_of
from adalora_core.contract.text.python.script import Script

if TYPE_CHECKING:
    from adalora_core.contract.text.limits import Limits


def decode(text: str, limits: Limits) -> Document:
    """Parse a script; each fault of the text becomes a problem of the document."""
    del limits
    tree = parse(text)
    if isinstance(tree, Problem):
        return Document(text, problems=[tree], fatal=True)
    return document_of(text, Script(text, tree), [])


def parse(code: str) -> ast.Module | Problem:
    """Return the syntax tree of code, or the reason why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code itself, such as "\d" in a string
            return ast.parse(code)
    except SyntaxError as error:
        message = f"the code is not valid Python: {error.msg}"
        return Problem(problems.SYNTAX_ERROR, message, offset=0)
    except (RecursionError, MemoryError):
        return Problem(problems.LIMIT_EXCEEDED, "the code is nested too deep", offset=0)
