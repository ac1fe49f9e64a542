using Krewe.Model;

namespace Krewe.Gpu.Driver;

/// <summary>
/// A call of CUDA failed. The message is one line: the call, the code by name and number, and what was asked for (the
/// kernel with its grid, or the bytes).
/// </summary>
public sealed class CudaException : KreweException
{
    /// <summary>A failed call.</summary>
    /// <param name="call">Function that failed, such as <c>cuLaunchKernelEx</c>.</param>
    /// <param name="code">What it returned.</param>
    /// <param name="codeName">Name of the code, such as <c>CUDA_ERROR_OUT_OF_MEMORY</c>.</param>
    /// <param name="detail">What was asked for, and what to do; may be empty.</param>
    public CudaException(string call, int code, string codeName, string detail = "")
        : base($"{call} failed: {codeName} ({code}){(detail.Length == 0 ? "" : "; " + detail)}")
    {
        Call = call;
        Code = code;
        CodeName = codeName;
    }

    /// <summary>CUDA itself is missing, or has no such device.</summary>
    public CudaException(string message, Exception? inner = null) : base(message, inner)
    {
        Call = "";
        CodeName = "";
    }

    /// <summary>Function that failed; empty where none was called.</summary>
    public string Call { get; }

    /// <summary>What it returned.</summary>
    public int Code { get; }

    /// <summary>Name of <see cref="Code"/>.</summary>
    public string CodeName { get; }

    /// <summary>True where the device is lost to the process, not only this call.</summary>
    public bool LosesDevice => LostDevice.IsMeantBy(Code);

    /// <summary>Kernel that was launched, or null.</summary>
    public string? Kernel { get; init; }

    /// <summary>How it was launched, or null.</summary>
    public LaunchShape? Launch { get; init; }

    /// <summary>Bytes that were asked for, copied or set; 0 where none.</summary>
    public long Bytes { get; init; }
}
