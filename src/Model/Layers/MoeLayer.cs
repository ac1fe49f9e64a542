using Krewe.Model.Configuration;
using Krewe.Model.Kernels;
using Krewe.Model.Precision;
using Krewe.Model.Tensors;
using Krewe.Model.Training;

namespace Krewe.Model.Layers;

/// <summary>
/// The stage's side of a mixture-of-experts layer: gate, dispatch, shared expert and combine. The routed experts are
/// behind <see cref="IExpertHost"/>, here or on other silos. output = mid + shared(x) + sum of routed(x).
/// </summary>
public sealed partial class MoeLayer
{
    private readonly ModelConfig _config;
    private readonly PrecisionRecipe _recipe;
    private readonly FeedForward? _shared;

    /// <summary>Adds the weights of the gate and of the shared expert.</summary>
    public MoeLayer(ModelConfig config, ParameterSet parameters, Arena buffers, int layer, PrecisionRecipe recipe)
    {
        _config = config;
        _recipe = recipe;
        Router = new(config, parameters, buffers, layer);
        if (config.NSharedExperts > 0)
        {
            int width = config.NSharedExperts * config.MoeIntermediateSize;
            string prefix = $"model.layers.{layer}.mlp.shared_experts.";
            _shared = FeedForward.Create(parameters, prefix, config.HiddenSize, width, recipe);
        }
    }

    /// <summary>The gate.</summary>
    public MoeRouter Router { get; }

    /// <summary>Activations and gradients of one micro-batch.</summary>
    public sealed class State
    {
        /// <summary>The gate's choice.</summary>
        public MoeRouter.State Router { get; } = new();

        /// <summary>Who goes where.</summary>
        public DispatchPlan Plan { get; } = new();

        /// <summary>For each host the rows that it receives; of the forward, then of the backward.</summary>
        public Tensor[] HostRows { get; internal set; } = [];

        /// <summary>For each host what it returned; filled by the caller between dispatch and combine.</summary>
        public Tensor[] Returned { get; internal set; } = [];

        /// <summary>For each host its gradients of the gate weights; filled by the caller.</summary>
        public Tensor[] ReturnedWeights { get; internal set; } = [];

        internal readonly FeedForward.State Shared = new();
        internal DType CombineType;
        internal Tensor Input, Output, GradOutput, GradInput, TokenStarts, TokenGroupRows;
    }

    /// <summary>Routes, plans, and gathers the rows of each host.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="input">[T, D], normalised.</param>
    /// <param name="layout">Sequences.</param>
    /// <param name="topology">Where the experts live.</param>
    /// <param name="balance">Balance loss to measure, or null.</param>
    /// <param name="state">Filled.</param>
    public void Dispatch(
        IKernels kernels, Arena arena, Tensor input, TokenLayout layout, ExpertTopology topology,
        BalanceLossOptions? balance, State state)
    {
        state.Input = input;
        state.CombineType = _recipe.Combine;
        Router.Forward(kernels, arena, input, layout, balance, state.Router);
        if (state.Plan.OnDevice is { } own)
        {
            PlanOnDevice(kernels, arena, input, topology, own, state);
            return;
        }

        state.Plan.Build(
            kernels.Read<int>(state.Router.Indices), kernels.Read<float>(state.Router.Weights),
            _config.NumExpertsPerTok, topology);
        Prepare(state);
        GatherHostRows(kernels, arena, input, state);
    }

    /// <summary>output += shared expert; meant to run while the routed tokens are away.</summary>
    public void ForwardShared(IKernels kernels, Arena arena, Tensor output, State state)
    {
        state.Output = output;
        _shared?.Forward(kernels, arena, state.Input, output, state.Shared);
    }

    /// <summary>output += routed experts, from what the hosts returned.</summary>
    public static void Combine(IKernels kernels, Arena arena, State state)
    {
        if (state.Plan.OnDevice is { } own)
        {
            CombineOnDevice(kernels, own, state, own.Weights, state.Output);
            return;
        }

        state.TokenStarts = arena.Upload(kernels, state.Plan.TokenStarts);
        state.TokenGroupRows = arena.Upload(kernels, state.Plan.TokenGroupRows);
        SumReturned(kernels, arena, state, weighted: true, state.Output);
    }

    /// <summary>Gathers the gradient rows of each host.</summary>
    /// <param name="kernels">Kernels of the device.</param>
    /// <param name="arena">Arena of the micro-batch.</param>
    /// <param name="gradOutput">[T, D]; must live until <see cref="BackwardWeight"/>.</param>
    /// <param name="state">From the forward.</param>
    public static void DispatchBackward(IKernels kernels, Arena arena, Tensor gradOutput, State state)
    {
        state.GradOutput = gradOutput;
        if (state.Plan.OnDevice is { } own)
        {
            own.Rows = gradOutput;
            return;
        }

        GatherHostRows(kernels, arena, gradOutput, state);
    }

    /// <summary>Gradient of the input by way of the shared expert; meant to run while the gradients are away.</summary>
    public void BackwardShared(IKernels kernels, Arena arena, State state)
    {
        state.GradInput = arena.Allocate(state.Input.Rows, state.Input.Columns);
        if (_shared is null)
        {
            kernels.Fill(state.GradInput, 0);
            return;
        }

        _shared.BackwardInput(kernels, arena, state.Shared, state.GradOutput, state.GradInput, accumulate: false);
    }

