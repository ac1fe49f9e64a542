"""Trains the docs-26m sizes with Hugging Face transformers on one GPU: what a Python user would write.

DeepseekV3ForCausalLM with grouped matrix products for the experts, scaled_dot_product_attention, bfloat16 autocast over
float32 weights, fused AdamW, the gradient clipped at a norm of 1. transformers has no multi-token prediction, so the
model here has none: compare with a krewe run whose config says num_nextn_predict_layers 0. Tokens are random.

    python transformers_loop.py [--batch 64] [--length 512] [--steps 30] [--config FILE for krewe, written and left]
"""

import argparse
import json
import statistics
import time

import torch
import transformers
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

WARM_UP = 10
SIZES = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 32,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 128,
    "q_lora_rank": 128,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "qk_nope_head_dim": 64,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 4,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "tie_word_embeddings": False,
}


def build():
    config = DeepseekV3Config(**SIZES, use_cache=False)
    model = DeepseekV3ForCausalLM._from_config(
        config, attn_implementation="sdpa", experts_implementation="grouped_mm")
    return model.to("cuda").train()


def write_config(path):
    """The same model for krewe train --config."""
    keys = dict(
        SIZES, model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"], hidden_act="silu", rms_norm_eps=1e-6,
        rope_theta=10000.0, scoring_func="sigmoid", topk_method="noaux_tc", initializer_range=0.02,
        num_nextn_predict_layers=0, attention_bias=False)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(keys, file, indent=2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--config")
    options = parser.parse_args()
    if options.config:
        write_config(options.config)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = build()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batches = [
        torch.randint(5, SIZES["vocab_size"], (options.batch, options.length), device="cuda") for _ in range(4)]
    times = []
    for step in range(WARM_UP + options.steps):
        torch.cuda.synchronize()
        started = time.perf_counter()
        ids = batches[step % len(batches)]
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    steady = times[WARM_UP:]
    median = statistics.median(steady)
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{parameters / 1e6:.1f} M parameters, no MTP")
    print(
        f"batch {options.batch} x {options.length}: median step {1000 * median:.1f} ms (min {1000 * min(steady):.1f}, "
        f"max {1000 * max(steady):.1f}, n={len(steady)}), {options.batch * options.length / median:.0f} tokens/s, "
        f"peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB, last loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
