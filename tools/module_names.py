"""Write the names of modules in transformers' architectures, which the contract judges targets by.

Every class of the auto-mappings is built without weights, with two layers where its configuration
has a number of them.
"""

from __future__ import annotations

import re
import signal
import textwrap
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

SECONDS_OF_A_CLASS = 30
LAYERS = 2
FEWEST = 10
"""A name that is never a linear module is written if so many classes have it."""

PLAIN_WORDS = frozenset(
    {
        "aggregation", "attention", "bottleneck", "codebook", "connector", "embedder", "embeddings",
        "encoder", "indexer", "merger", "mixer", "model", "neck", "pool", "predictions", "shared",
        "shortcut", "stem", "transform", "upsample", "visual", "weight",
    }
)  # fmt: skip
"""Blocks in transformers, but a model of one's own may give such a name to a linear layer."""

NAMES_OF_COUNTS = re.compile(r"(num_)?((en|de)coder_)?(hidden_)?(n_)?layers?|depth|num_blocks")
SHOWN = (
    "LlamaForCausalLM", "LlamaModel", "GPT2LMHeadModel", "BertForSequenceClassification",
    "T5ForConditionalGeneration", "RobertaForSequenceClassification", "OPTForCausalLM",
    "GPTNeoXForCausalLM", "GPTJForCausalLM", "BloomForCausalLM", "FalconForCausalLM",
    "PhiForCausalLM", "Phi3ForCausalLM", "MptForCausalLM", "MixtralForCausalLM",
    "Qwen2MoeForCausalLM", "DeepseekV3ForCausalLM", "GemmaForCausalLM", "MambaForCausalLM",
    "DistilBertForSequenceClassification", "DebertaV2ForSequenceClassification",
    "ElectraForSequenceClassification", "AlbertForSequenceClassification",
    "XLNetForSequenceClassification", "ModernBertForSequenceClassification",
    "BartForConditionalGeneration", "WhisperForConditionalGeneration", "Wav2Vec2ForCTC",
    "ViTForImageClassification", "SwinForImageClassification", "CLIPModel",
    "SegformerForSemanticSegmentation", "LlavaForConditionalGeneration",
    "Qwen2VLForConditionalGeneration",
)  # fmt: skip
"""Architectures whose paths are written whole, the most used ones first: the first that an
expression fits decides soonest."""


def module() -> str:
    """Return the text of `adalora_core/config/fields/module_names.py`."""
    import transformers

    walked = dict(_walk())
    names: Counter[str] = Counter()
    adapted: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    tops: set[str] = set()
    embeddings: set[str] = set()
    for paths, embedding in walked.values():
        of_leaf: dict[str, set[str]] = {}
        for path, kind in paths.items():
            of_leaf.setdefault(path.rpartition(".")[2], set()).add(kind)
            if "." not in path and kind == "linear":
                tops.add(path)
        for name, found in of_leaf.items():
            names[name] += 1
            adapted[name] += found == {"linear"}
            kinds.setdefault(name, Counter()).update(found)
        if embedding:
            embeddings.add(embedding)
    linear = {name for name in names if adapted[name] and not name.isdigit()}
    never: dict[str, set[str]] = {}
    for name in names:
        usual = kinds[name].most_common(1)[0][0]
        is_known = names[name] >= FEWEST and name not in PLAIN_WORDS and not name.isdigit()
        if is_known and not adapted[name]:
            never.setdefault(usual, set()).add(name)
    trees = "\n".join(f"{name} {_tree(walked[name][0])}" for name in SHOWN)
    parts = [
        f'TRANSFORMERS = "{transformers.__version__}"\n"""The release that was walked."""\n',
        f'ARCHITECTURES = {len(walked)}\n"""The number of model classes that were walked."""\n',
        _names("LINEAR", linear, "Last parts of paths of linear and convolutional modules."),
        _names("TOP", tops, "Linear and convolutional modules at the top of a model."),
        _names("INPUT_EMBEDDINGS", embeddings, "Last parts of paths of input embeddings."),
        *(
            _names(f"{kind.upper()}S", found, f"{_DESCRIBED[kind]} that are never linear.")
            for kind, found in sorted(never.items())
        ),
        f'TREES = """\n{trees}\n"""\n"""{_OF_TREES}"""\n',
    ]
    return HEAD + "\n".join(parts)


