"""Rule ADA010: the policy of an organisation, checked on top of the contract."""

from __future__ import annotations

from adalora_core.contract.rules.base import SOUND, Rule


class PolicyViolation(Rule):
    code = "ADA010"
    summary = "the configuration breaks the policy that --policy names"
    why = (
        "A policy is a JSON Schema of your own that a configuration must satisfy besides the "
        "contract: a largest rank, the allowed base models, a required revision. The policy sees "
        "only the keys that are written; defaults are not filled in. The title of the failing part "
        "begins the message, and its description becomes the hint."
    )
    bad = SOUND
    good = SOUND | {"init_r": 8, "target_r": 4}
    example_options = {
        "policy": {"properties": {"init_r": {"maximum": 8, "description": "ranks cost memory"}}}
    }
    hint = "ask the author of the policy"
    needs_option = "policy"
    needs = "source"
