using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Layers;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Models;

/// <summary>One MoE layer, forward and backward, with experts on hosts as a test places them.</summary>
internal static class MoeLayerRun
{
    private const int Tokens = 20;

    /// <summary>Output, gradient of the input and weight gradients; from the same data each time.</summary>
    /// <param name="device">Where stage and experts live.</param>
    /// <param name="config">Sizes.</param>
    /// <param name="recipe">What products run in.</param>
    /// <param name="placement">Host of each expert.</param>
    /// <param name="plansOnDevice">Whether the device plans, or the host; with all experts on one host.</param>
    public static async Task<float[][]> RunAsync(
        IDevice device, ModelConfig config, PrecisionRecipe recipe, int[] placement, bool plansOnDevice = false)
    {
        using var data = new TestTensors(13);
        using Arena arena = device.CreateArena("micro-batch");
        using var stage = new ParameterSet(device, "stage");
        var layer = new MoeLayer(config, stage, arena, layer: 1, recipe);
        Expert[] experts = [.. Enumerable.Range(0, config.NRoutedExperts)
            .Select(index => new Expert(config, device, 1, index, recipe))];
        ParameterSet[] sets = [stage, .. experts.Select(expert => expert.Parameters)];
        await device.SubmitAsync(kernels =>
        {
            foreach (ParameterSet set in sets)
            {
                set.PrepareForTraining(kernels, DType.Float32);
                foreach (Parameter parameter in set.All)
                {
                    kernels.Upload<float>(
                        data.Normal(parameter.Shape.Rows, parameter.Shape.Columns, 0.3f).AsSpan<float>(),
                        parameter.Value);
                }
            }
        });
        var topology = new ExpertTopology(placement, ExpertTopology.CanonicalGroups(config));
        LocalExpertHost[] hosts = [.. Enumerable.Range(0, topology.Hosts)
            .Select(host => new LocalExpertHost(
                device, _ => [.. experts.Select(expert => placement[expert.Index] == host ? expert : null)]))];
        var balance = new BalanceLossOptions(1e-3, BalanceLossScope.Sequence, Units: 2);
        var call = new ExpertCall(1, new SlotCall(0, 0), BackwardFollows: true);
        var state = new MoeLayer.State();
        Tensor input = await OnDeviceAsync(data.Normal(Tokens, config.HiddenSize));
        Tensor output = await OnDeviceAsync(data.Normal(Tokens, config.HiddenSize));
        Tensor gradOutput = await OnDeviceAsync(data.Normal(Tokens, config.HiddenSize));
        TokenLayout layout = TokenLayout.Create(arena, [0, 9, Tokens]);
        DeviceSlice? own = layer.ChoosePlanner(topology, Tokens, plansOnDevice, state);
        Assert.Equal(plansOnDevice, own is not null);
        await SubmitAsync(kernels =>
        {
            layout.Fill(kernels);
            kernels.Fill(layer.Router.Bias, 0);
            layer.Dispatch(kernels, arena, input, layout, topology, balance, state);
            layer.ForwardShared(kernels, arena, output, state);
        });
        int[] busy = [.. Enumerable.Range(0, topology.Hosts).Where(host => state.Plan.Slices[host].Assignments > 0)];
        foreach (int host in busy)
        {
            Tensor rows = await hosts[host].ForwardAsync(
                call, state.Plan.Slices[host], own is null ? state.HostRows[host] : default);
            if (own is null)
            {
                state.Returned[host] = rows;
            }
        }

        await SubmitAsync(kernels => MoeLayer.Combine(kernels, arena, state));
        float[] outputs = await device.ToFloatsAsync(output);
        await SubmitAsync(kernels =>
        {
            MoeLayer.DispatchBackward(kernels, arena, gradOutput, state);
            layer.BackwardShared(kernels, arena, state);
        });
        foreach (int host in busy)
        {
            ExpertGradients gradients =
                await hosts[host].BackwardAsync(call, own is null ? state.HostRows[host] : default);
            if (own is null)
            {
                state.Returned[host] = gradients.Rows;
                state.ReturnedWeights[host] = gradients.Weights;
            }
        }

        Tensor gradInput = default;
        await SubmitAsync(kernels =>
        {
            gradInput = layer.CombineBackward(kernels, arena, balance, state);
            var weightGradients = new WeightGradients();
            layer.BackwardWeight(kernels, weightGradients, state);
            weightGradients.Launch(kernels);
        });
        await Task.WhenAll(hosts.Select(host => host.BackwardWeightAsync(call)));
        List<float[]> results = [outputs, await device.ToFloatsAsync(gradInput)];
        foreach (Parameter parameter in sets.SelectMany(set => set.All))
        {
            results.Add(await device.ToFloatsAsync(parameter.Gradient));
        }

        Array.ForEach(hosts, host => host.Dispose());
        Array.ForEach(experts, expert => expert.Dispose());
        return [.. results];

        // All of one priority, as a stage has it: what nobody waits for runs in the order of submission.
        Task SubmitAsync(Action<IKernels> work) => device.SubmitAsync(work, call.Work.Priority);

        async Task<Tensor> OnDeviceAsync(Tensor host)
        {
            Tensor tensor = arena.Allocate(host.Shape);
            await device.SubmitAsync(kernels => kernels.Upload<float>(host.AsSpan<float>(), tensor));
            return tensor;
        }
    }
}
