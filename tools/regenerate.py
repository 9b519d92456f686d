"""Write the generated files again, or check that each is what its source gives.

    python tools/regenerate.py [PART ...]          # write what differs
    python tools/regenerate.py --check [PART ...]  # write nothing; exit with 1 if a file differs

Without a part, all are taken. `comparison` runs PEFT and this package and takes longest.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
TOOLS = Path(__file__).parent
DOCS = ROOT / "docs"
EXIT_DIFFERS = 1


@dataclass(frozen=True)
class Picture:
    """A drawing, and the files that it is made from.

    The bytes of a drawing depend on libraries and fonts. The file therefore holds a digest of its
    sources, and differs when they do.
    """

    sources: tuple[Path, ...]
    draw: Callable[[], Figure]

    @property
    def digest(self) -> str:
        """The digest of the sources."""
        return hashlib.sha256(b"".join(path.read_bytes() for path in self.sources)).hexdigest()


Content = str | Picture
"""What a file has to hold."""


def rule_pages() -> dict[Path, Content]:
    """Return the table of the rules, which are refused where the site could not show them."""
    sys.path.insert(0, str(DOCS / "site"))
    from rule_classes import refusals, rule_classes
    from rule_pages import table

    from adalora_core.checker.rules import RULES

    if refused := list(refusals(rule_classes(), RULES)):
        sys.exit("no page of a rule is written:\n" + "\n".join(refused))
    return {DOCS / "rules" / "README.md": table()}


def schemas() -> dict[Path, Content]:
    """Return the schemas of a configuration."""
    from adalora_core.config.editor_schema import FILE, editor_schema
    from adalora_core.config.schema import FILES, LORA_FILES, config_schema, to_text

    folder = ROOT / "schemas"
    files: dict[Path, Content] = {
        folder / name: to_text(config_schema(draft)) for draft, name in FILES.items()
    }
    for draft, name in LORA_FILES.items():
        files[folder / name] = to_text(config_schema(draft, method="LORA"))
    return files | {folder / FILE: to_text(editor_schema())}


def share() -> dict[Path, Content]:
    """Return what share of the engine's errors the schema rejects, in a page of the contract."""
    from schema_share import table
    from written_blocks import with_block

    page = DOCS / "contract" / "policy.md"
    return {page: with_block(page, "share", table())}


def stubs() -> dict[Path, Content]:
    """Return the type stubs of the compiled modules."""
    from stubs import MODULES, stub

    return {path: stub(path, bindings) for path, bindings in MODULES.items()}


def comparison() -> dict[Path, Content]:
    """Return the page that compares PEFT's AdaLoRA with this package."""
    from feature_comparison import page

    return {DOCS / "peft-comparison.md": page()}


def scripts() -> dict[Path, Content]:
    """Return the table of scripts that are written for PEFT."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from script_verdicts import page

    return {DOCS / "peft-scripts.md": page()}


def speed() -> dict[Path, Content]:
    """Return what README.md and other pages show of benchmarks/results/core.json."""
    from speed_pages import FIGURES, pages, read
    from speed_plot import draw

    picture = Picture((FIGURES, TOOLS / "speed_plot.py"), lambda: draw(read()[0]))
    return {**pages(), FIGURES.with_suffix(".png"): picture}


def memory() -> dict[Path, Content]:
    """Return the table of what training holds in memory."""
    from memory_table import block
    from written_blocks import with_block

    page = DOCS / "status.md"
    return {page: with_block(page, "memory", block())}


def schedule() -> dict[Path, Content]:
    """Return the drawing of a budget schedule."""
    from budget_schedule import drawing

    return {DOCS / "budget-schedule.svg": drawing()}


def identity() -> dict[Path, Content]:
    """Return the mark, its form for the browser's tab, and the card of shared links."""
    from identity import CARD, FAVICON, ICON, PALETTE, card, favicon, mark

    picture = Picture((PALETTE, TOOLS / "identity.py"), card)
    return {ICON: mark(), FAVICON: favicon(), CARD: picture}


def ranks() -> dict[Path, Content]:
    """Return the map of the ranks that a run of `adalora demo` kept, from its configuration."""
    from adalora_core.commands.rank_report import heatmap

    configuration = DOCS / "rank-map.json"

    def draw() -> Figure:
        from adalora_core.commands.rank_report.report import ranks_of
        from adalora_core.config.model import read_config

        config = read_config(configuration)
        title = "Rank of each matrix after adalora demo"
        return heatmap.rank_figure(ranks_of(config), init_r=config.init_r, title=title)

    return {DOCS / "rank-map.png": Picture((configuration, Path(heatmap.__file__)), draw)}


def scaling() -> dict[Path, Content]:
    """Return the costs on many devices: a table and its picture."""
    from scaling_model import draw, table_and_products
    from written_blocks import with_block

    page = ROOT / "benchmarks" / "results" / "scaling.md"
    return {
        page: with_block(page, "scaling", table_and_products()),
        DOCS / "scaling.png": Picture((TOOLS / "scaling_model.py",), draw),
    }


def runs() -> dict[Path, Content]:
    """Return the table of mistakes in docs/runs-that-go-wrong.md."""
    from contract_tables import mistakes
    from written_blocks import with_block

    from adalora_core.checker.rules import RULES

    page = DOCS / "runs-that-go-wrong.md"
    return {
        page: with_block(page, "runs", mistakes([each for each in RULES if each.needs == "run"]))
    }


def known_tools() -> dict[Path, Content]:
    """Return the table of tools in docs/contract/read.md."""
    from contract_tables import tools
    from written_blocks import with_block

    from adalora_core.config.fields.tools import TOOLS

    page = DOCS / "contract" / "read.md"
    return {page: with_block(page, "tools", tools(TOOLS))}


