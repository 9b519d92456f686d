"""Make the type stubs of the compiled modules: names from the bindings, types from the stubs.

Functions, their parameters and results come from csrc/bindings. A parameter that the stub knows
keeps the type that people wrote there; a new one is a Tensor until somebody writes another type.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BINDINGS = ROOT / "csrc" / "bindings"
MODULES = {
    ROOT / "adalora_core" / "_cpu.pyi": BINDINGS,
    ROOT / "adalora_core" / "_cuda.pyi": BINDINGS / "cuda",
}
DEFINITION = re.compile(r'(?:define<&(?:\w+::)*(\w+)>\(\s*module,|module\.def\()\s*"(\w+)"')
HANDLES = re.compile(r"^([\w:]+) (\w+)\((py::handle [^)]*)\)", re.MULTILINE)
RESULTS = {
    "void": "None",
    "bool": "bool",
    "double": "float",
    "std::int64_t": "int",
    "py::object": "Tensor",
}
LINE_LENGTH = 100


def stub(path: Path, bindings: Path) -> str:
    """Return the stub in `path` with the functions that the files in `bindings` define."""
    text = path.read_text(encoding="utf-8")
    head, _, _ = text.partition("\ndef ")
    known = {each.name: each for each in ast.parse(text).body if isinstance(each, ast.FunctionDef)}
    lines = [head]
    # module.cpp first: what describes the build precedes the ops.
    for source in sorted(bindings.glob("*.cpp"), key=lambda each: (each.stem != "module", each)):
        code = source.read_text(encoding="utf-8")
        functions = {name: (result, handles) for result, name, handles in HANDLES.findall(code)}
        for function, name in DEFINITION.findall(code):
            if function in functions:
                lines.append(_signature(name, *functions[function], known.get(name)))
            elif name in known:
                lines.append(ast.get_source_segment(text, known[name]) or "")
            else:
                lines.append(f"def {name}() -> None: ...")
    return "\n".join(lines) + "\n"


def _signature(name: str, result: str, handles: str, known: ast.FunctionDef | None) -> str:
    """Return the definition of a function, on as many lines as it needs."""
    types = {} if known is None else {
        each.arg: ast.unparse(each.annotation)
        for each in (*known.args.posonlyargs, *known.args.args)
        if each.annotation is not None
    }  # fmt: skip
    names = re.findall(r"py::handle (\w+)", handles)
    parameters = [*(f"{each}: {types.get(each, 'Tensor')}" for each in names), "/"]
    joined, end = ", ".join(parameters), f") -> {RESULTS[result]}: ..."
    if len(f"def {name}({joined}{end}") <= LINE_LENGTH:
        return f"def {name}({joined}{end}"
    if len(f"    {joined}") <= LINE_LENGTH:
        return f"def {name}(\n    {joined}\n{end}"
    return "\n".join([f"def {name}(", *(f"    {each}," for each in parameters), end])
