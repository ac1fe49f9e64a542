namespace Krewe.Model.Checkpoints;

/// <summary>Released tensor names of one layer (<c>model.layers.{i}.</c>).</summary>
/// <param name="Index">Layer index; MTP modules follow the last layer.</param>
public readonly record struct LayerNames(int Index)
{
    /// <summary>Norm before attention.</summary>
    public string InputLayernorm => Of("input_layernorm");

    /// <summary>Norm before the MLP.</summary>
    public string PostAttentionLayernorm => Of("post_attention_layernorm");

    /// <summary>Plain query projection, where there is no query latent.</summary>
    public string QProj => Of("self_attn.q_proj");

    /// <summary>Query down-projection.</summary>
    public string QAProj => Of("self_attn.q_a_proj");

    /// <summary>Norm of the query latent.</summary>
    public string QALayernorm => Of("self_attn.q_a_layernorm");

    /// <summary>Query up-projection.</summary>
    public string QBProj => Of("self_attn.q_b_proj");

    /// <summary>Key-value down-projection with the shared rotary key: rows [latent | rope].</summary>
    public string KvAProjWithMqa => Of("self_attn.kv_a_proj_with_mqa");

    /// <summary>Norm of the key-value latent.</summary>
    public string KvALayernorm => Of("self_attn.kv_a_layernorm");

    /// <summary>Key-value up-projection: rows per head [nope key | value].</summary>
    public string KvBProj => Of("self_attn.kv_b_proj");

    /// <summary>Output projection of attention.</summary>
    public string OProj => Of("self_attn.o_proj");

    /// <summary>The gate's matrix.</summary>
    public string Gate => Of("mlp.gate");

    /// <summary>The gate's float32 bias.</summary>
    public string ScoreCorrectionBias => $"model.layers.{Index}.mlp.gate.e_score_correction_bias";

    /// <summary>The dense MLP.</summary>
    public FeedForwardNames Mlp => new($"model.layers.{Index}.mlp");

    /// <summary>The shared expert.</summary>
    public FeedForwardNames SharedExperts => new($"model.layers.{Index}.mlp.shared_experts");

    /// <summary>MTP: norm of the embedding.</summary>
    public string Enorm => Of("enorm");

    /// <summary>MTP: norm of the hidden state.</summary>
    public string Hnorm => Of("hnorm");

    /// <summary>MTP: projection of [embedding; hidden], in that order.</summary>
    public string EhProj => Of("eh_proj");

    /// <summary>MTP: norm before the shared head.</summary>
    public string SharedHeadNorm => Of("shared_head.norm");

    /// <summary>MTP: copy of the head.</summary>
    public string SharedHeadHead => Of("shared_head.head");

    /// <summary>MTP: copy of the embedding table.</summary>
    public string EmbedTokens => Of("embed_tokens");

    /// <summary>Routed expert <paramref name="expert"/>.</summary>
    public FeedForwardNames Expert(int expert) => new($"model.layers.{Index}.mlp.experts.{expert}");

    private string Of(string part) => $"model.layers.{Index}.{part}.weight";
}

/// <summary>Names of the three matrices of a SwiGLU MLP.</summary>
/// <param name="Prefix">Everything before the matrix.</param>
public readonly record struct FeedForwardNames(string Prefix)
{
    /// <summary>w1, the gate [F, D].</summary>
    public string GateProj => $"{Prefix}.gate_proj.weight";

    /// <summary>w3, the value [F, D].</summary>
    public string UpProj => $"{Prefix}.up_proj.weight";

    /// <summary>w2, back to the residual stream [D, F].</summary>
    public string DownProj => $"{Prefix}.down_proj.weight";
}
