"""List the names of modules in the architectures of transformers, where 0 is any number.

`python tools/regenerate.py modules` writes this file.
"""

# ruff: noqa: E501 - an architecture is a line
from __future__ import annotations

TRANSFORMERS = "5.25.0"
"""The release that was walked."""

ARCHITECTURES = 1475
"""The number of model classes that were walked."""

LINEAR = """
Wi Wk Wo Wq Wqkv Wv a_proj acoustic_linear_1 acoustic_linear_2 action_in_proj action_out_proj
 action_time_mlp_in action_time_mlp_out adaln_proj att_proj attention_out attention_weights
 attn_layer attr audio_enc_to_dec_proj audio_latent_proj audio_lm_head audio_prompt_proj b_proj
 bbox_projection block_inject_weight box_fc box_linear_embeddings boxes_direct_project
 boxes_pool_project boxes_pos_enc_project bpe_head c_attn c_fc c_proj char_head class_embed
 class_predictor classifier cls_classifier codec_head cond_proj conv conv1 conv2 conv2d1 conv2d2
 conv2d3 conv3 conv_1 conv_2 conv_3 conv_4 conv_a conv_after_body conv_b conv_before_upsample
 conv_descriptor_a conv_descriptor_b conv_in conv_kernel_layer conv_out conv_out_layer conv_s0
 conv_s1 conv_score_a conv_score_b conv_up conv_upsampler1 conv_upsampler2 convnet_1x1 convolution
 convolution1 convolution2 convolution3 convolution_0 convolutional_layer3 correction_coefs
 cross_modal_image_transform cross_modal_text_transform ctc_head ctc_proj data_proj decoder
 decoder_embed decoder_pred decoder_projector dense dense0 dense1 dense2 dense_0 dense_1
 dense_4h_to_h dense_h_to_4h dense_prediction depth_wise_conv depthwise_conv depthwise_convolution
 dist_head distillation_classifier down_proj down_proj_for_speech down_proj_for_vision_speech
 downsample downsampler1 downsampler2 dt_proj duration_delta_proj dwconv e2e_query e2w_query
 embed_action embed_out embed_return embed_state embedding embedding_hidden_mapping_in
 embedding_proj_layer embedding_projection embedding_transformation embeddings_project enc_output
 enc_score_head enc_to_dec_proj encoder_projector encoder_to_decoder end_classifier
 entity_embedding_dense eos_head expand expand_conv f_a_proj f_b_proj f_proj fc fc1 fc2 fc3
 fc_encoder fc_in fc_out feat feat_out feature_extractor feature_projection ffn ffn_output
 ffw_layer_1 ffw_layer_2 fgate_preact final final_conv final_convolution final_layer final_proj
 final_projection first_convolution fuse_image_with_low_res g_a_proj g_b_proj g_proj gate
 gate_proj gate_up_proj generator_lm_head grid_encoder_conv gru_rel_pos_linear head head_linear
 hidden_to_hidden horizontal_conv igate_preact image_projection image_to_mm_projection
 img_projection_down img_projection_up in_conv in_proj in_proj_a in_proj_b in_proj_ba in_proj_qkv
 in_proj_qkvz in_proj_z inner2emb input input_embedding input_layer input_linear
 input_mix_weight_down input_mix_weight_up input_proj input_proj_linear input_projection
 input_to_hidden inputs_embeds_projector instance_projection intermediate intermediate_dense
 inverse_trans_compression inverse_trans_expansion itm_head k k_head k_lin k_proj kernel key
 key_global key_proj key_protein kv_a_proj_with_mqa kv_b_proj kv_proj label_features_projection
 language_projection last_convolution layer layer1 layer2 layer3 layer_1 layer_2 layout_key
 layout_query layout_value lin1 lin2 linear linear1 linear2 linear_1 linear_2 linear_end
 linear_fc1 linear_fc2 linear_fuse linear_hidden linear_in linear_k linear_left linear_out
 linear_pos linear_q linear_right linear_start linear_v linear_x linear_y lm_head lm_loss
 logit_scale logit_shift logits_dense logits_proj main_conv map_inputs_layer map_scale_compression
 map_scale_expansion mask_conv1 mask_conv2 mask_downsample mask_projection matchability
 merge_linear_1 merge_linear_2 merging_layer message_fc mlp_fc2 modality_projection
 modality_router multi_modal_projector multimodal_projector nin_shortcut noisy_images_proj
 num_speakers_proj o o_a_proj o_b_proj o_proj obj ogate_preact out out_conv out_conv1 out_conv2
 out_conv3 out_lin out_mid out_proj out_text_proj out_vision_proj output output_dense output_gate
 output_layer output_linear output_proj output_projection patch_conv patch_embed patch_embedding
 patch_embedding_projection patch_embeddings patch_projection patcher per_layer_input_gate
 per_layer_model_projection per_layer_projection point_wise_conv1 point_wise_conv2 pointwise_conv
 pointwise_conv1 pointwise_conv2 pointwise_convolution pointwise_lin1 pointwise_lin2 pooler
 pos_proj post post_conv post_expert_proj post_proj post_projection post_quant_conv pre_classifier
 pre_expert_proj pre_projection predict_return predict_state prediction_coefs predictor_embeddings
 prob_out proj proj1 proj2 proj_conv proj_down proj_in proj_out proj_up proj_up_gate project
 project_conv project_hid project_in project_k project_out project_q project_v projection
 projection_context projection_in projection_key projection_layer projection_out projection_query
 projection_value projector protein_projector pwconv1 pwconv2 q q_a_proj q_aggregation q_b_proj
 q_gate_proj q_head q_lin q_proj qa_outputs qkv qkv_proj quant_conv query query_features_proj
 query_global query_input_projection query_key query_key_value query_proj query_updater r_proj
 receptance reduce reduction rel_pos_bias rel_pos_x_bias rel_pos_y_bias relative_k_proj
 relative_pos_embeddings residual_layer router sampling_offsets score semantic_linear_1
 semantic_linear_2 semantic_projection seq_relationship sequence_reduction shared_expert_gate
 sink_proj spatial_conv spatial_features_proj spatial_proj spatial_reduction speaker_embeds_layer
 speaker_proj sr start_classifier state_proj summary temporal_dense
 temporal_positional_encoding_projection_layer text_proj text_projection text_to_mm_projection
 thinker_to_talker_proj time_mlp_in time_mlp_out to_k to_key to_kv to_out to_q to_query to_v token
 top_conv transformation unembedding_projection up_proj up_proj_for_speech
 up_proj_for_vision_speech v v_head v_lin v_proj v_proj_current v_proj_delayed value value_global
 value_proj value_protein values_text_proj values_vision_proj vertical_conv video_patch_projection
 vision_embed_tokens vision_head vision_proj vision_projection visual_embeddings_table
 visual_projection vocab_projector vocab_transform w1 w2 w2e_query w3 w_0 w_1 w_out weight_proj
 weights_proj wi wi_0 wi_1 wk wo wp_head wq_b x_proj xpath_unitseq2_embeddings
 xpath_unitseq2_inner
"""
"""Last parts of paths of linear and convolutional modules."""

