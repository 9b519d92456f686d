"""Rule ADA010: the policy of an organisation, checked on top of the contract."""

from __future__ import annotations

from adalora_core.contract.rules.base import SOUND, Rule


class PolicyViolation(Rule):
    code = "ADA010"
    name = "policy-violation"
    severity = "error"
    summary = "the configuration breaks the policy that was given with --policy"
    why = (
        "A policy is a JSON Schema of your own that must hold besides the contract: a largest "
        "rank, the base models that may be used, a required revision. It judges what the "
        "configuration says; defaults are not filled in. The title of the part that refuses "
        "begins the message, its description becomes the hint."
    )
    bad = SOUND
    good = SOUND | {"init_r": 8, "target_r": 4}
    example_options = {
        "policy": {"properties": {"init_r": {"maximum": 8, "description": "ranks cost memory"}}}
    }
    hint = "ask whoever wrote the policy"
    asked_for_by = "policy"
    needs = "source"


POLICY = PolicyViolation()
RULES = (POLICY,)
