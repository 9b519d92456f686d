"""Look up names and paths of modules in the architectures of transformers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache, lru_cache
from typing import Literal

from adalora_core.config.fields import module_names as table
from adalora_core.floor.matching import NOT_IN_NAMES, is_cheap
from adalora_core.floor.module_selection import DEFAULT_TARGETS

Kind = Literal["linear", "embedding", "normalisation", "block"]
"""The kind of module that a name has in every architecture; `linear` if it is one in any."""

Fit = Literal["linear", "refused", "nothing"]
"""The modules that an expression matches: only linear ones in one architecture at least; in each of
them others too; no module of any."""

_LONGEST = 64
_LAYERS = 40
"""Layers that an expression with digits is tried with, where it does not match layer 0."""

_NAMES_OF = {
    "LlamaForCausalLM": r"(meta-)?llama-?(2|3|3\.1|3\.2|3\.3)?-(1|3|7|8|13|70|405)b(-\w+)*"
    r"|mistral-7b(-instruct)?-v0\.\d|qwen(1\.5|2|2\.5|3)-[\d.]+b(-(instruct|chat|base))?"
    r"|gemma-(1\.1-|2-)?\d+b(-it)?|tinyllama(-1\.1b|_v1\.1).*|vicuna-\d+b.*"
    r"|smollm2?-[\d.]+[mb](-instruct)?|stablelm-2-\S+",
    "MixtralForCausalLM": r"mixtral-8x(7|22)b(-instruct)?-v0\.\d",
    "GPT2LMHeadModel": r"(distil)?gpt2(-(medium|large|xl))?|dialogpt-(small|medium|large)",
    "BertForSequenceClassification": r"bert-(base|large)(-\w+)*|bert-tiny|bert_uncased_l-\S+"
    r"|((all|multi-qa|paraphrase)-)?minilm-l\d+\S*",
    "RobertaForSequenceClassification": r"(distil|xlm-)?roberta-(base|large)|(graph)?codebert-base"
    r"|camembert-(base|large)",
    "DistilBertForSequenceClassification": r"distilbert-base(-\w+)*",
    "DebertaV2ForSequenceClassification": r"m?deberta-v[23]-(xsmall|small|base|large|xlarge)",
    "T5ForConditionalGeneration": r"((flan-|m)?t5|codet5)-(small|base|large|3b|11b|xl|xxl)",
    "BartForConditionalGeneration": r"bart-(base|large)(-(cnn|mnli|xsum))?",
    "OPTForCausalLM": r"opt-[\d.]+[mb]",
    "GPTNeoXForCausalLM": r"pythia-[\d.]+[mb](-deduped)?|gpt-neox-20b",
    "GPTJForCausalLM": r"gpt-j-6b",
    "BloomForCausalLM": r"bloomz?(-[\db.m]+)?",
    "FalconForCausalLM": r"falcon-(7|40|180)b(-(instruct|chat))?",
    "PhiForCausalLM": r"phi-(1|1_5|2)",
    "Phi3ForCausalLM": r"phi-3(\.5)?-(mini|medium)(-\d+k)?-instruct|phi-4(-mini-instruct)?",
    "WhisperForConditionalGeneration": r"whisper-(tiny|base|small|medium|large(-v[23])?)(\.en)?",
    "AlbertForSequenceClassification": r"albert-(base|large|xlarge|xxlarge)-v[12]",
    "ElectraForSequenceClassification": r"electra-(small|base|large)-discriminator",
    "Wav2Vec2ForCTC": r"wav2vec2-(base|large)(-\d+h)?",
    "ViTForImageClassification": r"vit-(base|large)-patch\d\d-\d{3}(-in21k)?",
}
"""Which names of published models, without their owner, have which architecture."""

_OTHER_FORMS = {
    "T5ForConditionalGeneration": {"wi_0", "wi_1"},
    "MixtralForCausalLM": {"w1", "w2", "w3"},  # until transformers 5
    "PhiForCausalLM": {"Wqkv", "out_proj"},  # the code beside the weights of 2023
    "ViTForImageClassification": {"query", "key", "value", "dense"},  # until transformers 5
}
"""Linear layers that some models of an architecture have in place of those in the table."""

_TOKEN = re.compile(r"[^\s()!]+|[()!]")

Architecture = tuple[tuple[str, bool], ...]
"""The path of each module, and whether it is linear."""


LINEAR, TOP, INPUT_EMBEDDINGS = (
    frozenset(words.split()) for words in (table.LINEAR, table.TOP, table.INPUT_EMBEDDINGS)
)
"""The names of linear modules, of those at the top of a model, and of input embeddings."""

_KINDS: dict[str, Kind] = dict.fromkeys(table.BLOCKS.split(), "block")
_KINDS |= dict.fromkeys(table.NORMS.split(), "normalisation")
_KINDS |= dict.fromkeys(table.EMBEDDINGS.split(), "embedding")
_KINDS |= dict.fromkeys((*LINEAR, "wqkv", "W_pack"), "linear")  # of code beside weights too


def kind_of(entry: str) -> Kind | None:
    """Return the kind of the module that an entry of a list names, None if none has the name.

    Example:
        >>> kind_of("self_attn.q_proj"), kind_of("embed_tokens"), kind_of("my_layer")
        ('linear', 'embedding', None)
    """
    return _KINDS.get(entry.rpartition(".")[2])


def can_end_a_path(entry: str) -> bool:
    """Return whether the path of a module can end in an entry of a list.

    Example:
        >>> can_end_a_path("q_proj"), can_end_a_path("q_proj "), can_end_a_path(".*q_proj")
        (True, False, False)
    """
    return NOT_IN_NAMES.isdisjoint(entry) and all(entry.split("."))


@cache
def _by_name() -> dict[str, Architecture]:
    trees = (line.partition(" ") for line in table.TREES.strip().splitlines())
    return {name: tuple(_modules(tree)) for name, _, tree in trees}


def linear_layers_of(base_model: str) -> tuple[str, list[str]] | None:
    """Return architecture and names of the linear layers of a published model or of a class.

    None for a name that is not known: a folder, a model of somebody's own, an `Auto` class.

    Example:
        >>> linear_layers_of("openai-community/gpt2")
        ('GPT2LMHeadModel', ['c_attn', 'c_fc', 'c_proj', 'lm_head'])
        >>> linear_layers_of("GPTNeoXForTokenClassification")[0]
        'GPTNeoXForCausalLM'
        >>> linear_layers_of("./my-gpt2") is None
        True
    """
    architecture = _architecture_of(base_model)
    if not architecture:
        return None
    linear = {path.rpartition(".")[2] for path, linear in _by_name()[architecture] if linear}
    return architecture, sorted(linear | _OTHER_FORMS.get(architecture, set()))


def modules_of(base_model: str) -> tuple[str, set[str]]:
    """Return architecture and names of all modules of a published model; both empty: unknown."""
    architecture = _architecture_of(base_model)
    modules = _by_name().get(architecture, ())
    names = {path.rpartition(".")[2] for path, _ in modules}
    names -= {"wi"} if "flan-t5" in base_model.lower() else set()
    return architecture, names | _OTHER_FORMS.get(architecture, set())


def _architecture_of(base_model: str) -> str:
    owner, _, name = base_model.rpartition("/")
    if not re.fullmatch(r"[\w-]*", owner):
        return ""  # a folder
    if (known := _any_name().fullmatch(name.lower())) is not None:
        return known.lastgroup or ""
    family = _FAMILY.sub("", name)
    family = _SAME_AS.get(family, family) if family != name else ""
    return _of_family().get(family, "")


@cache
def _any_name() -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<{each}>{names})" for each, names in _NAMES_OF.items()))


@cache
def _of_family() -> dict[str, str]:
    return {_FAMILY.sub("", each): each for each in reversed(_NAMES_OF)}


_FAMILY = re.compile(r"(LMHead|For[A-Z])\w*$|Model$")
_SAME_AS = {
    **dict.fromkeys(("Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2"), "Llama"),
    **dict.fromkeys(("XLMRoberta", "Camembert"), "Roberta"),
    **dict.fromkeys(("MT5", "UMT5"), "T5"),
}
"""Families whose layers have the names of another one."""


def usual_targets(linear: Collection[str], model_type: str | None = None) -> list[str]:
    """Return the targets that PEFT takes for an architecture, known by its type or its layers.

    Example:
        >>> usual_targets(["c_attn", "c_fc", "c_proj"]), usual_targets(["mix", "look"])
        (['c_attn'], [])
    """
    usual = [DEFAULT_TARGETS.get(model_type or "", ()), *DEFAULT_TARGETS.values()]
    fitting = (names for names in usual if isinstance(names, tuple) and names)
    return list(next((names for names in fitting if set(names) <= set(linear)), ()))


def _modules(tree: str) -> Iterator[tuple[str, bool]]:
    marks = [match[0] for match in _TOKEN.finditer(tree)]
    above: list[str] = []
    for mark, behind in zip(marks, [*marks[1:], ""], strict=True):
        if mark == ")":
            above.pop()
        elif mark not in {"(", "!"}:
            yield ".".join([*above, mark]), behind not in {"(", "!"}
            if behind == "(":
                above.append(mark)


@lru_cache(maxsize=256)
def fit(pattern: str) -> tuple[Fit, str] | None:
    """Return what a valid expression matches as a whole, and one path that shows it.

    None if the expression may take many steps.

    Example:
        >>> fit(r".*[.](q|v)_proj")[0], fit(".*self_attn.*"), fit(".*my_layer")
        ('linear', ('refused', 'model.layers.0.self_attn'), ('nothing', ''))
    """
    if not is_cheap(pattern, _LONGEST, anywhere=False):
        return None
    found = _fit(pattern, "0")
    if found[0] == "nothing" and re.search(r"\d|\\d", pattern):
        numbers = (_fit(pattern, str(number)) for number in range(1, _LAYERS))
        return next((other for other in numbers if other[0] != "nothing"), found)
    return found


def _fit(pattern: str, layer: str) -> tuple[Fit, str]:
    matches = re.compile(pattern).fullmatch
    refused = ""
    for modules in _by_name().values():
        others, linear = [], ""
        for path, is_linear in modules:
            actual = path if layer == "0" else path.replace(".0", f".{layer}")
            if matches(actual) is None:
                continue
            if is_linear:
                linear = actual
            else:
                others.append(actual)
        if linear and not others:
            return "linear", linear
        refused = refused or (others[0] if others else "")
    return ("refused", refused) if refused else ("nothing", "")