TOP = """
action_out_proj audio_enc_to_dec_proj audio_latent_proj audio_lm_head audio_prompt_proj bpe_head
 char_head class_embed class_predictor classifier cls_classifier conv2d1 conv2d2 conv2d3
 conv_after_body conv_out cross_modal_image_transform cross_modal_text_transform ctc_head ctc_proj
 decoder dense dist_head distillation_classifier downsample duration_delta_proj embed_action
 embed_out embed_return embed_state embedding_proj_layer embedding_projection embeddings_project
 enc_output enc_score_head enc_to_dec_proj encoder_projector encoder_to_decoder eos_head fc fc1
 fc2 fc_encoder feature_extractor feature_projection first_convolution generator_lm_head head
 image_projection image_to_mm_projection input_linear itm_head language_projection
 last_convolution lm_head lm_loss logits_dense logits_proj mask_downsample multi_modal_projector
 num_speakers_proj out out_mid output output_proj output_projection patch_conv patch_embed
 patch_embedding per_layer_model_projection pooler post_projection post_quant_conv pre_classifier
 pre_projection predict_return predict_state proj proj_out project_hid project_q projection
 projector qa_outputs quant_conv query_features_proj query_updater score spatial_features_proj
 speaker_proj temporal_positional_encoding_projection_layer text_projection text_to_mm_projection
 unembedding_projection vision_embed_tokens vision_projection visual_projection vocab_projector
 vocab_transform wp_head
"""
"""Linear and convolutional modules at the top of a model."""

