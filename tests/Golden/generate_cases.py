"""Writes the small reference models below cases/ with Hugging Face transformers (5.17) and PyTorch (2.11), float32, CPU.

    python3 generate_cases.py OUTPUT_FOLDER

Nothing in the build or the tests runs it. Each case is a checkpoint with released names and a reference.safetensors with
inputs, hidden states, routing, logits, losses and gradients, of shapes and rules that the larger references lack.
"""
import json
import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RMSNorm

OUT = sys.argv[1]
KEYS = """vocab_size hidden_size intermediate_size moe_intermediate_size num_hidden_layers num_attention_heads
num_key_value_heads n_shared_experts n_routed_experts routed_scaling_factor kv_lora_rank q_lora_rank qk_rope_head_dim
v_head_dim qk_nope_head_dim n_group topk_group num_experts_per_tok first_k_dense_replace norm_topk_prob hidden_act
max_position_embeddings initializer_range rms_norm_eps bos_token_id eos_token_id tie_word_embeddings attention_bias
topk_method""".split()


def released(state):
    """Fused expert tensors of transformers under the names of the released checkpoints."""
    result = {}
    for name, value in state.items():
        if name.endswith("experts.gate_up_proj"):
            prefix = name[: -len("gate_up_proj")]
            for expert in range(value.shape[0]):
                gate, up = value[expert].chunk(2, 0)
                result[f"{prefix}{expert}.gate_proj.weight"] = gate
                result[f"{prefix}{expert}.up_proj.weight"] = up
        elif name.endswith("experts.down_proj"):
            prefix = name[: -len("down_proj")]
            for expert in range(value.shape[0]):
                result[f"{prefix}{expert}.down_proj.weight"] = value[expert]
        elif "inv_freq" not in name:
            result[name] = value
    return {name: value.detach().clone().contiguous() for name, value in result.items()}


class Mtp(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.enorm = DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.hnorm = DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.layer = DeepseekV3DecoderLayer(config, layer)
        self.norm = DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, previous, embedding, rotary, mask):
        joined = self.eh_proj(torch.cat([self.enorm(embedding), self.hnorm(previous)], -1))
        return self.layer(joined, attention_mask=mask, position_embeddings=rotary)


def mtp_name(layer, name):
    if name.startswith("layer."):
        name = name[len("layer."):]
    elif name == "norm.weight":
        name = "shared_head.norm.weight"
    return f"model.layers.{layer}.{name}"


def randomize(module):
    with torch.no_grad():
        for name, value in list(module.named_parameters()) + list(module.named_buffers()):
            if "inv_freq" in name:
                continue
            if name.endswith("e_score_correction_bias"):
                value.normal_(0, 0.2)
            elif "norm" in name:
                value.normal_(1, 0.2)
            else:
                value.normal_(0, 0.08)


