"""Define `AdaLoraConfig`, a pydantic model with PEFT's fields, and take one from a file.

Every rule on configurations is run on the mapping of a saved adapter; findings have the path of
their value, and no place in a text. `check_config` finds configurations in any document, with
places.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from adalora_core.config.fields.block import Block, BlockOptions
from adalora_core.config.fields.readings import plain
from adalora_core.config.fields.table import ALL_FIELDS, FIELDS, Runtime, as_written, fields_of
from adalora_core.config.findings import Checked, ConfigError, ConfigWarning, Diagnostic, Related
from adalora_core.config.rules import findings
from adalora_core.config.rules.base import Finding
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_link_out, object_in
from adalora_core.floor.places import to_pointer


def _wire(name: str) -> Any:
    field = ALL_FIELDS[name]
    # Pydantic copies a default that can be changed.
    return Field(default=field.default, description=field.summary)


CONFIG_NAME = "adapter_config.json"

_CHECKED = {"checked": True}
"""The context in which a configuration is built without the rules, which have run."""


class AdaLoraConfig(BaseModel):
    """An AdaLoRA configuration with the fields and defaults of PEFT's class of the same name.

    The constructor runs every rule of the contract: an impossible schedule fails here and not at
    step N. A module list may be a list, tuple, set or `dict.keys()`, and is stored as a sorted
    list. Numbers of NumPy and floats like 8.0 become Python's numbers. An assignment is checked for
    type and range; `get_peft_model` runs every rule again. `dataclasses.replace`, `asdict` and
    `fields` work as on PEFT's class.

    Raises:
        pydantic.ValidationError: a `ValueError` that lists every finding.

    Example:
        >>> config = AdaLoraConfig(init_r=12, target_r=4, tfinal=500, total_step=2000)
        >>> config.deltaT, config.target_modules
        (1, None)
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, strict=True)

    is_prompt_learning: ClassVar[bool] = False
    """`adalora_core.peft.get_peft_model` asks it before the configuration becomes one of PEFT."""

    task_type: str | None = _wire("task_type")
    peft_type: str = _wire("peft_type")
    auto_mapping: dict[str, Any] | None = _wire("auto_mapping")
    peft_version: str | None = _wire("peft_version")
    base_model_name_or_path: str | None = _wire("base_model_name_or_path")
    revision: str | None = _wire("revision")
    inference_mode: bool = _wire("inference_mode")
    r: int = _wire("r")
    target_modules: list[str] | str | None = _wire("target_modules")
    exclude_modules: list[str] | str | None = _wire("exclude_modules")
    lora_alpha: int | float = _wire("lora_alpha")
    lora_dropout: float = _wire("lora_dropout")
    fan_in_fan_out: bool = _wire("fan_in_fan_out")
    bias: str = _wire("bias")
    use_rslora: bool = _wire("use_rslora")
    modules_to_save: list[str] | None = _wire("modules_to_save")
    init_lora_weights: bool | str = _wire("init_lora_weights")
    layers_to_transform: list[int] | int | None = _wire("layers_to_transform")
    layers_pattern: list[str] | str | None = _wire("layers_pattern")
    rank_pattern: dict[str, list[bool]] | None = _wire("rank_pattern")
    alpha_pattern: dict[str, Any] | None = _wire("alpha_pattern")
    megatron_config: dict[str, Any] | None = _wire("megatron_config")
    megatron_core: str | None = _wire("megatron_core")
    trainable_token_indices: list[int] | dict[str, list[int]] | None = _wire(
        "trainable_token_indices"
    )
    loftq_config: dict[str, Any] | None = _wire("loftq_config")
    eva_config: dict[str, Any] | None = _wire("eva_config")
    corda_config: dict[str, Any] | None = _wire("corda_config")
    lora_ga_config: dict[str, Any] | None = _wire("lora_ga_config")
    use_dora: bool = _wire("use_dora")
    velora_config: dict[str, Any] | None = _wire("velora_config")
    alora_invocation_tokens: list[int] | None = _wire("alora_invocation_tokens")
    use_qalora: bool = _wire("use_qalora")
    qalora_group_size: int = _wire("qalora_group_size")
    monteclora_config: dict[str, Any] | None = _wire("monteclora_config")
    layer_replication: list[list[int]] | None = _wire("layer_replication")
    runtime_config: dict[str, Any] | None = _wire("runtime_config")
    lora_bias: bool = _wire("lora_bias")
    target_parameters: list[str] | None = _wire("target_parameters")
    use_bdlora: dict[str, Any] | None = _wire("use_bdlora")
    arrow_config: dict[str, Any] | None = _wire("arrow_config")
    kasa_config: dict[str, Any] | None = _wire("kasa_config")
    ensure_weight_tying: bool = _wire("ensure_weight_tying")
    target_r: int = _wire("target_r")
    init_r: int = _wire("init_r")
    tinit: int = _wire("tinit")
    tfinal: int = _wire("tfinal")
    deltaT: int = _wire("deltaT")  # noqa: N815 - the wire name
    beta1: float = _wire("beta1")
    beta2: float = _wire("beta2")
    orth_reg_weight: float = _wire("orth_reg_weight")
    total_step: int | Literal["auto"] | None = _wire("total_step")
    importance_criterion: str | SkipJsonSchema[Callable[..., Any]] = _wire("importance_criterion")

    @model_validator(mode="wrap")
    @classmethod
    def _run_rules(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        if not isinstance(data, Mapping) or info.context is _CHECKED:
            return handler(data)
        values = {name: plain(value, name) for name, value in data.items()}
        block = Block(values, options=BlockOptions("adalora-core", strict_keys=True))
        found = list(findings(block))
        errors = [finding for finding in found if _severity(finding) == "error"]
        if errors:
            raise _refusal(cls, errors, block.as_read)
        for finding in found:
            if finding.rule.warns_at_construction:
                # Skip pydantic's frames: the warning points at the line that builds the config.
                warnings.warn(
                    f"{finding.message} ({finding.rule.code})", ConfigWarning, stacklevel=3
                )
        return handler(block.as_read)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field after a check of its type and range alone.

        Raises:
            pydantic.ValidationError: the value does not fit the field, which keeps its old value.
        """
        if name not in ALL_FIELDS:
            super().__setattr__(name, value)
            return
        value = plain(value, name)
        block = Block({name: value}, options=BlockOptions("adalora-core"))
        found = findings(block)
        errors = [
            f for f in found if f.path[:1] == (name,) and block.invalid and _severity(f) == "error"
        ]
        if errors:
            raise _refusal(type(self), errors, {name: value})
        super().__setattr__(name, block[name])

    @classmethod
    def from_checked(cls, block: Mapping[str, Any], runtime: Runtime) -> Self:
        """Build a configuration from a mapping that the rules accept for `runtime`.

        Keys that the runtime does not know are dropped.
        """
        known = fields_of(runtime)
        values = {name: plain(value, name) for name, value in block.items() if name in known}
        pattern = values.get("rank_pattern") or {}
        if not all(isinstance(kept, list) for kept in pattern.values()):
            values["rank_pattern"] = None  # of a training, which overwrites it
        return cls.model_validate(values, context=_CHECKED)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the content of `adapter_config.json`: PEFT's written fields, sorted by name."""
        return {name: getattr(self, name) for name in sorted(FIELDS) if FIELDS[name].written}

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        auto_mapping_dict: dict[str, Any] | None = None,
    ) -> None:
        """Write `adapter_config.json` into a folder, which is made if it does not exist.

        Args:
            save_directory: the folder.
            auto_mapping_dict: value of `auto_mapping` in the file, if it is another.

        Raises:
            OSError: the folder cannot be written; the file is as it was.
        """
        from adalora_core.floor.files import write_file

        values = self.to_json_dict()
        if auto_mapping_dict is not None:
            values["auto_mapping"] = auto_mapping_dict
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_file(
            folder / CONFIG_NAME, json.dumps(as_written(values), indent=2, sort_keys=True).encode()
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        subfolder: str | None = None,
    ) -> Self:
        """Read the configuration of a saved adapter.

        Args:
            pretrained_model_name_or_path: the folder.
            subfolder: the folder inside.

        Raises:
            ValueError: the file is missing, cannot be read, or has errors.
        """
        from adalora_core.floor.files import object_in

        path = Path(pretrained_model_name_or_path, subfolder or "", CONFIG_NAME)
        if not path.is_file():
            raise ValueError(
                f"from_pretrained: {str(path)!r} is missing; PeftConfig of adalora_core.peft reads "
                "the Hub"
            )
        values = object_in(path)
        values.pop("runtime_config", None)
        if unknown := sorted(set(values) - set(ALL_FIELDS)):
            warnings.warn(
                f"from_pretrained: ignored keys that are not fields of AdaLoraConfig: {unknown}",
                ConfigWarning,
                stacklevel=2,
            )
        return cls(**{name: value for name, value in values.items() if name in ALL_FIELDS})


