using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>Work recorded from a stream, launched as one. Addresses and arguments are those of the recording.</summary>
public sealed class CudaGraph : IDisposable
{
    private nint _graph;
    private nint _executable;

    /// <summary>Takes over the driver's graph and makes it ready to launch.</summary>
    internal CudaGraph(nint graph)
    {
        _graph = graph;
        int code = DriverApi.cuGraphInstantiateWithFlags(out _executable, graph, 0);
        if (code != CudaResult.Success)
        {
            _ = DriverApi.cuGraphDestroy(graph);
            CudaResult.Check(code, "cuGraphInstantiateWithFlags");
        }
    }

    /// <summary>Runs the recording behind everything in <paramref name="stream"/>.</summary>
    public void Launch(CudaStream stream) => CudaResult.Check(DriverApi.cuGraphLaunch(_executable, stream.Handle));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_graph != 0)
        {
            _ = DriverApi.cuGraphExecDestroy(_executable);
            _ = DriverApi.cuGraphDestroy(_graph);
            _graph = 0;
        }
    }
}
