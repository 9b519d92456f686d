"""Check a configuration against an organisation's own JSON Schema."""

from __future__ import annotations

import functools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import jsonschema
import referencing
import referencing.exceptions
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.jsonschema import DRAFT202012

from adalora_core.checker import documents as text
from adalora_core.checker.documents.document import CODE, Document, format_of
from adalora_core.checker.rules.input import PolicyViolation
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.config.rules.base import Finding
from adalora_core.floor.errors import PolicyError
from adalora_core.floor.files import is_inside
from adalora_core.floor.limits import DEFAULT_LIMITS
from adalora_core.floor.places import Path

_NOTHING: dict[str, Any] = {"not": {}}

_UNCOMPARABLE = (
    ArithmeticError, AttributeError, TypeError, ValueError, re.error,
    jsonschema.exceptions.UnknownType,
)  # fmt: skip
"""What the library raises for a multiple of NaN, and where a reference leads to another value than
a schema."""

_MOST_ALTERNATIVES = 3
"""Largest number of alternatives in a message."""


class Policy:
    """A compiled schema that a configuration must satisfy besides the contract.

    The schema is applied to the written keys; PEFT's defaults are not filled in. A reference names
    a part of the schema or, with `base`, a file. Nothing is fetched from a network.

    Args:
        schema: a JSON Schema; `$schema` names its draft, 2020-12 without one.
        base: the address for relative references.
        tree: the folder that holds every file of a reference; None: files are anywhere.

    Attributes:
        origin: begins every message about the policy.
        methods: the methods whose configurations it judges: AdaLoRA, and LoRA if the schema names
            this `peft_type`.

    Raises:
        PolicyError: the schema is not valid.
    """

    def __init__(
        self, schema: Any, base: str = "urn:adalora:policy", tree: pathlib.Path | None = None
    ) -> None:
        self.origin = ""
        self.methods: frozenset[Method] = frozenset({PEFT_TYPE})
        if _names_lora(schema):
            self.methods |= {LORA}
        try:
            _check_schema(schema)
            resource = _resource(schema)
            address = urljoin(base, resource.id() or "")
            # The stubs lack this argument; without it the library would use the network.
            retrieve = functools.lru_cache(functools.partial(_read_reference, tree))
            registry = referencing.Registry(retrieve=retrieve)  # type: ignore[call-arg]
            registry = SPECIFICATIONS.combine(registry).with_resource(address, resource).crawl()
        except PolicyError:
            raise
        except RecursionError:
            raise PolicyError("the schema is nested too deep") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise PolicyError(
                f"an address or a part of the schema cannot be read ({error}); write it by "
                "https://json-schema.org/draft/2020-12/schema"
            ) from None
        # As a reference, so that the schema keeps its own address.
        self._validator = _class_for(schema)({"$ref": address}, registry=registry)

    def check(self, block: Block) -> Iterator[Finding]:
        """Yield a finding for every violation of the schema in the block.

        Raises:
            PolicyError: a part of the schema refers to itself without end, or to nothing.
        """
        if block.is_other_method or block.method not in self.methods:
            return
        try:
            for each in self._validator.iter_errors(dict(block.values)):
                yield from _findings(block, each)
        except RecursionError:
            problem = "the policy refers to itself without end"
        except referencing.exceptions.Unresolvable as error:
            problem = _why_unresolved(error)
        except _UNCOMPARABLE as error:
            reason = str(error).partition("\n")[0]  # the next lines repeat the whole value
            problem = f"a part of the policy is not a schema, or not for these values ({reason})"
        else:
            return
        raise PolicyError(f"{self.origin}{problem}")


def _names_lora(schema: Any) -> bool:
    """Return whether a part of a schema on `peft_type` holds the word LORA."""
    try:
        text = json.dumps(schema, default=str)
    except (RecursionError, TypeError, ValueError):
        return False  # reported as a schema that is none
    return bool(re.search(r'"peft_type": \{[^{}]*"LORA"', text))


def load_policy(path: PathLike[str], tree: pathlib.Path | None = None) -> Policy:
    """Read a policy from a JSON, YAML or TOML file.

    Args:
        path: the file.
        tree: the folder that holds this file and all files that it refers to; None: any folder.

    Raises:
        OSError: the file cannot be read.
        PolicyError: the file does not hold a valid JSON Schema.
    """
    try:
        schema = _read(path, tree).value
        policy = Policy(schema, pathlib.Path(path).absolute().as_uri(), tree)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None
    policy.origin = f"{path}: "
    return policy


