"""Turn the calls of `AdaLoraConfig` in code into the blocks that the rules read."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from adalora_core.contract.fields.table import fields_of
from adalora_core.contract.pipeline.tool_files import block_of
from adalora_core.contract.text.python.calls import CLASS
from adalora_core.contract.text.python.values import holds_unknown

if TYPE_CHECKING:
    from adalora_core.contract.fields.block import Block
    from adalora_core.contract.pipeline.options import CheckOptions
    from adalora_core.contract.text.document import Document


def calls(document: Document, options: CheckOptions) -> list[Block]:
    """Return a block for each call of the class in the code of a document."""
    found = []
    for index, call in enumerate(document.script.calls if document.script else ()):
        runtime = "adalora-core" if call.is_ours else options.runtime
        fields = fields_of(runtime).keys()
        absent = fields - call.values.keys() if call.is_open else ()
        deferred = fields & {*call.deferred, *absent}
        found.append(
            block_of(
                document,
                (CLASS, index),
                {
                    name: None if holds_unknown(value) else value
                    for name, value in call.values.items()
                    if name not in deferred
                },
                dataclasses.replace(options, runtime=runtime),
                layout="python",
                deferred=frozenset(deferred),
            )
        )
    return found
