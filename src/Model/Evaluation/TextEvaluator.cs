using Krewe.Model.Configuration;
using Krewe.Model.Data;
using Krewe.Model.Layers;
using Krewe.Model.Training;

namespace Krewe.Model.Evaluation;

/// <summary>Score of one document.</summary>
/// <param name="Tokens">Tokens scored: all but the first.</param>
/// <param name="Nll">Their negative log-likelihood summed, nats.</param>
public sealed record DocumentScore(int Tokens, double Nll);

/// <summary>Scores of many documents.</summary>
/// <param name="Documents">In the order they were given.</param>
/// <param name="Agreements">Positions where the MTP head and the main head one position on name the same token.</param>
/// <param name="AgreementCount">Positions where the two were compared; 0 without MTP.</param>
public sealed record TextEvaluation(IReadOnlyList<DocumentScore> Documents, int Agreements, int AgreementCount)
{
    /// <summary>Nats over scored tokens.</summary>
    public double MeanNll => Documents.Sum(document => document.Nll) / Documents.Sum(document => document.Tokens);

    /// <summary>e to the mean: among how many equally likely tokens the model would choose.</summary>
    public double Perplexity => Math.Exp(MeanNll);

    /// <summary>Share of compared positions that agree, or null without MTP.</summary>
    public double? MtpAgreement => AgreementCount == 0 ? null : (double)Agreements / AgreementCount;
}

/// <summary>
/// Negative log-likelihood of whole documents, several to a batch, whatever carries the model: one device or a cluster.
/// </summary>
public static class TextEvaluator
{
    /// <summary>Tokens of one batch unless the caller says otherwise.</summary>
    public const int UsualBatchTokens = 4096;

    /// <summary>A text as a document: first token, ids, last token, cut to a length.</summary>
    /// <param name="tokenizer">Makes the ids.</param>
    /// <param name="bos">First token, or null for none.</param>
    /// <param name="eos">Last token, or null for none.</param>
    /// <param name="text">The text.</param>
    /// <param name="maxTokens">Most ids; the end is cut off.</param>
    public static int[] ToDocument(Tokenizer tokenizer, int? bos, int? eos, string text, int maxTokens)
    {
        IEnumerable<int> ids = tokenizer.Encode(text);
        ids = bos is { } first ? ids.Prepend(first) : ids;
        ids = eos is { } last ? ids.Append(last) : ids;
        return [.. ids.Take(maxTokens)];
    }

    /// <summary>Scores documents; one that has fewer than two ids has nothing to score and gets zeros.</summary>
    /// <param name="model">Stages and experts.</param>
    /// <param name="config">The model.</param>
    /// <param name="documents">Ids of each document.</param>
    /// <param name="batchTokens">A batch takes documents until it holds this many tokens.</param>
    /// <param name="progress">Told the number of documents done.</param>
    /// <param name="cancellation">Ends between two batches.</param>
    public static async Task<TextEvaluation> RunAsync(
        ITrainingPipeline model, ModelConfig config, IReadOnlyList<int[]> documents,
        int batchTokens = UsualBatchTokens, IProgress<int>? progress = null, CancellationToken cancellation = default)
    {
        var scores = new DocumentScore[documents.Count];
        int agreements = 0, compared = 0;
        // The scales are of no effect without a backward.
        var options = new ForwardOptions(
            ForwardMode.Evaluation, 1, new double[config.NumNextnPredictLayers], new(0, BalanceLossScope.Sequence, 1));
        for (int next = 0; next < documents.Count;)
        {
            cancellation.ThrowIfCancellationRequested();
            int first = next;
            int tokens = 0;
            var batch = new List<int>();
            for (; next < documents.Count && (tokens == 0 || tokens + documents[next].Length <= batchTokens); next++)
            {
                scores[next] = new(0, 0);
                if (documents[next].Length > 1)
                {
                    batch.Add(next);
                    tokens += documents[next].Length;
                }
            }

            if (batch.Count > 0)
            {
                MicroBatchReport report = await model.RunAsync(
                    0, first, MicroBatch.OfTexts([.. batch.Select(index => documents[index])]), options);
                for (int i = 0; i < batch.Count; i++)
                {
                    scores[batch[i]] = new(documents[batch[i]].Length - 1, report.Losses.SequenceSums[i]);
                }

                agreements += report.Losses.Agreements;
                compared += report.Losses.AgreementCount;
            }

            progress?.Report(next);
        }

        return new(scores, agreements, compared);
    }
}