HEAD = '''"""List the names of modules in the architectures of transformers, where 0 is any number.

`python tools/regenerate.py modules` writes this file.
"""

# ruff: noqa: E501 - an architecture is a line
from __future__ import annotations

'''

_OF_TREES = "Architectures as trees: children in brackets, ! behind a leaf that is not linear."
_DESCRIBED = {
    "block": "Names of blocks and functions",
    "embedding": "Names of embeddings",
    "norm": "Names of normalisations",
}


def _walk() -> Iterator[tuple[str, tuple[dict[str, str], str]]]:
    """Yield each class, the kinds of its modules by path, and the name of its input embedding."""
    import torch
    import transformers
    from transformers.models.auto import modeling_auto

    transformers.logging.set_verbosity_error()
    mappings = [
        getattr(modeling_auto, name)
        for name in dir(modeling_auto)
        if re.fullmatch(r"MODEL_(.*_)?MAPPING_NAMES", name)
    ]
    entries = (names for mapping in mappings for names in mapping.values())
    classes = {n for names in entries for n in ([names] if isinstance(names, str) else names)}
    signal.signal(signal.SIGALRM, _late)
    for name in sorted(classes):
        for shrunk in (True, False):
            try:
                signal.alarm(SECONDS_OF_A_CLASS)
                cls = getattr(transformers, name)
                config = cls.config_class()
                if shrunk:
                    _shrink(config)
                with torch.device("meta"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model = cls(config)
            except Exception:  # noqa: BLE001, S112 - other packages or settings are needed
                continue
            finally:
                signal.alarm(0)
            yield name, (_kinds(model), _input_embedding(model))
            break


def _late(*_: object) -> None:
    raise TimeoutError


def _shrink(config: Any, depth: int = 0) -> None:
    """Leave two layers of a configuration and of the configurations in it."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type") and depth < 4:
            _shrink(value, depth + 1)
        elif NAMES_OF_COUNTS.fullmatch(name) and type(value) is int and value > LAYERS:
            setattr(config, name, LAYERS)


def _kinds(model: nn.Module) -> dict[str, str]:
    """Return `{path: kind}`; a path is not linear if one of its numbers leads elsewhere."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds: dict[str, str] = {}
    for path, part in model.named_modules():
        kind = "block"
        if isinstance(part, (nn.Linear, nn.Conv2d, Conv1D)):
            kind = "linear"
        elif isinstance(part, nn.Embedding):
            kind = "embedding"
        elif "Norm" in type(part).__name__:
            kind = "norm"
        general = ".".join("0" if step.isdigit() else step for step in path.split("."))
        if path:
            kinds[general] = kind if kinds.get(general, kind) == kind else "block"
    return kinds


def _input_embedding(model: Any) -> str:
    try:
        embedding = model.get_input_embeddings()
    except Exception:  # noqa: BLE001 - some models have none
        return ""
    is_table = type(embedding).__name__ == "Embedding"
    found = (path for path, part in model.named_modules() if part is embedding and is_table)
    return next(found, "").rpartition(".")[2]


def _tree(paths: dict[str, str]) -> str:
    """Return the modules as a tree; see `TREES`."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for part in path.split("."):
            node = node.setdefault(part, {})

    def lines(node: dict[str, Any], above: str) -> str:
        found = []
        for name, inner in node.items():
            path = f"{above}{name}"
            if inner:
                found.append(f"{name}({lines(inner, f'{path}.')})")
            else:
                found.append(name if paths[path] == "linear" else f"{name}!")
        return " ".join(found)

    return lines(tree, "")


def _names(variable: str, names: Iterable[str], described: str) -> str:
    return f'{variable} = """\n{_wrapped(" ".join(sorted(names)))}\n"""\n"""{described}"""\n'


def _wrapped(words: str) -> str:
    return "\n".join(
        textwrap.wrap(
            words, 98, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False
        )
    )


if __name__ == "__main__":
    print(module())
