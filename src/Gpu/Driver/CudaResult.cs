using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Krewe.Gpu.Driver.Native;

namespace Krewe.Gpu.Driver;

/// <summary>Judges what the driver API returned.</summary>
internal static unsafe class CudaResult
{
    /// <summary>CUDA_SUCCESS.</summary>
    public const int Success = 0;

    /// <summary>CUDA_ERROR_OUT_OF_MEMORY.</summary>
    public const int OutOfMemory = 2;

    /// <summary>CUDA_ERROR_INVALID_IMAGE: no machine code, or damaged.</summary>
    public const int InvalidImage = 200;

    /// <summary>CUDA_ERROR_NO_BINARY_FOR_GPU: machine code of another device, or damaged in its header.</summary>
    public const int NoBinaryForGpu = 209;

    /// <summary>CUDA_ERROR_INVALID_SOURCE.</summary>
    public const int InvalidSource = 300;

    /// <summary>CUDA_ERROR_NOT_READY: what was asked after is still running.</summary>
    public const int NotReady = 600;

    /// <summary>CUDA_ERROR_LAUNCH_TIMEOUT: a kernel took too long, by the driver's measure or by <see cref="DeviceWait"/>'s.</summary>
    public const int LaunchTimeout = 702;

    /// <summary>CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED.</summary>
    public const int PeerAccessAlreadyEnabled = 704;

    /// <summary>Throws where <paramref name="code"/> is not success.</summary>
    /// <param name="code">What the call returned.</param>
    /// <param name="call">The call, as written at the caller; its name stands in the message.</param>
    public static void Check(int code, [CallerArgumentExpression(nameof(code))] string call = "")
    {
        if (code != Success)
        {
            throw new CudaException(NameOf(call), code, ErrorName(code), Advice(code));
        }
    }

    /// <summary>As <see cref="Check(int, string)"/>, of a call that moves or takes <paramref name="bytes"/>.</summary>
    public static void Check(int code, long bytes, [CallerArgumentExpression(nameof(code))] string call = "")
    {
        if (code != Success)
        {
            throw new CudaException(NameOf(call), code, ErrorName(code), $"{bytes:N0} bytes{Advice(code, ", ")}")
            {
                Bytes = bytes,
            };
        }
    }

    /// <summary>
    /// As <see cref="Check(int, string)"/>, of a call that takes memory: where there is none left the message says who asked
    /// for how much, and how much the current device has free.
    /// </summary>
    /// <param name="code">What the call returned.</param>
    /// <param name="bytes">What was asked for.</param>
    /// <param name="purpose">Who asked.</param>
    /// <param name="call">The call, as written at the caller.</param>
    public static void CheckTaken(
        int code, long bytes, string purpose, [CallerArgumentExpression(nameof(code))] string call = "")
    {
        if (code == Success)
        {
            return;
        }

        string room = code == OutOfMemory && DriverApi.cuMemGetInfo_v2(out nuint free, out nuint total) == Success
            ? $"; the device has {(ulong)free:N0} of {(ulong)total:N0} free"
            : Advice(code, ", ");
        throw new CudaException(NameOf(call), code, ErrorName(code), $"'{purpose}' asked for {bytes:N0} bytes{room}")
        {
            Bytes = bytes,
        };
    }

    /// <summary>The driver's name of a code; its number where the driver does not know it, or is absent.</summary>
    public static string ErrorName(int code)
    {
        try
        {
            return DriverApi.cuGetErrorName(code, out byte* name) == Success
                ? Marshal.PtrToStringUTF8((nint)name) ?? "unknown error"
                : "unknown error";
        }
        catch (DllNotFoundException)
        {
            return "unknown error";
        }
    }

    /// <summary>What to do about the codes that a user meets.</summary>
    private static string Advice(int code, string separator = "") => code switch
    {
        100 => separator + "the driver sees no GPU",
        35 or 803 or 804 => separator + "the driver is older than the library: update the driver",
        _ => LostDevice.Advice(code) is { } advice ? separator + advice : "",
    };

    /// <summary>The function's name in the text of a call.</summary>
    private static string NameOf(string call)
    {
        string name = call[..(call.IndexOf('(', StringComparison.Ordinal) is var end and >= 0 ? end : call.Length)];
        return name[(name.LastIndexOf('.') + 1)..];
    }
}
