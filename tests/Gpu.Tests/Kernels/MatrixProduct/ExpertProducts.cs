using Krewe.Gpu.Devices;
using Krewe.Gpu.Kernels;
using Krewe.Model.Kernels;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Gpu.Tests.Kernels.MatrixProduct;

/// <summary>Data on the card for products of experts, whose tokens a dispatch of the device shares out.</summary>
public abstract class ExpertProducts : IDisposable
{
    private readonly HostArena _host = new("products");

    private protected ExpertProducts() => Arena = Fast.CreateArena("products");

    /// <summary>Products on the tensor cores.</summary>
    private protected CudaDevice Fast { get; } = Card.Device(ProductPath.Fast);

    /// <summary>Where everything lies.</summary>
    private protected Arena Arena { get; }

    /// <summary>Values on the host.</summary>
    private protected TestTensors Data { get; } = new(7);

    /// <inheritdoc/>
    public void Dispose()
    {
        Arena.Dispose();
        Data.Dispose();
        _host.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Standard normal values on the card.</summary>
    private protected async Task<Tensor> NormalAsync(int rows, int columns)
    {
        Tensor host = Data.Normal(rows, columns);
        Tensor tensor = Arena.Allocate(host.Shape);
        await Fast.SubmitAsync(kernels => kernels.Transfer(host, tensor));
        return tensor;
    }

    /// <summary>Has the device share tokens out: unevenly, and none to the first expert.</summary>
    private protected async Task<(DispatchTable Table, int[] Loads)> PlanAsync(int tokens, int experts)
    {
        int[] choices = new int[tokens * ExpertSizes.TopK];
        int[] loads = new int[experts];
        for (int token = 0; token < tokens; token++)
        {
            // Of two draws the higher, so that the last experts get the most.
            int first = Math.Max(Data.Next(1, experts), Data.Next(1, experts));
            int second = 1 + (first - 1 + Data.Next(1, experts - 1)) % (experts - 1);
            (choices[2 * token], choices[(2 * token) + 1]) = (Math.Min(first, second), Math.Max(first, second));
            loads[first]++;
            loads[second]++;
        }

        Tensor indices = Arena.Allocate(tokens, ExpertSizes.TopK, DType.Int32);
        DispatchTable table = DispatchTable.Allocate(Arena, tokens, ExpertSizes.TopK, experts);
        await Fast.SubmitAsync(kernels =>
        {
            kernels.Upload<int>(choices, indices);
            kernels.PlanDispatch(indices, table);
        });
        return (table, loads);
    }

    /// <summary>Runs work on matrices that hold <paramref name="start"/>, or NaN where none is given; gives them on the
    /// host.</summary>
    private protected async Task<Tensor[]> RunAsync(
        IDevice device, TensorShape[] shapes, Tensor[] start, Action<IKernels, Tensor[]> work)
    {
        Tensor[] results = Array.ConvertAll(shapes, shape => Arena.Allocate(shape));
        await device.SubmitAsync(kernels =>
        {
            for (int i = 0; i < results.Length; i++)
            {
                if (start.Length > 0)
                {
                    kernels.Copy(start[i], results[i]);
                }
                else
                {
                    kernels.Fill(results[i], float.NaN);
                }
            }

            work(kernels, results);
        });
        var host = new Tensor[results.Length];
        for (int i = 0; i < host.Length; i++)
        {
            host[i] = await device.CopyAsync(results[i], _host);
        }

        return host;
    }

    /// <summary>Results near those that are expected, the same ones again, and with parts that the host cuts out.</summary>
    private protected static void AssertAgree(
        Tensor[] expected, Tensor[] actual, Tensor[] again, Tensor[] cut, double tolerance, double difference)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            foreach (float value in expected[i].AsSpan<float>())
            {
                if (!float.IsFinite(value))
                {
                    Assert.Fail($"result {i}: {value} is expected");
                }
            }

            TensorAssert.Close(expected[i], actual[i], tolerance, $"result {i}");
            Assert.InRange(TensorAssert.Difference(expected[i], actual[i]), 0, difference);
            TensorAssert.Same(actual[i], again[i], $"result {i}, second run");
            TensorAssert.Same(actual[i], cut[i], $"result {i}, parts cut out by the host");
        }
    }
}
