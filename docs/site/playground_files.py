"""Add to the site what its playground runs: Pyodide, and a library with the contract and PyYAML.

npm fetches Pyodide once, into build/playground. A reader's browser loads every file from the site.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from importlib.metadata import files as files_of
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig

SWITCH = "ADALORA_PLAYGROUND"
"""Set to OFF, the site is built without a Python for the playground: no npm, no network."""

PYODIDE = "314.0.7"
SHA512 = "0YvXxEhfEdpLfb/XkM2BFAeMROq0iMUX2bzzH9pOttyMcWkwq+HbE5uyuGD82LN7y2q+SNvi/6V5JEsOlD2R1A=="
RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "pyodide-lock.json")
WHOLE = (*RUNTIME, "python_stdlib.zip")
"""What Node starts, to compile a smaller library."""

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "playground"
PAGE = Path(__file__).parent / "playground"
PACKAGE = (
    "adalora_core/*.py",
    "adalora_core/checker/**/*.py",
    "adalora_core/config/**/*.py",
    "adalora_core/floor/**/*.py",
)

COMPILE = """
import { readFileSync } from "node:fs";
const [folder, script] = process.argv.slice(1);
const { loadPyodide } = await import(`${folder}/pyodide.mjs`);
// Without columns: they are a quarter of compiled code, and only a traceback shows them.
const env = { PYTHONHASHSEED: "0", PYTHONNODEBUGRANGES: "1" };
const python = await loadPyodide({ indexURL: folder, env });
python.mountNodeFS("/folder", folder);
python.runPython(readFileSync(script, "utf8"));
"""

log = logging.getLogger("mkdocs.hooks.playground")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files, and one with their sizes, by which the page shows its progress."""
    if os.environ.get(SWITCH, "").upper() == "OFF":
        log.info("the playground gets no Python: %s=OFF", SWITCH)
        return files
    try:
        whole = _pyodide()
        library = _library(whole)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        log.warning("the playground gets no Python (set %s=OFF to accept that): %s", SWITCH, reason)
        return files
    # Nothing is installed from the packages that this list names: its head alone is read.
    lock = json.loads(whole["pyodide-lock.json"]) | {"packages": {}}
    runtime = {name: whole[name] for name in RUNTIME} | {"library.z": library}
    runtime["pyodide-lock.json"] = json.dumps(lock).encode()
    sizes = {name: len(content) for name, content in runtime.items()}
    runtime["sizes.json"] = json.dumps(sizes).encode()
    for name, content in runtime.items():
        uri = f"site/playground/runtime/{name}"
        files.append(File.generated(config, uri, content=content))
    return files


def _pyodide() -> dict[str, bytes]:
    """Return the files of Pyodide by their names.

    Raises:
        OSError: npm is not installed, or a file cannot be written.
        CalledProcessError: npm cannot fetch the package.
        ValueError: the package is not the one whose digest is above.
    """
    archive = CACHE / f"pyodide-{PYODIDE}.tgz"
    if not archive.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", "--silent", f"pyodide@{PYODIDE}", "--pack-destination", CACHE],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        )
    raw = archive.read_bytes()
    if hashlib.sha512(raw).digest() != base64.b64decode(SHA512):
        archive.unlink()
        raise ValueError(f"{archive.name} has another digest than {Path(__file__).name} expects")
    with tarfile.open(fileobj=io.BytesIO(raw)) as opened:
        found = {name: opened.extractfile(f"package/{name}") for name in WHOLE}
        return {name: file.read() for name, file in found.items() if file is not None}


def _library(whole: dict[str, bytes]) -> bytes:
    """Return the compiled modules, as one stream that `DecompressionStream` reads: zlib's.

    A stream is a fifth smaller than an archive, which compresses each module alone.

    Raises:
        OSError: Node is not installed, or a file cannot be written.
        CalledProcessError: a module cannot be compiled, or an answer cannot be given.
    """
    script = Path(__file__).parent / "playground_library.py"
    inputs = {"packages.zip": _packages(), "requests.json": json.dumps(_requests()).encode()}
    made_of = (PYODIDE.encode(), COMPILE.encode(), script.read_bytes(), *inputs.values())
    kept = CACHE / f"library-{hashlib.sha256(b''.join(made_of)).hexdigest()[:16]}.z"
    if kept.is_file():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        for name, content in (whole | inputs).items():
            Path(folder, name).write_bytes(content)
        program = ["node", "--input-type=module", "--eval", COMPILE, folder, str(script)]
        subprocess.run(program, check=True, capture_output=True, text=True)
        made = zlib.compress(Path(folder, "library.zip").read_bytes(), 9)
    for old in CACHE.glob("library-*"):
        old.unlink()
    kept.write_bytes(made)
    return made


def _requests() -> list[dict[str, str]]:
    """Return what a page may ask: the examples of the page and of every rule, with their fixes."""
    from adalora_core.checker.rules import RULES, example_text

    asked = [{"text": path.read_text("utf-8")} for path in sorted((PAGE / "examples").iterdir())]
    for rule in RULES:
        how = {"format": rule.language} | rule.example_options
        asked += [{"text": example_text(each)} | how for each in (rule.bad, rule.good) if each]
    return [{"format": "", "runtime": "peft", "fix": "all"} | each for each in asked]


def _packages() -> bytes:
    """Return one archive of all our modules; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in sorted(_modules()):
            # Without a time stamp, which writestr sets to the present.
            archive.writestr(zipfile.ZipInfo(name), source.read_bytes())
    return buffer.getvalue()


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield the modules with their names in the archive; of PyYAML also the license."""
    for pattern in PACKAGE:
        for source in ROOT.glob(pattern):
            yield source.relative_to(ROOT).as_posix(), source
    for source in PAGE.glob("*.py"):
        yield source.name, source
    for file in files_of("PyYAML") or ():
        if (file.parts[0] == "yaml" and file.suffix == ".py") or file.name == "LICENSE":
            yield file.as_posix(), Path(str(file.locate()))
