"""Write the library of the playground: modules compiled for its Python, and no other modules.

Runs in Pyodide, under Node; `playground_files.py` starts it. The folder holds `packages.zip`, our
modules and PyYAML, and `requests.json`, what a page may ask. Into `library.zip` go the modules that
these requests imported, and those that any import statement in them may import.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import sys
import zipimport
from importlib.util import MAGIC_NUMBER, resolve_name
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path("/folder")
STANDARD = f"/lib/python{sys.version_info.major}{sys.version_info.minor}.zip"
PACKAGES = str(FOLDER / "packages.zip")


def statements(name: str, source: str, *, is_package: bool) -> Iterator[str]:
    """Yield the names in the import statements of a module; those for types alone are left out."""
    package = name if is_package else name.rpartition(".")[0]
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        waiting += ast.iter_child_nodes(node)


def reached() -> set[str]:
    """Return where the modules of our own lie that may be imported; import all others."""
    waiting = [name for name, place in places().items() if place.startswith(PACKAGES)]
    done: set[str] = set()
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        parent = name.rpartition(".")[0]
        try:
            ours = zipimport.zipimporter(f"{PACKAGES}/{parent.replace('.', '/')}".rstrip("/"))
            source, is_package = ours.get_source(name) or "", ours.is_package(name)
            found.add(ours.get_filename(name))
        except zipimport.ZipImportError:
            if name.partition(".")[0] not in {"adalora_core", "yaml"}:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        else:
            waiting += filter(None, (parent, *statements(name, source, is_package=is_package)))
    return found


def places() -> dict[str, str]:
    """Return where each imported module of an archive lies."""
    specs = {name: getattr(module, "__spec__", None) for name, module in sys.modules.items()}
    origins = {name: str(spec.origin) for name, spec in specs.items() if spec is not None}
    return {name: at for name, at in origins.items() if at.startswith((STANDARD, PACKAGES))}


def write(wanted: set[str]) -> None:
    """Compile the modules at these places, and every encoding: a script may declare any."""
    import marshal  # here: what no request needs is to stay out
    import zipfile

    # Texts for readers are left out of the standard library alone: a class of data without one asks
    # `inspect` for one.
    with zipfile.ZipFile(FOLDER / "library.zip", "w") as library:
        for source, optimize in ((STANDARD, 2), (PACKAGES, 0)):
            with zipfile.ZipFile(source) as archive:
                for path in archive.namelist():
                    is_encoding = path.startswith("encodings/") and path.endswith(".py")
                    content = archive.read(path)
                    if is_encoding or f"{source}/{path}" in wanted:
                        code = compile(content, path, "exec", dont_inherit=True, optimize=optimize)
                        compiled = MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
                        library.writestr(zipfile.ZipInfo(f"{path}c"), compiled)
                    elif path.endswith("LICENSE"):
                        library.writestr(zipfile.ZipInfo(path), content)


sys.path.insert(0, PACKAGES)
bridge = importlib.import_module("bridge")
for request in json.loads((FOLDER / "requests.json").read_text("utf-8")):
    bridge.answer(json.dumps(request))
write(reached() | set(places().values()))
