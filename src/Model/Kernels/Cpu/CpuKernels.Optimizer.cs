using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Krewe.Model.Tensors;

namespace Krewe.Model.Kernels.Cpu;

/// <content>AdamW with float32 or bfloat16 moments.</content>
public sealed unsafe partial class CpuKernels
{
    /// <inheritdoc/>
    /// <remarks>Every product and sum is rounded on its own, as in the reference; the update uses the moments before
    /// they are rounded to their storage type. Bound by memory: 32 bytes an element, 24 with bfloat16
    /// moments.</remarks>
    public void AdamW(ReadOnlySpan<AdamWParameter> parameters, in AdamWStep step)
    {
        KernelChecks.AdamW(parameters, step);
        foreach (ref readonly AdamWParameter parameter in parameters)
        {
            Update(parameter, parameter.Decays ? step : step with { WeightDecay = 0 });
        }
    }

    private void Update(in AdamWParameter parameter, in AdamWStep step)
    {
        (Tensor weight, Tensor gradient, Tensor firstMoment, Tensor secondMoment, _, Tensor rounded) = parameter;
        bool dense = weight.IsDense && gradient.IsDense && firstMoment.IsDense && secondMoment.IsDense && rounded.IsDense;
        Parts parts = new(weight, dense);
        For(parts.Number, 2 * weight.Count, new AdamWLoop(parts, parameter, step));
    }

    private readonly struct AdamWLoop(Parts parts, AdamWParameter parameter, AdamWStep step) : ILoop
    {
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int index)
        {
            (Tensor weight, Tensor gradient, Tensor firstMoment, Tensor secondMoment, _, Tensor rounded) = parameter;
            float* w = weight.Floats + parts.Start(index, weight.RowStride);
            float* g = gradient.Floats + parts.Start(index, gradient.RowStride);
            nint m = Moment(firstMoment, index);
            nint v = Moment(secondMoment, index);
            ushort* half = rounded.IsEmpty ? null : (ushort*)Moment(rounded, index);
            bool halfM = firstMoment.DType == DType.BFloat16;
            bool halfV = secondMoment.DType == DType.BFloat16;
            int count = parts.Length(index);

            Vector512<float> decay = Vector512.Create(step.LearningRate * step.WeightDecay);
            Vector512<float> stepSize = Vector512.Create(
                (float)(step.LearningRate / (1 - Math.Pow(step.Beta1, step.Step))));
            Vector512<float> correction = Vector512.Create((float)(1 - Math.Pow(step.Beta2, step.Step)));
            Vector512<float> beta1 = Vector512.Create(step.Beta1);
            Vector512<float> beta2 = Vector512.Create(step.Beta2);
            Vector512<float> rest1 = Vector512.Create(1 - step.Beta1);
            Vector512<float> rest2 = Vector512.Create(1 - step.Beta2);
            Vector512<float> scale = Vector512.Create(step.GradientScale);
            Vector512<float> epsilon = Vector512.Create(step.Epsilon);
            for (int i = 0; i < count; i += VectorMath.Width)
            {
                int left = count - i;
                Vector512<float> grad = VectorMath.Load(g + i, left) * scale;
                Vector512<float> value = VectorMath.Load(w + i, left);
                value -= decay * value;
                Vector512<float> first = (beta1 * Read(m, i, left, halfM)) + (rest1 * grad);
                Vector512<float> second = (beta2 * Read(v, i, left, halfV)) + (rest2 * (grad * grad));
                Write(first, m, i, left, halfM);
                Write(second, v, i, left, halfV);
                value -= stepSize * first / (Vector512.Sqrt(second / correction) + epsilon);
                VectorMath.Store(value, w + i, left);
                VectorMath.Store(Vector512<float>.Zero, g + i, left);
                if (half != null)
                {
                    BFloat16.Store(value, half + i, left);
                }
            }
        }

        private nint Moment(Tensor tensor, int index) => StoredAt(tensor, parts.Start(index, tensor.RowStride));
    }

    /// <summary>Address of an element of a tensor of any type.</summary>
    private static nint StoredAt(Tensor tensor, nint element) =>
        tensor.Address + (element * tensor.DType.SizeInBytes());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Read(nint address, int i, int left, bool half) =>
        half ? BFloat16.Load((ushort*)address + i, left) : VectorMath.Load((float*)address + i, left);

    /// <summary>Stores float32, or where <paramref name="half"/> is set the nearest bfloat16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write(Vector512<float> value, nint address, int i, int left, bool half)
    {
        if (half)
        {
            BFloat16.Store(value, (ushort*)address + i, left);
        }
        else
        {
            VectorMath.Store(value, (float*)address + i, left);
        }
    }
}