INPUT_EMBEDDINGS = """
embed_in embed_tokens embeddings input_embedding shared tok_embeddings token_embedding
 tokens_embed w word_embedding word_embeddings wte
"""
"""Last parts of paths of input embeddings."""

BLOCKS = """
DenseReluDense EncDecAttention SelfAttention act act1 act_fn activation activation1 activation2
 activation_fn activation_function aifi attention_dropout attentions attn attn_dropout attn_hc
 attn_norm audio_tower avg_pool avg_pooler backbone bbox_embed bert block blocks bottlenecks cls
 conv1d conv_layers conv_module conv_stem convolutions convs cross_attention cross_attn
 crossattention decoder_input_proj downsample_convs downsampling_layer drop drop_path dropout
 dropout1 dropout2 enc_bbox_head encode_positions encoder_attn encoder_input_proj experts
 feed_forward feed_forward1 feed_forward2 ff ffn1 ffn2 ffn_hc ffns first_dropout fpn_blocks glu h
 hc_head hidden_dropout hidden_states_norms intermediate_act_fn intermediate_dropout
 intermediate_query lab language_model last_dropout lateral_convs layer_scale1 layer_scale2 layers
 linear_attn lstm mamba mask_decoder mask_embed mlp out_drop output_dropout output_query padding
 pan_blocks parametrizations patch_embedder patch_merger pos_conv_embed position_encoding
 post_attention_dropout post_mlp_dropout projection_dropout qformer quantizer query_pos_head
 relative_position_bias resid_attn_dropout resid_dropout residual_layer1 residual_layer2 roberta
 rotary_emb rotary_pos_emb score_fn self self_attention self_attn self_attn_dropout
 sequence_summary shared_expert shared_experts softmax stages stem1 stem2a stem2b stem3 stem4
 subsampling swin text_decoder text_encoder text_model transform_act_fn transformer upsampler
 vision_encoder vision_model vision_tower
"""
"""Names of blocks and functions that are never linear."""

EMBEDDINGS = """
denoising_class_embed embed_positions embed_tokens h_position_embeddings pos_embed
 position_embedding position_embeddings relative_attention_bias tok_embeddings token_embedding
 token_type_embeddings w_position_embeddings word_embeddings wpe wte x_position_embeddings
 y_position_embeddings
"""
"""Names of embeddings that are never linear."""

NORMS = """
LayerNorm batch_norm cross_attention_layer_norm cross_attn_layer_norm embed_norm embedding_norm
 encoder_attn_layer_norm ffn1_layer_norm ffn2_layer_norm ffn_norm final_layer_norm final_layernorm
 final_norm input_layernorm input_norm k_layernorm k_norm kv_a_layernorm layer_norm layer_norm1
 layer_norm2 layer_norm3 layer_norm_emb layernorm layernorm1 layernorm2 layernorm_after
 layernorm_before layernorm_embedding ln ln_1 ln_2 ln_f ln_post ln_pre ln_q mlp_norm norm norm1
 norm2 norm_conv norm_f norm_feed_forward1 norm_feed_forward2 norm_out norm_self_att normalization
 o_norm post_attention_layernorm post_feedforward_layernorm post_layernorm post_mlp_layernorm
 post_projection_norm post_self_attn_layernorm pre_feedforward_layernorm pre_ff_layernorm
 pre_layernorm pre_layrnorm pre_norm q_a_layernorm q_layernorm q_norm qk_norm self_attn_layer_norm
 stage4 v_norm
"""
"""Names of normalisations that are never linear."""

