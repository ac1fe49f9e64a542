using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>A kernel of a loaded module.</summary>
public sealed unsafe class CudaKernel
{
    private const int SharedBytesWithoutAsking = 48 << 10;
    private readonly nint _function;
    private int _sharedBytesAllowed = SharedBytesWithoutAsking;

    internal CudaKernel(string name, nint function)
    {
        Name = name;
        _function = function;
    }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>Registers of a thread.</summary>
    public int Registers => Attribute(FunctionAttribute.Registers);

    /// <summary>Bytes of a thread that did not fit into registers, with its arrays.</summary>
    public int LocalBytes => Attribute(FunctionAttribute.LocalBytes);

    /// <summary>Static shared memory of a block, in bytes.</summary>
    public int SharedBytes => Attribute(FunctionAttribute.SharedBytes);

    /// <summary>Largest block that its registers allow.</summary>
    public int MaxThreads => Attribute(FunctionAttribute.MaxThreadsPerBlock);

    /// <summary>Blocks of this shape that run on one multiprocessor at a time.</summary>
    public int BlocksPerMultiprocessor(int blockThreads, int sharedBytes)
    {
        AllowShared(sharedBytes);
        CudaResult.Check(DriverApi.cuOccupancyMaxActiveBlocksPerMultiprocessor(
            out int blocks, _function, blockThreads, (nuint)sharedBytes));
        return blocks;
    }

    /// <summary>Clusters of this launch that the device holds at a time.</summary>
    /// <param name="shape">Block, shared memory and cluster; the grid is one cluster or more.</param>
    public int ResidentClusters(in LaunchShape shape)
    {
        AllowShared(shape.SharedBytes);
        LaunchAttribute* attributes = stackalloc LaunchAttribute[LaunchAttribute.MaxCount];
        LaunchConfig config = ConfigOf(shape, 0, attributes);
        CudaResult.Check(DriverApi.cuOccupancyMaxActiveClusters(out int clusters, _function, &config));
        return clusters;
    }

    /// <summary>Lets clusters have more than the eight blocks that every device can hold.</summary>
    public void AllowLargeClusters() => CudaResult.Check(
        DriverApi.cuFuncSetAttribute(_function, FunctionAttribute.NonPortableClusterSizeAllowed, 1));

    /// <summary>
    /// Launches the kernel behind everything in <paramref name="stream"/>; nothing for an empty grid.
    /// </summary>
    /// <exception cref="CudaException">The launch is refused: the message has the kernel and its shape. An error
    /// inside the kernel comes from a later call.</exception>
    public void Launch(CudaStream stream, in LaunchShape shape, ref KernelArguments arguments)
    {
        if (shape.IsEmpty)
        {
            return;
        }

        AllowShared(shape.SharedBytes);
        nint* addresses = stackalloc nint[KernelArguments.MaxCount];
        LaunchAttribute* attributes = stackalloc LaunchAttribute[LaunchAttribute.MaxCount];
        LaunchConfig config = ConfigOf(shape, stream.Handle, attributes);
        int code;
        fixed (byte* pinned = &arguments.Addresses(new(addresses, KernelArguments.MaxCount)))
        {
            code = DriverApi.cuLaunchKernelEx(&config, _function, (void**)addresses, null);
        }

        if (code != CudaResult.Success)
        {
            ThrowLaunch(code, shape);
        }
    }

    /// <summary>The launch as the driver takes it, with its attributes in the room given.</summary>
    private static LaunchConfig ConfigOf(in LaunchShape shape, nint stream, LaunchAttribute* attributes)
    {
        uint count = 0;
        if (shape.Cluster.X != 0)
        {
            attributes[count++] = new()
            {
                Id = LaunchAttribute.ClusterDimension,
                ClusterX = shape.Cluster.X,
                ClusterY = shape.Cluster.Y,
                ClusterZ = shape.Cluster.Z,
            };
        }

        if (shape.StartsEarly)
        {
            attributes[count++] = new() { Id = LaunchAttribute.ProgrammaticStreamSerialization, Flag = 1 };
        }

        return new()
        {
            GridX = shape.Grid.X,
            GridY = shape.Grid.Y,
            GridZ = shape.Grid.Z,
            BlockX = shape.Block.X,
            BlockY = shape.Block.Y,
            BlockZ = shape.Block.Z,
            SharedBytes = (uint)shape.SharedBytes,
            Stream = stream,
            Attributes = attributes,
            AttributeCount = count,
        };
    }

    private void AllowShared(int bytes)
    {
        if (bytes > _sharedBytesAllowed)
        {
            int code = DriverApi.cuFuncSetAttribute(_function, FunctionAttribute.MaxDynamicSharedBytes, bytes);
            if (code != CudaResult.Success)
            {
                throw new CudaException(
                    "cuFuncSetAttribute", code, CudaResult.ErrorName(code),
                    $"kernel '{Name}' asks for {bytes:N0} bytes of shared memory a block")
                {
                    Kernel = Name,
                    Bytes = bytes,
                };
            }

            _sharedBytesAllowed = bytes;
        }
    }

    private int Attribute(FunctionAttribute attribute)
    {
        CudaResult.Check(DriverApi.cuFuncGetAttribute(out int value, attribute, _function));
        return value;
    }

    private void ThrowLaunch(int code, in LaunchShape shape) => throw new CudaException(
        "cuLaunchKernelEx", code, CudaResult.ErrorName(code), $"kernel '{Name}', {shape}")
    {
        Kernel = Name,
        Launch = shape,
    };
}
