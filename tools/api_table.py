"""Make the table of docs/api.md: what a model of our own API has, from its class."""

from __future__ import annotations

import inspect

from adalora_core import AdaLoraModel
from adalora_core.training.host import Host
from adalora_core.training.run.reporting import OF_PEFT


def table() -> str:
    """Return the methods of a model with the first sentence of each, and the refused names."""
    lines = ["| of a model | what it does |", "|---|---|"]
    members = vars(AdaLoraModel) | vars(Host)
    del members["trained_adapters"]  # ours, which docs/api.md leaves out
    for name, member in members.items():
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
            doc = inspect.getdoc(getattr(AdaLoraModel, name)) or ""
            first_line = doc.partition("\n")[0].replace("|", "\\|")
            lines.append(f"| `{name}` | {first_line} |")
    refused = ", ".join(f"`{name}`" for name in sorted(OF_PEFT))
    return "\n".join(
        [*lines, "", f"Refused, since models of `adalora_core.peft` have them: {refused}."]
    )