AdaLoraConfig.__dataclass_fields__ = dataclasses.make_dataclass(  # type: ignore[attr-defined]
    "AdaLoraConfig",
    [
        (name, info.annotation, dataclasses.field(default_factory=ALL_FIELDS[name].fresh_default))
        for name, info in AdaLoraConfig.model_fields.items()
    ],
).__dataclass_fields__


def _severity(finding: Finding) -> str:
    return finding.severity or finding.rule.severity


def _refusal(model: type, errors: list[Finding], values: Mapping[str, Any]) -> ValidationError:
    details = []
    for finding in errors:
        hint = finding.hint or finding.rule.hint
        # Pydantic would take braces in the message itself for placeholders.
        message = f"{finding.message} ({finding.rule.code}; {hint})"
        error = PydanticCustomError("adalora_contract", "{message}", {"message": message})
        value: Any = values
        for step in finding.path:
            value = value[step]
        details.append(InitErrorDetails(type=error, loc=finding.path, input=value))
    return ValidationError.from_exception_data(model.__name__, details)


def config_of(values: Mapping[str, Any], source: str | None = None) -> AdaLoraConfig:
    """Return the configuration that a mapping holds, if nothing in it breaks the contract.

    Findings of severity warning are ignored.

    Raises:
        ConfigError: the mapping breaks the contract; every finding is in its text.
    """
    checked, block = _checked(values, source)
    if checked.errors:
        raise ConfigError("\n".join(_lines(checked)), checked)
    return AdaLoraConfig.from_checked(block.as_read, _OPTIONS.runtime)


