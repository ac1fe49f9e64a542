using Krewe.Model.Tensors;

namespace Krewe.Gpu.Driver;

/// <summary>
/// Which codes of the driver mean that a device is lost to the process: its context gives the same code to every later
/// call, and only a new process gets a new one. What a call was refused for (memory, arguments, a launch that does not
/// fit) passes; the device goes on.
/// </summary>
internal static class LostDevice
{
    /// <summary>CUDA_ERROR_DEVICE_UNAVAILABLE: while the device was being opened it was only busy.</summary>
    private const int Unavailable = 46;

    private const int UncorrectableEcc = 214;
    private const int UncorrectableNvlink = 220;

    /// <summary>CUDA_ERROR_CONTAINED: a fault of hardware or of a peer's memory that the card has fenced in.</summary>
    private const int Contained = 226;

    private const int IllegalAddress = 700;

    /// <summary>CUDA_ERROR_CONTEXT_IS_DESTROYED: somebody reset the device.</summary>
    private const int ContextDestroyed = 709;

    private const int Assert = 710;

    /// <summary>From hardware stack error over illegal instruction and misaligned address to launch failed.</summary>
    private const int HardwareStackError = 714;

    private const int LaunchFailed = 719;

    /// <summary>CUDA_ERROR_TENSOR_MEMORY_LEAK.</summary>
    private const int TensorMemoryLeak = 721;

    /// <summary>CUDA_ERROR_MPS_CLIENT_TERMINATED.</summary>
    private const int ClientTerminated = 810;

    /// <summary>CUDA_ERROR_EXTERNAL_DEVICE.</summary>
    private const int ExternalDevice = 911;

    /// <summary>CUDA_ERROR_UNKNOWN: what a card gives that has fallen off its bus.</summary>
    private const int Unknown = 999;

    /// <summary>True for a code after which an open device is of no more use to the process.</summary>
    public static bool IsMeantBy(int code) => IsKernelFault(code) || IsHardwareFault(code);

    /// <summary>What to do about a code, or null for one that leaves the device alone.</summary>
    public static string? Advice(int code) =>
        code == CudaResult.LaunchTimeout ? "a kernel before this call does not end"
        : IsKernelFault(code)
            ? "a kernel went wrong before this call and the device's context is lost (CUDA_LAUNCH_BLOCKING=1 finds the " +
              "kernel)"
        : IsHardwareFault(code)
            ? "the card or its link has failed, or another process holds it: nvidia-smi and the system's log say more"
        : null;

    /// <summary>
    /// What the caller of a device shall see: the loss, which is reported, where the driver's code means one.
    /// </summary>
    public static Exception Judge(DeviceLoss loss, Exception exception) =>
        exception is CudaException { LosesDevice: true } lost
            ? loss.Report(lost.Call, $"{lost.Call} gave {lost.CodeName} ({lost.Code}); {Advice(lost.Code)}", lost)
            : exception;

    private static bool IsKernelFault(int code) =>
        code is IllegalAddress or CudaResult.LaunchTimeout or Assert or (>= HardwareStackError and <= LaunchFailed)
            or TensorMemoryLeak;

    private static bool IsHardwareFault(int code) =>
        code is Unavailable or UncorrectableEcc or UncorrectableNvlink or Contained or ContextDestroyed
            or ClientTerminated or ExternalDevice or Unknown;
}
