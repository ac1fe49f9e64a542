using Krewe.Gpu.Driver;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;

namespace Krewe.Gpu.Kernels;

/// <content>The gate, its gradient and the factors of the balance loss; <c>Routing.cu</c>.</content>
internal sealed partial class CudaKernels
{
    private const int WarpThreads = 32;
    private const int StatisticsThreads = 1024;

    private CudaKernel RouteKernel => field ??= _library.Kernel("Experts/Routing.cu", "route");

    private CudaKernel RouteBackwardKernel => field ??= _library.Kernel("Experts/Routing.cu", "route_backward");

    private CudaKernel ScoreSumsKernel => field ??= _library.Kernel("Experts/Routing.cu", "score_sums");

    private CudaKernel BalanceStatisticsKernel => field ??= _library.Kernel("Experts/Routing.cu", "balance_statistics");

    /// <inheritdoc/>
    public void Route(
        Tensor logits, Tensor bias, Tensor scores, Tensor indices, Tensor weights, in RoutingShape routing)
    {
        KernelChecks.Route(logits, bias, scores, indices, weights, routing);
        KernelArguments arguments = new();
        arguments.Add(Device(logits));
        arguments.Add(bias.Address);
        arguments.Add(Device(scores));
        arguments.Add(Device(indices));
        arguments.Add(Device(weights));
        arguments.Add(new DeviceRouting(routing));
        int sharedBytes = ((2 * routing.Experts) + routing.Groups) * sizeof(float);
        Launch(RouteKernel, Rows(logits.Rows, WarpThreads, sharedBytes), ref arguments);
    }

    /// <inheritdoc/>
    public void RouteBackward(
        Tensor gradWeights, Tensor scores, Tensor indices, Tensor balanceGradient, Tensor sequenceOfToken,
        Tensor gradLogits, in RoutingShape routing)
    {
        KernelChecks.RouteBackward(
            gradWeights, scores, indices, balanceGradient, sequenceOfToken, gradLogits, routing, this);
        KernelArguments arguments = new();
        arguments.Add(Device(gradWeights));
        arguments.Add(Device(scores));
        arguments.Add(Device(indices));
        arguments.Add(Device(balanceGradient));
        arguments.Add(sequenceOfToken.Address);
        arguments.Add(Device(gradLogits));
        arguments.Add(new DeviceRouting(routing));
        arguments.Add(Submission.Fault);
        Launch(
            RouteBackwardKernel, Rows(scores.Rows, WarpThreads, routing.Experts * sizeof(float)), ref arguments);
    }

    /// <inheritdoc/>
    public void BalanceStatistics(
        Tensor scores, Tensor indices, ReadOnlySpan<int> sequenceStarts, Tensor frequency, Tensor meanScore)
    {
        KernelChecks.BalanceStatistics(scores, indices, sequenceStarts, frequency, meanScore, this);
        using Scratch sums = Take((long)scores.Rows * sizeof(float), nameof(BalanceStatistics));
        KernelArguments arguments = new();
        arguments.Add(Device(scores));
        arguments.Add(sums.Address);
        Launch(ScoreSumsKernel, Rows(scores.Rows, WarpThreads), ref arguments);
        arguments = new();
        arguments.Add(Device(scores));
        arguments.Add(Device(indices));
        arguments.Add(sums.Address);
        arguments.Add(Submission.Upload(sequenceStarts));
        arguments.Add(Device(frequency));
        arguments.Add(Device(meanScore));
        arguments.Add(Submission.Fault);
        var blocks = new Dim3((uint)frequency.Rows, Dim3.Cover(scores.Columns, ColumnsOfLaneBlock));
        Launch(BalanceStatisticsKernel, new(blocks, new(StatisticsThreads)), ref arguments);
    }
}