TREES = """
LlamaForCausalLM lm_head model(embed_tokens! layers(0(input_layernorm! mlp(act_fn! down_proj gate_proj up_proj) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!)
LlamaModel embed_tokens! layers(0(input_layernorm! mlp(act_fn! down_proj gate_proj up_proj) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!
GPT2LMHeadModel lm_head transformer(drop! h(0(attn(attn_dropout! c_attn c_proj resid_dropout!) ln_1! ln_2! mlp(act! c_fc c_proj dropout!))) ln_f! wpe! wte!)
BertForSequenceClassification bert(embeddings(LayerNorm! dropout! position_embeddings! token_type_embeddings! word_embeddings!) encoder(layer(0(attention(output(LayerNorm! dense dropout!) self(dropout! key query value)) intermediate(dense intermediate_act_fn!) output(LayerNorm! dense dropout!)))) pooler(activation! dense)) classifier dropout!
T5ForConditionalGeneration decoder(block(0(layer(0(DenseReluDense(act! dropout! wi wo) EncDecAttention(k o q v) SelfAttention(k o q relative_attention_bias! v) dropout! layer_norm!)))) dropout! embed_tokens! final_layer_norm!) encoder(block(0(layer(0(DenseReluDense(act! dropout! wi wo) SelfAttention(k o q relative_attention_bias! v) dropout! layer_norm!)))) dropout! embed_tokens! final_layer_norm!) lm_head shared!
RobertaForSequenceClassification classifier(dense dropout! out_proj) roberta(embeddings(LayerNorm! dropout! position_embeddings! token_type_embeddings! word_embeddings!) encoder(layer(0(attention(output(LayerNorm! dense dropout!) self(dropout! key query value)) intermediate(dense intermediate_act_fn!) output(LayerNorm! dense dropout!)))))
OPTForCausalLM lm_head model(decoder(embed_positions! embed_tokens! final_layer_norm! layers(0(activation_fn! fc1 fc2 final_layer_norm! self_attn(k_proj out_proj q_proj v_proj) self_attn_layer_norm!))))
GPTNeoXForCausalLM gpt_neox(emb_dropout! embed_in! final_layer_norm! layers(0(attention(dense query_key_value) input_layernorm! mlp(act! dense_4h_to_h dense_h_to_4h) post_attention_dropout! post_attention_layernorm! post_mlp_dropout!)) rotary_emb!) lm_head
GPTJForCausalLM lm_head transformer(drop! h(0(attn(k_proj out_proj q_proj resid_dropout! v_proj) ln_1! mlp(act! dropout! fc_in fc_out))) ln_f! rotary_emb! wte!)
BloomForCausalLM lm_head transformer(h(0(input_layernorm! mlp(dense_4h_to_h dense_h_to_4h gelu_impl!) post_attention_layernorm! self_attention(attention_dropout! dense query_key_value))) ln_f! word_embeddings! word_embeddings_layernorm!)
FalconForCausalLM lm_head transformer(h(0(input_layernorm! mlp(act! dense_4h_to_h dense_h_to_4h) self_attention(dense query_key_value))) ln_f! rotary_emb! word_embeddings!)
PhiForCausalLM lm_head model(embed_dropout! embed_tokens! final_layernorm! layers(0(input_layernorm! mlp(activation_fn! fc1 fc2) resid_dropout! self_attn(dense k_proj q_proj v_proj))) rotary_emb!)
Phi3ForCausalLM lm_head model(embed_tokens! layers(0(input_layernorm! mlp(activation_fn! down_proj gate_up_proj) post_attention_layernorm! resid_attn_dropout! resid_mlp_dropout! self_attn(o_proj qkv_proj))) norm! rotary_emb!)
MptForCausalLM lm_head transformer(blocks(0(attn(Wqkv out_proj) ffn(act! down_proj up_proj) norm_1! norm_2! resid_attn_dropout!)) norm_f! wte!)
MixtralForCausalLM lm_head model(embed_tokens! layers(0(input_layernorm! mlp(experts(act_fn!) gate!) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!)
Qwen2MoeForCausalLM lm_head model(embed_tokens! layers(0(input_layernorm! mlp(experts(act_fn!) gate! shared_expert(act_fn! down_proj gate_proj up_proj) shared_expert_gate) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!)
DeepseekV3ForCausalLM lm_head model(embed_tokens! layers(0(input_layernorm! mlp(act_fn! down_proj gate_proj up_proj) post_attention_layernorm! self_attn(kv_a_layernorm! kv_a_proj_with_mqa kv_b_proj o_proj q_a_layernorm! q_a_proj q_b_proj))) norm! rotary_emb!)
GemmaForCausalLM lm_head model(embed_tokens! layers(0(input_layernorm! mlp(act_fn! down_proj gate_proj up_proj) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!)
MambaForCausalLM backbone(embeddings! layers(0(mixer(act! conv1d! dt_proj in_proj out_proj x_proj) norm!)) norm_f!) lm_head
DistilBertForSequenceClassification classifier distilbert(embeddings(LayerNorm! dropout! position_embeddings! word_embeddings!) transformer(layer(0(attention(dropout! k_lin out_lin q_lin v_lin) ffn(activation! dropout! lin1 lin2) output_layer_norm! sa_layer_norm!)))) dropout! pre_classifier
DebertaV2ForSequenceClassification classifier deberta(embeddings(LayerNorm! dropout! position_embeddings! word_embeddings!) encoder(layer(0(attention(output(LayerNorm! dense dropout!) self(dropout! key_proj query_proj value_proj)) intermediate(dense intermediate_act_fn!) output(LayerNorm! dense dropout!))))) dropout! pooler(dense dropout!)
ElectraForSequenceClassification classifier(activation! dense dropout! out_proj) electra(embeddings(LayerNorm! dropout! position_embeddings! token_type_embeddings! word_embeddings!) embeddings_project encoder(layer(0(attention(output(LayerNorm! dense dropout!) self(dropout! key query value)) intermediate(dense intermediate_act_fn!) output(LayerNorm! dense dropout!)))))
AlbertForSequenceClassification albert(embeddings(LayerNorm! dropout! position_embeddings! token_type_embeddings! word_embeddings!) encoder(albert_layer_groups(0(albert_layers(0(activation! attention(LayerNorm! attention_dropout! dense key output_dropout! query value) dropout! ffn ffn_output full_layer_layer_norm!)))) embedding_hidden_mapping_in) pooler pooler_activation!) classifier dropout!
XLNetForSequenceClassification logits_proj sequence_summary(activation! first_dropout! last_dropout! summary) transformer(dropout! layer(0(dropout! ff(activation_function! dropout! layer_1 layer_2 layer_norm!) rel_attn(dropout! layer_norm!))) word_embedding!)
ModernBertForSequenceClassification classifier drop! head(act! dense norm!) model(embeddings(drop! norm! tok_embeddings!) final_norm! layers(0(attn(Wo Wqkv out_drop!) attn_norm! mlp(Wi Wo act! drop!) mlp_norm!)) rotary_emb!)
BartForConditionalGeneration lm_head model(decoder(embed_positions! embed_tokens! layernorm_embedding! layers(0(activation_fn! encoder_attn(k_proj out_proj q_proj v_proj) encoder_attn_layer_norm! fc1 fc2 final_layer_norm! self_attn(k_proj out_proj q_proj v_proj) self_attn_layer_norm!))) encoder(embed_positions! embed_tokens! layernorm_embedding! layers(0(activation_fn! fc1 fc2 final_layer_norm! self_attn(k_proj out_proj q_proj v_proj) self_attn_layer_norm!))) shared!)
WhisperForConditionalGeneration model(decoder(embed_positions! embed_tokens! layer_norm! layers(0(activation_fn! encoder_attn(k_proj out_proj q_proj v_proj) encoder_attn_layer_norm! fc1 fc2 final_layer_norm! self_attn(k_proj out_proj q_proj v_proj) self_attn_layer_norm!))) encoder(conv1! conv2! embed_positions! layer_norm! layers(0(activation_fn! fc1 fc2 final_layer_norm! self_attn(k_proj out_proj q_proj v_proj) self_attn_layer_norm!)))) proj_out
Wav2Vec2ForCTC dropout! lm_head wav2vec2(encoder(dropout! layer_norm! layers(0(attention(k_proj out_proj q_proj v_proj) dropout! feed_forward(intermediate_act_fn! intermediate_dense intermediate_dropout! output_dense output_dropout!) final_layer_norm! layer_norm!)) pos_conv_embed(activation! conv(parametrizations(weight(0!))) padding!)) feature_extractor(conv_layers(0(activation! conv! layer_norm!))) feature_projection(dropout! layer_norm! projection))
ViTForImageClassification classifier vit(embeddings(dropout! patch_embeddings(projection)) layernorm! layers(0(attention(k_proj o_proj q_proj v_proj) dropout! layernorm_after! layernorm_before! mlp(activation_fn! fc1 fc2))))
SwinForImageClassification classifier swin(embeddings(dropout! norm! patch_embeddings(projection)) encoder(layers(0(blocks(0(attention(k_proj o_proj q_proj relative_position_bias! v_proj) drop_path! dropout! layernorm_after! layernorm_before! mlp(activation_fn! fc1 fc2))) downsample(norm! reduction)))) layernorm! pooler!)
CLIPModel text_model(embeddings(position_embedding! token_embedding!) encoder(layers(0(layer_norm1! layer_norm2! mlp(activation_fn! fc1 fc2) self_attn(k_proj out_proj q_proj v_proj)))) final_layer_norm!) text_projection vision_model(embeddings(patch_embedding position_embedding!) encoder(layers(0(layer_norm1! layer_norm2! mlp(activation_fn! fc1 fc2) self_attn(k_proj out_proj q_proj v_proj)))) post_layernorm! pre_layrnorm!) visual_projection
SegformerForSemanticSegmentation decode_head(activation! batch_norm! classifier dropout! linear_fuse linear_projections(0(proj))) segformer(stages(0(blocks(0(attention(k_proj o_proj q_proj sequence_reduction(layer_norm! sequence_reduction) v_proj) drop_path! hidden_dropout! layernorm_after! layernorm_before! mlp(activation_fn! dropout! dwconv(dwconv) fc1 fc2))) layer_norm! patch_embeddings(layer_norm! proj))))
LlavaForConditionalGeneration lm_head model(language_model(embed_tokens! layers(0(input_layernorm! mlp(act_fn! down_proj gate_proj up_proj) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!) multi_modal_projector(act! linear_1 linear_2) vision_tower(embeddings(patch_embedding position_embedding!) encoder(layers(0(layer_norm1! layer_norm2! mlp(activation_fn! fc1 fc2) self_attn(k_proj out_proj q_proj v_proj)))) post_layernorm! pre_layrnorm!))
Qwen2VLForConditionalGeneration lm_head model(language_model(embed_tokens! layers(0(input_layernorm! mlp(act_fn! down_proj gate_proj up_proj) post_attention_layernorm! self_attn(k_proj o_proj q_proj v_proj))) norm! rotary_emb!) visual(blocks(0(attn(proj qkv) mlp(act! fc1 fc2) norm1! norm2!)) merger(ln_q! mlp(0!)) patch_embed(proj!) rotary_pos_emb!))
"""
"""Architectures as trees: children in brackets, ! behind a leaf that is not linear."""