def module_names() -> dict[Path, Content]:
    """Return the table of names in transformers' architectures."""
    from module_names import module

    return {ROOT / "adalora_core" / "config" / "fields" / "module_names.py": module()}


def api() -> dict[Path, Content]:
    """Return the table of a model's methods in docs/api.md."""
    from api_table import table
    from written_blocks import with_block

    page = DOCS / "api.md"
    return {page: with_block(page, "api", table())}


def releases() -> dict[Path, Content]:
    """Return the tables of tried releases, and what README.md says of them."""
    from tested_releases import TRIED, block, date, words
    from written_blocks import with_block, with_words

    rows = [f"| {peft} | {transformers} |" for peft, transformers in TRIED]
    bridge, status, readme = DOCS / "peft-bridge.md", DOCS / "status.md", ROOT / "README.md"
    table = "\n".join(["| PEFT | transformers |", "|---|---|", *rows])
    return {
        bridge: with_block(bridge, "releases", table),
        status: with_words(with_block(status, "releases", block()), "releases", date()),
        readme: with_words(readme.read_text(encoding="utf-8"), "releases", words()),
    }


def disagreements() -> dict[Path, Content]:
    """Return the list of disagreements with the runtimes in docs/contract/policy.md."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from differential.listed import table
    from written_blocks import with_block

    page = DOCS / "contract" / "policy.md"
    return {page: with_block(page, "disagreements", table())}


def indexes() -> dict[Path, Content]:
    """Return the README of the folders that list their files."""
    from folder_indexes import pages

    return {**pages()}


def evidence() -> dict[Path, Content]:
    """Return the results of the first study in benchmarks/studies/tables.md, and their picture."""
    from evidence import PICTURE, SOURCES, block, draw
    from study_tables import on_tables

    return {**on_tables("evidence", block()), PICTURE: Picture(SOURCES, draw)}


def rank_study() -> dict[Path, Content]:
    """Return the answers in docs/evidence.md, their tables, and what other pages say."""
    from rank_answers import PICTURE, RESULTS, answers, draw, words
    from rank_evidence import block
    from study_tables import on_tables
    from written_blocks import with_block, with_words

    others = (ROOT / "README.md", DOCS / "when-not.md")
    return {
        DOCS / "evidence.md": with_block(DOCS / "evidence.md", "rank-study", answers()),
        **on_tables("rank-study", block()),
        **{each: with_words(each.read_text("utf-8"), "rank-study", words()) for each in others},
        PICTURE: Picture((RESULTS, TOOLS / "rank_answers.py"), draw),
    }


def questions() -> dict[Path, Content]:
    """Return the studies of one question in benchmarks/studies/tables.md."""
    from rank_answers import questions as block
    from study_tables import on_tables

    return {**on_tables("questions", block())}


def finding() -> dict[Path, Content]:
    """Return the picture of a finding, for light and for dark pages."""
    from finding_picture import pictures

    return {**pictures()}


def install() -> dict[Path, Content]:
    """Return the files that say how to install the package, before and after the first release."""
    from install_forms import pages

    return {**pages()}


def cut_study() -> dict[Path, Content]:
    """Return the results of the third study in benchmarks/studies/tables.md."""
    from cut_evidence import block
    from study_tables import on_tables

    return {**on_tables("cut-study", block())}


PARTS: dict[str, Callable[[], dict[Path, Content]]] = {
    "rules": rule_pages,
    "schemas": schemas,
    "share": share,
    "stubs": stubs,
    "modules": module_names,
    "runs": runs,
    "tools": known_tools,
    "scripts": scripts,
    "releases": releases,
    "api": api,
    "disagreements": disagreements,
    "indexes": indexes,
    "speed": speed,
    "memory": memory,
    "schedule": schedule,
    "identity": identity,
    "ranks": ranks,
    "scaling": scaling,
    "evidence": evidence,
    "rank-study": rank_study,
    "questions": questions,
    "cut-study": cut_study,
    "finding": finding,
    "install": install,
    "comparison": comparison,
}


def differing(files: dict[Path, Content]) -> Iterator[Path]:
    """Yield the files that do not hold what they have to."""
    for path, content in files.items():
        held = path.read_bytes() if path.is_file() else None
        if isinstance(content, Picture):
            if held is None or content.digest.encode() not in held:
                yield path
        elif content.encode() != held:
            yield path


def write(path: Path, content: Content) -> None:
    """Write a file."""
    from adalora_core.floor.files import write_file

    if isinstance(content, Picture):
        metadata = {"Software": None, "Source": content.digest}
        drawn = io.BytesIO()
        content.draw().savefig(drawn, format="png", dpi=110, metadata=metadata)
        write_file(path, drawn.getvalue())
    else:
        write_file(path, content.encode())


def main(arguments: Sequence[str]) -> int:
    """Write or check the parts that `arguments` name."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"Parts: {', '.join(PARTS)}."
    )
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("part", nargs="*", help="a part to take; all without one")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.part) - set(PARTS))
    if unknown:
        parser.error(f"unknown parts: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    exit_code = 0
    for part in options.part or PARTS:
        try:
            files = PARTS[part]()
            for path in differing(files):
                name = path.relative_to(ROOT)
                if options.check:
                    print(f"{name} is out of date; run: python tools/regenerate.py {part}")
                    exit_code = EXIT_DIFFERS
                else:
                    write(path, files[path])
                    print(f"wrote {name}")
        except ModuleNotFoundError as error:
            if f"{error.name}".startswith("adalora_core."):
                raise  # a module of this project that has moved
            parser.error(f"{part} needs the package {error.name}: pip install -e '.[test]'")
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