    /// <summary>Adds the routed experts' and the gate's part; returns the gradient of the input [T, D].</summary>
    public Tensor CombineBackward(IKernels kernels, Arena arena, BalanceLossOptions balance, State state)
    {
        Tensor gradWeights;
        if (state.Plan.OnDevice is { } own)
        {
            CombineOnDevice(kernels, own, state, weights: default, state.GradInput);
            gradWeights = own.ReturnedWeights;
        }
        else
        {
            SumReturned(kernels, arena, state, weighted: false, state.GradInput);
            gradWeights = GateGradients(kernels, arena, state);
        }

        Router.BackwardInput(kernels, arena, state.Router, gradWeights, balance, state.GradInput);
        return state.GradInput;
    }

    /// <summary>Adds the weight gradients of the gate and of the shared expert.</summary>
    internal void BackwardWeight(IKernels kernels, WeightGradients gradients, State state)
    {
        Router.BackwardWeight(kernels, state.Router);
        _shared?.BackwardWeight(kernels, gradients, state.Shared);
    }

    private static void Prepare(State state)
    {
        int hosts = state.Plan.Slices.Count;
        if (state.HostRows.Length != hosts)
        {
            state.HostRows = new Tensor[hosts];
            state.Returned = new Tensor[hosts];
            state.ReturnedWeights = new Tensor[hosts];
        }
    }

    /// <summary>A token goes to a host once; a host that gets every token gets the tensor itself.</summary>
    private static void GatherHostRows(IKernels kernels, Arena arena, Tensor source, State state)
    {
        for (int host = 0; host < state.HostRows.Length; host++)
        {
            ExpertSlice slice = state.Plan.Slices[host];
            if (slice.TokenRows.Count == source.Rows)
            {
                state.HostRows[host] = source;
                continue;
            }

            state.HostRows[host] = arena.Allocate(slice.TokenRows.Count, source.Columns);
            if (slice.TokenRows.Count > 0)
            {
                kernels.GatherRows(source, arena.Upload(kernels, slice.TokenRows), default, state.HostRows[host]);
            }
        }
    }

    /// <summary>What the hosts returned by assignment, in the order of tokens and choices: [T, K].</summary>
    private Tensor GateGradients(IKernels kernels, Arena arena, State state)
    {
        int slots = state.Input.Rows * _config.NumExpertsPerTok;
        Tensor gradWeights = arena.Allocate(state.Input.Rows, _config.NumExpertsPerTok);
        if (slots == 0)
        {
            return gradWeights;
        }

        Tensor returned = state.ReturnedWeights[0];
        if (state.Plan.Slices.Count > 1)
        {
            returned = arena.Allocate(slots);
            for (int host = 0, first = 0; host < state.Plan.Slices.Count; host++)
            {
                int count = state.Plan.Slices[host].Assignments;
                if (count > 0)
                {
                    kernels.Transfer(state.ReturnedWeights[host], returned.SliceElements(first, count));
                    first += count;
                }
            }
        }

        Tensor rows = arena.Upload<int, DispatchPlan>(
            kernels, slots, state.Plan, static (values, plan) => plan.FillAssignments(values));
        kernels.GatherRows(
            returned.Reshape(new(slots, 1)), rows, default, gradWeights.Reshape(new(slots, 1)));
        return gradWeights;
    }

    private static void SumReturned(IKernels kernels, Arena arena, State state, bool weighted, Tensor output)
    {
        DispatchPlan plan = state.Plan;
        int splitRows = plan.SplitStarts.Count - 1;
        if (plan.ReturnedRows == 0)
        {
            // No tokens, so no host was asked: sequences shorter than an MTP depth.
            return;
        }

        Tensor source;
        if (plan.Slices.Count == 1 && splitRows == 0)
        {
            source = state.Returned[0];
        }
        else
        {
            source = arena.Allocate(plan.ReturnedRows + splitRows, output.Columns);
            for (int host = 0; host < plan.Slices.Count; host++)
            {
                int rows = plan.Slices[host].OutputRows;
                if (rows > 0)
                {
                    kernels.Copy(state.Returned[host], source.SliceRows(plan.FirstReturnedRow(host), rows));
                }
            }
        }

        if (splitRows > 0)
        {
            Tensor scale = weighted ? arena.Upload(kernels, plan.SplitWeights) : default;
            kernels.SumRows(
                source, arena.Upload(kernels, plan.SplitRows), scale, arena.Upload(kernels, plan.SplitStarts),
                source.SliceRows(plan.ReturnedRows, splitRows));
            if (state.CombineType == DType.BFloat16)
            {
                // As the sum of a whole group is rounded by its host.
                Tensor sums = source.SliceRows(plan.ReturnedRows, splitRows);
                kernels.RoundToBFloat16(sums, sums);
            }
        }

        kernels.SumRows(source, state.TokenGroupRows, default, state.TokenStarts, output, accumulate: true);
    }
}
