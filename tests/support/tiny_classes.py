"""Save tiny models of many of transformers' classes, as `save_pretrained` writes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

_NAMES = """
LlamaForCausalLM GPT2LMHeadModel GPTNeoXForCausalLM GPTNeoForCausalLM GPTJForCausalLM
GPTBigCodeForCausalLM BertForSequenceClassification BertForMaskedLM BertModel
RobertaForSequenceClassification DistilBertForSequenceClassification DebertaV2ForTokenClassification
ElectraForPreTraining ElectraForMaskedLM AlbertForMaskedLM XLNetLMHeadModel ModernBertForMaskedLM
MPNetForMaskedLM SqueezeBertForSequenceClassification LongformerForQuestionAnswering
BigBirdForMaskedLM T5ForConditionalGeneration MT5ForConditionalGeneration T5EncoderModel
BartForConditionalGeneration MBartForConditionalGeneration MarianMTModel
M2M100ForConditionalGeneration PegasusForConditionalGeneration BlenderbotForConditionalGeneration
BioGptForCausalLM OPTForCausalLM BloomForCausalLM PhiForCausalLM Phi3ForCausalLM GemmaForCausalLM
Gemma2ForCausalLM Gemma3ForCausalLM Gemma3ForConditionalGeneration Qwen2ForCausalLM
Qwen3ForCausalLM Qwen2MoeForCausalLM Qwen3MoeForCausalLM MixtralForCausalLM OlmoeForCausalLM
GptOssForCausalLM DeepseekV2ForCausalLM DeepseekV3ForCausalLM JambaForCausalLM GraniteForCausalLM
GraniteMoeForCausalLM MistralForCausalLM StableLmForCausalLM Starcoder2ForCausalLM
CohereForCausalLM Llama4ForCausalLM MambaForCausalLM FalconMambaForCausalLM CodeGenForCausalLM
MptForCausalLM PersimmonForCausalLM Glm4MoeForCausalLM WhisperForConditionalGeneration
Wav2Vec2ForCTC HubertForCTC ViTForImageClassification DeiTForImageClassification
BeitForImageClassification Dinov2ForImageClassification Dinov2Model SwinForImageClassification
Swinv2ForImageClassification SegformerForSemanticSegmentation ConvNextForImageClassification
ResNetForImageClassification DetrForObjectDetection YolosForObjectDetection CLIPModel
CLIPVisionModel SiglipModel LlavaForConditionalGeneration PaliGemmaForConditionalGeneration
Qwen2VLForConditionalGeneration Idefics3ForConditionalGeneration ViltForQuestionAnswering
LayoutLMForTokenClassification PatchTSTForPrediction EsmForMaskedLM SmolLM3ForCausalLM
"""
CLASSES = _NAMES.split()

_SIZES = {
    16: "hidden_size d_model n_embd dim embed_dim word_embed_proj_dim embedding_size "
    "projection_dim",
    24: "intermediate_size ffn_dim d_ff encoder_ffn_dim decoder_ffn_dim n_inner hidden_dim",
    12: "moe_intermediate_size shared_expert_intermediate_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers depth n_heads "
    "num_decoder_layers num_encoder_layers num_attention_heads n_head num_heads eos_token_id "
    "encoder_attention_heads decoder_attention_heads num_experts_per_tok",
    1: "num_key_value_heads n_shared_experts n_group topk_group bos_token_id "
    "decoder_start_token_id",
    8: "head_dim d_kv d_head image_size num_mel_bins kv_lora_rank q_lora_rank qk_rope_head_dim "
    "qk_nope_head_dim v_head_dim",
    4: "patch_size num_experts num_local_experts n_routed_experts",
    40: "vocab_size",
    32: "max_position_embeddings n_positions",
    0: "pad_token_id",
    3: "num_labels",
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
_SPEECH = {
    "conv_dim": [8, 8], "conv_stride": [2, 2], "conv_kernel": [3, 3], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
_WINDOWS = {"depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
_STAGES = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
_OTHERS: dict[str, dict[str, Any]] = {
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]
    },
    "wav2vec2": _SPEECH,
    "hubert": _SPEECH,
    "swin": _WINDOWS,
    "swinv2": _WINDOWS,
    "segformer": {
        "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2],
        "depths": [1, 1, 1, 1], "decoder_hidden_size": 16, "mlp_ratios": [2, 2, 2, 2],
    },
    "convnext": _STAGES,
    "resnet": _STAGES | {"embedding_size": 8},
}  # fmt: skip


def _shrink(config: Any) -> Any:
    kinds = getattr(config, "layer_types", None)
    if kinds and not isinstance(getattr(type(config), "layer_types", None), property):
        config.layer_types = kinds[:2]
    if config.model_type in {"beit", "dinov2", "swin", "swinv2"}:
        config.stage_names = ["stem", "stage1", "stage2"]
        config._out_features, config._out_indices = ["stage2"], [2]
    for name, value in list(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig):
            _shrink(value)
        elif name in _SMALL and (value is None or type(value) is int):
            setattr(config, name, _SMALL[name])
    for name, value in _OTHERS.get(config.model_type, {}).items():
        setattr(config, name, value)
    return config


def _config_of(name: str) -> Any:
    if name == "DetrForObjectDetection":
        backbone = transformers.ResNetConfig(**_OTHERS["resnet"], out_features=["stage4"])
        sizes = {key: value for key, value in _SMALL.items() if "coder" in key or key == "d_model"}
        return transformers.DetrConfig(
            backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False,
            backbone=None, num_queries=5, num_labels=3, **sizes,
        )  # fmt: skip
    return _shrink(getattr(transformers, name).config_class())


def save_tiny(name: str, folder: Path, dtype: torch.dtype = torch.float32, **more: Any) -> Path:
    """Save a tiny model of a class with random weights; `more` are fields of its configuration."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        transformers.logging.disable_progress_bar()
        config = _config_of(name)
        for field, value in more.items():
            setattr(config, field, value)
        getattr(transformers, name)(config).to(dtype).save_pretrained(folder)
    return folder
