using Krewe.Model.Kernels;

namespace Krewe.Model.Configuration;

/// <content>Sizes and rules that follow from the keys, and the way to and from files.</content>
public sealed partial record ModelConfig
{
    /// <summary>Width of a query or key head: <c>qk_nope_head_dim + qk_rope_head_dim</c>.</summary>
    public int QkHeadDim => QkNopeHeadDim + QkRopeHeadDim;

    /// <summary>Layers with the MTP modules; those have indices from <see cref="NumHiddenLayers"/> on.</summary>
    public int TotalLayers => NumHiddenLayers + NumNextnPredictLayers;

    /// <summary>The query goes through a low-rank latent with its own norm.</summary>
    public bool HasQueryLatent => QLoraRank is > 0;

    /// <summary>Coefficient of the sequence-wise balance loss: 1e-4 where the file is silent (report 4.2).</summary>
    public double SequenceBalanceAlpha => AuxLossAlpha ?? 1e-4;

    /// <summary>The gate has a float32 bias per expert that takes part in the choice alone.</summary>
    public bool HasRoutingBias => NRoutedExperts > 0 && TopkMethod == "noaux_tc";

    /// <summary>MTP reads the hidden state after the final norm.</summary>
    public bool MtpUsesPostNorm => MtpPrevHidden == "post_norm";

    /// <summary>
    /// Factor on q.k before the softmax: (nope + rope)^-0.5, times mscale(factor, mscale_all_dim)^2 under YaRN. For the
    /// 671B model 0.1352338.
    /// </summary>
    public float SoftmaxScale
    {
        get
        {
            double mscale = RopeScaling?.SoftmaxMscale ?? 1;
            return (float)(mscale * mscale / Math.Sqrt(QkHeadDim));
        }
    }

    /// <summary>Sizes and rules of the gate. <c>greedy</c> knows no groups, whatever <c>n_group</c> says.</summary>
    public RoutingShape Routing
    {
        get
        {
            bool grouped = TopkMethod != "greedy";
            return new(
                Experts: NRoutedExperts,
                TopK: NumExpertsPerTok,
                Groups: grouped ? NGroup : 1,
                KeptGroups: grouped ? TopkGroup : 1,
                Softmax: ScoringFunc == "softmax",
                GroupByTopTwo: TopkMethod == "noaux_tc",
                Normalize: NormTopkProb,
                ScalingFactor: (float)RoutedScalingFactor);
        }
    }

    /// <summary>
    /// Whether <paramref name="layer"/> has experts: all but the first dense ones, and every MTP layer, when there are
    /// routed experts at all.
    /// </summary>
    public bool IsMoeLayer(int layer) =>
        NRoutedExperts > 0 && (layer >= FirstKDenseReplace || layer >= NumHiddenLayers);

    /// <summary>Reads <c>config.json</c>.</summary>
    /// <param name="path">The file, or the folder that holds it.</param>
    /// <exception cref="KreweException">
    /// No such file, no JSON, a value of the wrong type, another model family.
    /// </exception>
    public static ModelConfig Load(string path)
    {
        string file = Directory.Exists(path) ? Path.Combine(path, "config.json") : path;
        try
        {
            return Parse(File.ReadAllText(file), file);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new KreweException($"{file}: no such file; give a model folder with a config.json", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"{file}: cannot be read: {exception.Message}", exception);
        }
    }

    /// <summary>Reads the text of a <c>config.json</c>.</summary>
    /// <param name="json">The text.</param>
    /// <param name="where">What the text is, for messages: a file name.</param>
    /// <exception cref="KreweException">As <see cref="Load"/>.</exception>
    public static ModelConfig Parse(string json, string where) => ModelConfigJson.Parse(json, where);

    /// <summary>Writes <c>config.json</c>.</summary>
    /// <param name="path">The file, or an existing folder.</param>
    /// <exception cref="KreweException">The file cannot be written.</exception>
    public void Save(string path)
    {
        string file = Directory.Exists(path) ? Path.Combine(path, "config.json") : path;
        try
        {
            File.WriteAllText(file, ToJson() + "\n");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new KreweException($"{file}: cannot be written: {exception.Message}", exception);
        }
    }

    /// <summary>
    /// The text of a <c>config.json</c>: of a loaded config the file it came from, with the changed keys alone
    /// replaced; of a config made in code every key.
    /// </summary>
    public string ToJson() => ModelConfigJson.Write(this);

    /// <summary>Every fault at once, each naming its keys and values; empty where the config is sound.</summary>
    public IReadOnlyList<string> Validate() => ModelConfigValidator.Faults(this);

    /// <summary>Fails on an unsound config, with all faults on one line.</summary>
    /// <param name="where">What the config came from: a file or preset name.</param>
    /// <exception cref="KreweException">There are faults.</exception>
    public void ThrowIfInvalid(string where)
    {
        IReadOnlyList<string> faults = Validate();
        if (faults.Count > 0)
        {
            throw new KreweException($"{where}: {string.Join("; ", faults)}");
        }
    }
}