def case(name, kind, batch, length, seed, depths=0, previous="pre_norm", yarn=None, **options):
    torch.manual_seed(seed)
    base = dict(
        vocab_size=97, hidden_size=64, intermediate_size=80, moe_intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_shared_experts=1, n_routed_experts=8, routed_scaling_factor=1.5,
        kv_lora_rank=16, q_lora_rank=24, qk_rope_head_dim=8, v_head_dim=16, qk_nope_head_dim=16, n_group=1, topk_group=1,
        num_experts_per_tok=2, first_k_dense_replace=1, norm_topk_prob=True, max_position_embeddings=128,
        tie_word_embeddings=False, rope_parameters=yarn or {"rope_type": "default", "rope_theta": 10000.0})
    base.update(options)
    v2 = kind == "v2"
    config = (DeepseekV2Config if v2 else DeepseekV3Config)(**base)
    config._attn_implementation = "eager"
    model = (DeepseekV2ForCausalLM if v2 else DeepseekV3ForCausalLM)(config).float()
    model.set_attn_implementation("eager")
    randomize(model)
    modules = [Mtp(config, config.num_hidden_layers + depth).float() for depth in range(depths)]
    for module in modules:
        randomize(module)
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    state = released(model.state_dict())
    for depth, module in enumerate(modules):
        layer = config.num_hidden_layers + depth
        state.update(released({mtp_name(layer, key): value for key, value in module.state_dict().items()}))
    save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
    written = {key: getattr(config, key) for key in KEYS if hasattr(config, key)}
    written.update(
        architectures=["DeepseekV2ForCausalLM" if v2 else "DeepseekV3ForCausalLM"], model_type="deepseek_v2" if v2 else
        "deepseek_v3", scoring_func="softmax" if v2 else "sigmoid", moe_layer_freq=1, torch_dtype="float32", rope_theta=10000.0,
        rope_scaling=None, num_nextn_predict_layers=depths, mtp_prev_hidden=previous)
    if v2:
        # transformers' V2 leaves the chosen scores as they are, as the released code does.
        written.update(norm_topk_prob=False)
    else:
        written.update(topk_method="noaux_tc")
    if yarn:
        scaling = {key: value for key, value in yarn.items() if key not in ("rope_type", "rope_theta")}
        written["rope_scaling"] = {"type": "yarn", **scaling}
    json.dump(written, open(f"{folder}/config.json", "w"), indent=1)

    ids = torch.randint(0, config.vocab_size, (batch, length))
    reference = {"input_ids": ids}
    hidden = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda m, a, o: hidden.append(o[0] if isinstance(o, tuple) else o))
    final = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(final)
    for layer, value in enumerate(hidden):
        reference[f"layer_output.{layer}"] = value
    reference["final_hidden"], reference["logits"] = final, logits
    vocabulary = config.vocab_size
    main = F.cross_entropy(logits[:, :-1].reshape(-1, vocabulary), ids[:, 1:].reshape(-1))
    reference["loss_main"] = main.reshape(1)
    total, chain = 0, final if previous == "post_norm" else hidden[-1]
    for k, module in enumerate(modules, 1):
        rows = length - k
        rotary = model.model.rotary_emb(chain, position_ids=torch.arange(rows)[None])
        mask = torch.triu(torch.full((rows, rows), float("-inf")), 1)[None, None]
        stream = module(chain[:, :rows], model.model.embed_tokens(ids[:, k:]), rotary, mask)
        normed = module.norm(stream)
        out = model.lm_head(normed)
        reference[f"mtp_logits.{k}"] = out
        loss = F.cross_entropy(out[:, :-1].reshape(-1, vocabulary), ids[:, k + 1:].reshape(-1))
        reference[f"mtp_loss.{k}"] = loss.reshape(1)
        total = total + loss
        chain = normed if previous == "post_norm" else stream
    loss = main + (0.3 / max(1, depths)) * total
    reference["loss_total"] = loss.reshape(1)
    loss.backward()

    def gradients(module):
        return {key: value.grad if value.grad is not None else torch.zeros_like(value)
                for key, value in module.named_parameters()}

    grads = released(gradients(model))
    for depth, module in enumerate(modules):
        layer = config.num_hidden_layers + depth
        grads.update(released({mtp_name(layer, key): value for key, value in gradients(module).items()}))
    reference.update({f"grad.{key}": value for key, value in grads.items()})
    save_file({key: value.detach().clone().contiguous() for key, value in reference.items()},
              f"{folder}/reference.safetensors")
    print(name, "loss", main.item(), "parameters", sum(value.numel() for value in state.values()), flush=True)


def attempt(*arguments, **options):
    try:
        case(*arguments, **options)
    except Exception as fault:  # One case that this version of transformers cannot build must not lose the others.
        print(arguments[0], "FAILED", repr(fault)[:300], flush=True)


torch.set_num_threads(8)
attempt("v2_greedy", "v2", 2, 20, 1, topk_method="greedy", q_lora_rank=None, n_shared_experts=2, n_group=None, topk_group=None)
attempt("v2_groups", "v2", 2, 20, 2, topk_method="group_limited_greedy", n_group=4, topk_group=2, routed_scaling_factor=16.0)
attempt("v3_all_moe", "v3", 3, 13, 3, first_k_dense_replace=0, n_routed_experts=4, num_experts_per_tok=4,
        num_attention_heads=3, num_key_value_heads=3, hidden_size=72, v_head_dim=20, qk_nope_head_dim=12)
attempt("v3_top1", "v3", 1, 33, 4, num_experts_per_tok=1, n_group=4, topk_group=1, norm_topk_prob=True)
attempt("v3_mtp_pre", "v3", 2, 12, 5, depths=2, previous="pre_norm", n_group=2, topk_group=1, num_hidden_layers=1,
        first_k_dense_replace=0)
attempt("v3_yarn", "v3", 1, 70, 7, yarn={
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 32,
    "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 1.0})
attempt("v3_dense", "v3", 2, 10, 8, first_k_dense_replace=2)
