using System.Text;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>Compiled kernels, loaded into the current context.</summary>
public sealed unsafe class CudaModule : IDisposable
{
    private nint _handle;

    /// <summary>Loads a CUBIN.</summary>
    /// <param name="name">Where it comes from, for messages.</param>
    /// <param name="cubin">Machine code for this device.</param>
    /// <exception cref="CudaException">The code is damaged, or made for another compute capability.</exception>
    public CudaModule(string name, ReadOnlySpan<byte> cubin)
    {
        Name = name;
        fixed (byte* image = cubin)
        {
            int code = DriverApi.cuModuleLoadData(out _handle, image);
            if (code != CudaResult.Success)
            {
                throw new CudaException(
                    "cuModuleLoadData", code, CudaResult.ErrorName(code), $"'{name}', {cubin.Length:N0} bytes")
                {
                    Bytes = cubin.Length,
                };
            }
        }
    }

    /// <summary>Where it comes from.</summary>
    public string Name { get; }

    /// <summary>A kernel of this module, which must outlive it.</summary>
    /// <param name="name">Its name, declared <c>extern "C"</c>.</param>
    /// <exception cref="CudaException">There is no such kernel.</exception>
    public CudaKernel Kernel(string name)
    {
        fixed (byte* text = Encoding.UTF8.GetBytes(name + '\0'))
        {
            int code = DriverApi.cuModuleGetFunction(out nint function, _handle, text);
            return code == CudaResult.Success
                ? new(name, function)
                : throw new CudaException(
                    "cuModuleGetFunction", code, CudaResult.ErrorName(code), $"no kernel '{name}' in '{Name}'")
                {
                    Kernel = name,
                };
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle != 0)
        {
            _ = DriverApi.cuModuleUnload(_handle);
            _handle = 0;
        }
    }
}