def _read(path: str | PathLike[str], tree: pathlib.Path | None) -> Document:
    if tree is not None and not is_inside(path, tree):
        raise PolicyError(f"the file is outside of {tree}: a message would show its values")
    if format_of(path) in CODE:
        raise PolicyError("a policy is JSON, YAML or TOML, not code")
    document = text.read(path, DEFAULT_LIMITS)
    if document.problems:
        problem = document.problems[0]
        at = problem.offset
        span = document.span_of(problem.path, problem.at) if at is None else document.span(at, at)
        where = f"line {span.start_line}, column {span.start_column}: " if span else ""
        raise PolicyError(f"{where}{problem.message}")
    return document


def _read_reference(tree: pathlib.Path | None, uri: str) -> Any:
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise PolicyError(
            "only files are read, nothing from a network; a relative reference starts from $id "
            "if there is one, else from the policy's own file"
        )
    document = _read(url2pathname(parts.path), tree)
    _check_schema(document.value)
    return _resource(document.value)


def _why_unresolved(error: BaseException) -> str:
    """Name the reference without a target, and the innermost reason."""
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    what = f"the reference {getattr(error, 'ref', '')!r} cannot be resolved"
    if isinstance(reason, OSError):
        return f"{what}: {reason.filename}: {reason.strerror}"
    return f"{what}: {reason}" if isinstance(reason, PolicyError) else what


def _resource(schema: Any) -> Any:
    contents = _without_false(schema)
    return referencing.Resource.from_contents(contents, default_specification=DRAFT202012)


def _class_for(schema: Mapping[str, Any]) -> Any:
    if "$schema" not in schema:
        return jsonschema.Draft202012Validator
    draft = schema["$schema"]
    unknown: Any = None
    found = isinstance(draft, str) and jsonschema.validators.validator_for(schema, unknown)
    if not found:
        raise PolicyError(
            f"$schema {draft!r} is not a supported draft of JSON Schema; "
            "write https://json-schema.org/draft/2020-12/schema"
        )
    return found


def _check_schema(schema: Any) -> None:
    if not isinstance(schema, dict):
        raise PolicyError(
            f"expected a JSON Schema (an object with keys), got {name_of_value(schema)}"
        )
    kind = _class_for(schema)
    checker = kind(kind.META_SCHEMA, format_checker=kind.FORMAT_CHECKER)
    error = next(checker.iter_errors(schema), None)
    if error is not None:
        place = "".join(f"/{step}" for step in error.absolute_path) or "the top"
        raise PolicyError(f"not a valid JSON Schema at {place}: {error.message}")


def _without_false(schema: Any) -> Any:
    """Return a copy with `not: {}` in the place of false, of which the library loses the place."""
    if isinstance(schema, list):
        return [_without_false(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {word: _without_false(inner) for word, inner in schema.items()}
    for word in ("properties", "patternProperties"):
        if isinstance(inner := made.get(word), dict):
            made[word] = {name: _NOTHING if each is False else each for name, each in inner.items()}
    return made


def _findings(block: Block, error: Any) -> Iterator[Finding]:
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    path = tuple(error.absolute_path)
    place = block.at(str(path[0]), *path[1:]) if path else block.path
    if error.validator == "additionalProperties" and not path:
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key in error.instance:
            if key not in known and not any(re.search(each, str(key)) for each in patterns):
                yield _finding(schema, block.at(key), f"`{key}` is not allowed", "key")
    elif error.validator == "required":
        missing = next(key for key in error.validator_value if error.message.startswith(repr(key)))
        if missing in block.deferred and not path:
            return  # given, but known only when the run starts
        described = schema.get("properties", {}).get(missing)
        texts = described if isinstance(described, Mapping) else schema
        yield _finding(texts, place, f"`{missing}` is required")
    else:
        yield _finding(schema, place, _detail(error))


def _finding(
    schema: Mapping[str, Any], place: Path, detail: str, at: Literal["key", "value"] = "value"
) -> Finding:
    title = schema.get("title") or "the policy refuses this"
    return Finding(PolicyViolation, place, f"{title}: {detail}", at, hint=schema.get("description"))


def _detail(error: Any) -> str:
    name = f"`{error.absolute_path[0]}`" if error.absolute_path else "the configuration"
    # Some of the library's messages repeat the whole value.
    if error.validator in {"anyOf", "oneOf"}:
        alternatives = list(dict.fromkeys(_detail(inner) for inner in error.context))
        if not alternatives:
            return f"{name} matches several alternatives of which only one is allowed"
        return " or ".join(alternatives[:_MOST_ALTERNATIVES])
    if error.validator == "required":
        return str(error.message).replace("'", "`").replace("a required property", "required")
    if error.validator == "not":
        is_any = error.validator_value == _NOTHING["not"]
        return f"{name} is not allowed" if is_any else f"{name} has a form that is not allowed"
    return f"{name}: {error.message}"
