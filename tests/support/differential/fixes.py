"""Apply the contract's fixes to a case, and see whether PEFT still fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from contract_fixes import fix

from differential import bases, peft_runs
from differential.cases import ABSENT, Case
from differential.judging import verdict


def faults_left(case: Case) -> Iterator[str]:
    """Yield a message for each kind of fix after which PEFT fails as before, or fails at all.

    Only what was fixed is taken as changed, so that no other fault is counted. A failure is no
    fault of the fix if the contract still reports an error.
    """
    for unsafe in (False, True):
        done = fix(case.text, "json", unsafe=unsafe)
        touched = {each.pointer.split("/")[1] for each in done.report.fixed if each.pointer}
        alone = replace(case, changes=tuple(c for c in case.changes if c[0] in touched))
        done = fix(alone.text, "json", unsafe=unsafe)
        if not done.report.fixed:
            continue
        fixed = with_values(case, json.loads(done.document.raw))
        after = peft_runs.run(fixed)
        if not after.fails:
            continue
        before = peft_runs.run(alone)
        if before.fails and verdict(fixed, "peft", with_model=False)[0]:
            continue
        codes = sorted({each.code for each in done.report.fixed})
        how = "unsafe" if unsafe else "safe"
        yield f"{how} {codes}: {alone.changes} -> {fixed.changes}: {before} -> {after}"


def with_values(case: Case, values: Mapping[str, Any]) -> Case:
    """Return a case with other values, as changes of the same sound configuration."""
    changes = [(name, value) for name, value in values.items() if case.sound.get(name) != value]
    changes += [(name, ABSENT) for name in case.sound if name not in values]
    return replace(case, changes=tuple(changes))


def for_some_base(values: Mapping[str, Any]) -> Case:
    """Return a case of a configuration whose model is not known: a base that has its targets."""
    # Their names are not that of the model for which the configuration was written.
    values = {name: value for name, value in values.items() if name != "base_model_name_or_path"}
    for base in bases.BASES:
        case = Case(base, "training", dict(values), ())
        if not verdict(case, "peft")[0]:
            return case
    targets = {"target_modules": list(bases.BASES["llama"].targets), "exclude_modules": None}
    return Case("llama", "training", {**values, **targets}, ())
