"""Compare the contract with what PEFT and this package really do with drawn configurations.

    python tools/differential.py --count 300                      # against PEFT
    python tools/differential.py --runtime adalora-core --seed 7  # against this package
    python tools/differential.py --minimise --output found.jsonl  # as small as they get, as lines

A disagreement is an error of the contract on a configuration that runs, or a run that fails without
an error of the contract. Those that stay are listed in tests/differential/disagreements.json.
Exit code: 0 if only listed ones were found, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Sequence

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from differential import drawing, listed
from differential.cases import ABSENT, minimised
from differential.judging import RUNNERS, Judgement, judge


def main(arguments: Sequence[str]) -> int:
    """Draw, run and judge; print what disagrees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=sorted(RUNNERS), default="peft")
    parser.add_argument("--count", type=int, default=100, help="configurations to draw")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--minimise", action="store_true", help="also look for smaller cases")
    parser.add_argument("--output", type=Path, help="append one line of JSON per disagreement")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    cases = drawing.draws(options.seed, options.count)
    for seed, case in enumerate(tqdm(cases, total=options.count, unit="case"), options.seed):
        found = judge(case, options.runtime)
        if found.disagreement is None:
            continue
        entry = listed.entry_of(found)
        counts[found.disagreement if entry is None else f"listed: {entry['name']}"] += 1
        if entry is not None:
            continue
        if options.minimise:
            found = _smaller(found)
        line = _as_line(seed, found)
        tqdm.write(line)
        if options.output:
            with options.output.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    for kind, count in counts.most_common():
        print(f"{count:5} {kind}")
    return int(any(not kind.startswith("listed") for kind in counts))


def _smaller(found: Judgement) -> Judgement:
    """Return the disagreement of a smaller case that is wrong in the same way."""
    kept = found

    def disagrees(case: Any) -> bool:
        nonlocal kept
        other = judge(case, found.runtime)
        same = other.disagreement == found.disagreement and _signs(other) == _signs(found)
        if same:
            kept = other
        return same

    minimised(found.case, disagrees)
    return kept


def _signs(found: Judgement) -> tuple[str, set[str]]:
    codes = {each.partition(" ")[0] for each in found.errors}
    return found.outcome.problem.partition(":")[0][:40], codes


def _as_line(seed: int, found: Judgement) -> str:
    case = found.case
    changes = {name: "(absent)" if value is ABSENT else value for name, value in case.changes}
    values: dict[str, Any] = {
        "seed": seed, "kind": found.disagreement, "base": case.base, "file": case.kind,
        "changes": changes, "runtime": found.runtime,
        "outcome": f"{found.outcome.stage} {found.outcome.problem}".strip(), "errors": found.errors,
        "others": [each.partition(" ")[0] for each in found.others],
    }  # fmt: skip
    if case.kind == "training":
        values["values"] = case.values
    return json.dumps(values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
