using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <content>What a stage keeps of a micro-batch.</content>
public sealed partial class ModelStage
{
    /// <summary>What one micro-batch or session keeps on this stage.</summary>
    private sealed class Slot(
        Arena arena, List<TransformerBlock> blocks, List<MultiTokenPrediction> modules) : IDisposable
    {
        public Arena Arena { get; } = arena;

        public BlockRunner.Entry[] Blocks { get; } =
            [.. blocks.Select(block => new BlockRunner.Entry(block, new()))];

        public MultiTokenPrediction.State[] Mtp { get; } = [.. modules.Select(_ => new MultiTokenPrediction.State())];

        public OutputHead.State Head { get; } = new();

        /// <summary>Results of a head elsewhere, which come while other work of the micro-batch takes memory.</summary>
        public Arena? Received { get; set; }

        /// <summary>What the last forward reports.</summary>
        public ForwardReport Report { get; set; } = null!;

        public TokenLayout Layout { get; set; } = null!;

        public Tensor Ids { get; set; }

        public Tensor Embeddings { get; set; }

        /// <summary>[T, D]: the main model's last hidden states, once its works were launched.</summary>
        public Tensor Stream => Blocks[^1].State.Output;

        public RmsNorm.Saved Norm { get; set; }

        public Tensor GradNormed { get; set; }

        public Tensor MainTargets { get; set; }

        /// <summary>Gradients of the last block's output and of the embeddings, from the heads or the next stage.</summary>
        public StageActivations GradStream { get; set; }

        public StageActivations GradInput { get; set; }

        public ForwardOptions Options { get; set; } = null!;

        public MicroBatch Batch { get; set; } = null!;

        public Generation.LatentKvCache? Cache { get; set; }

        /// <summary>The step of decoding that a session runs again and again.</summary>
        public RepeatedStep? Repeated { get; set; }

        public void Dispose()
        {
            Repeated?.Dispose();
            Cache?.Dispose();
            Received?.Dispose();
            Arena.Dispose();
        }
    }
}
