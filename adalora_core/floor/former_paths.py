"""Name the modules that had another path in earlier releases; code that imports it works on."""

from __future__ import annotations

_FORMER = {
    "budget": "floor.budget",
    "cli": "commands.cli",
    "contract": "checker",
    "contract.fields": "config.fields",
    "contract.findings": "config.findings",
    "contract.model": "config.model",
    "contract.rules": "config.rules",
    "contract.schemas": "config.schemas",
    "contract.text": "checker.documents",
    "contract.text.limits": "floor.limits",
    "contract.text.places": "floor.places",
    "errors": "floor.errors",
    "files": "floor.files",
    "integrations": "trainers",
    "integrations.peft": "bridge",
    "rank_report": "commands.rank_report",
    "server": "commands.server",
}
"""The longest name in front of a path decides. All are below `adalora_core`."""

_PACKAGE = "adalora_core."


def present_path(name: str) -> str | None:
    """Return where a module is that had another path once; None: the path is today's.

    Example:
        >>> present_path("adalora_core.integrations.peft.bridge")
        'adalora_core.bridge.bridge'
    """
    if not name.startswith(_PACKAGE):
        return None
    steps = name.removeprefix(_PACKAGE).split(".")
    for end in range(len(steps), 0, -1):
        former = ".".join(steps[:end])
        if former in _FORMER:
            return _PACKAGE + ".".join([_FORMER[former], *steps[end:]])
    return None