def faults_in(values: Mapping[str, Any], *codes: str) -> list[Diagnostic]:
    """Return the errors in the configuration that a mapping holds, and the warnings of `codes`."""
    found = _checked(values, None)[0].diagnostics
    return [each for each in found if each.severity == "error" or each.code in codes]


def _checked(values: Mapping[str, Any], source: str | None) -> tuple[Checked, Block]:
    try:
        plainly = {name: plain(value, name) for name, value in values.items()}
        block = Block(plainly, options=_OPTIONS)
    except RecursionError:
        message = "the mapping contains itself or is nested too deep"
        raise ConfigError(message, Checked((), source, runtime=_OPTIONS.runtime)) from None
    found = tuple(map(_diagnostic, findings(block)))
    return Checked(found, source, runtime=_OPTIONS.runtime, block=block.values), block


def read_config(path: Path, **changes: Any) -> AdaLoraConfig:
    """Return the configuration in `adapter_config.json`, if nothing in it breaks the contract.

    `changes` are values in place of those of the file.

    Raises:
        ConfigError: the file is not a JSON object, or breaks the contract.
        CheckpointError: the file does not exist. Or its content is not sound, and it is a link out
            of its folder, so the content is not shown.
        OSError: the file cannot be read.
    """
    if not path.exists():
        raise CheckpointError(
            f"{str(path.parent)!r} holds no {path.name}; name the folder of a saved adapter"
        )
    try:
        return config_of(object_in(path) | changes, str(path))
    except ValueError as error:
        if not is_link_out(path):
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                str(error), Checked((), str(path), runtime=_OPTIONS.runtime)
            ) from None
        raise CheckpointError(
            f"{str(path)!r} is a link out of its folder, and what it leads to is not a "
            "configuration without errors; replace the link by the file"
        ) from None


_OPTIONS = BlockOptions("adalora-core")


def _diagnostic(finding: Finding) -> Diagnostic:
    rule = finding.rule
    return Diagnostic(
        code=rule.code,
        name=rule.name,
        severity=finding.severity or rule.severity,
        message=finding.message,
        pointer=to_pointer(finding.path),
        hint=finding.hint or rule.hint,
        related=tuple(
            Related(message, to_pointer(path), None) for path, message in finding.related
        ),
    )


def _lines(checked: Checked) -> Iterator[str]:
    where = visible(checked.source or "the configuration")
    for each in checked.errors:
        yield f"{each.severity}[{each.code}] {visible(each.message)}"
        yield f"  --> {where}" + (f" ({visible(each.pointer)})" if each.pointer else "")
        yield f"  hint: {visible(each.hint or '')}"
