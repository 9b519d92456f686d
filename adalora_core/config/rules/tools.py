"""Family ADA2xx: tools that read a configuration and train otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.config.rules.base import Findings, Rule

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block


class ToolTrainsOtherwise(Rule):
    code = "ADA211"
    severity = "warning"
    summary = "the tool that reads the file does not allocate as the settings ask"
    why = """Some tools accept AdaLoRA's settings and then train another method: the ranks are never
    allocated, or by scores of the wrong moment. Nothing in their output shows it. A tool that has
    no AdaLoRA and refuses the file is an error, and nothing else is reported. The releases that
    were read are part of the message."""
    bad = """\
model: Qwen/Qwen2.5-7B-Instruct
tuner_type: adalora
adalora_init_r: 12
adalora_target_r: 8
target_modules: [q_proj, v_proj]
"""
    good = """\
peft_type: ADALORA
target_modules: [q_proj, v_proj]
init_r: 12
target_r: 8
lora_alpha: 16
tinit: 200
tfinal: 200
total_step: 1000
"""
    language = "yaml"
    hint = "allocate by a callback of your own, or use a tool that allocates"
    needs = "tool"

    def check(self, block: Block) -> Findings:
        tool = block.tool
        if tool is None:
            return
        if tool.remark is not None:
            yield self.found(
                block.path if block.marker is None else block.marker,
                f"{tool.name} {tool.remark}",
                "key",
                severity="error" if block.is_refused else None,
                hint=tool.advice,
            )
        top = block.root if isinstance(block.root, dict) else {}
        for key, advice in tool.refused_keys.items():
            if top.get(key) not in (None, False, [], {}, ""):
                message = f"{tool.name} stops at `{key}` beside AdaLoRA"
                yield self.found((key,), message, "key", severity="error", hint=advice)
