using Krewe.Model.Kernels;

namespace Krewe.Model.Tensors;

/// <summary>Reading and copying of tensors that no submitted work uses at present, and work that nobody waits for.</summary>
public static class DeviceTransfers
{
    /// <summary>Submits work behind which others may be submitted before it is done.</summary>
    /// <returns>
    /// Launched: the work has called its kernels, or failed to. Done: they are done, as of <see cref="IDevice.SubmitAsync"/>.
    /// </returns>
    public static (Task Launched, Task Done) Launch(
        this IDevice device, Action<IKernels> work, WorkPriority priority = default)
    {
        var called = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task done = device.SubmitAsync(
            static (kernels, state) =>
            {
                state.Work(kernels);
                state.Called.SetResult();
            },
            (Work: work, Called: called), priority);
        // Work that throws, or never comes to run, ends without having called.
        return (Task.WhenAny(called.Task, done).Unwrap(), done);
    }

    /// <summary>True where the host reads and writes the device's memory as its own.</summary>
    public static bool SharesHostMemory(this IDevice device) => device.MemorySpace == IDevice.HostSpace;

    /// <summary>
    /// Runs <paramref name="read"/>, which only transfers values: at once where the host can reach the device's memory, else
    /// as work of the device.
    /// </summary>
    public static Task ReadAsync(this IDevice device, Action<IKernels> read)
    {
        if (!device.SharesHostMemory())
        {
            return device.SubmitAsync(read);
        }

        read(device.Kernels);
        return Task.CompletedTask;
    }

    /// <summary>A dense copy of a tensor, or an empty one of an empty one.</summary>
    /// <param name="device">Whose memory source or destination lies in.</param>
    /// <param name="source">On the device or the host; its rows may have gaps.</param>
    /// <param name="arena">Of the device, or of the host.</param>
    public static async Task<Tensor> CopyAsync(this IDevice device, Tensor source, Arena arena)
    {
        if (source.IsEmpty)
        {
            return default;
        }

        Tensor copy = arena.Allocate(source.Shape, source.DType);
        await device.ReadAsync(kernels =>
        {
            if (source.Rows <= 1 || source.IsDense)
            {
                kernels.Transfer(source, copy);
                return;
            }

            for (int row = 0; row < source.Rows; row++)
            {
                kernels.Transfer(source.SliceRows(row, 1), copy.SliceRows(row, 1));
            }
        });
        return copy;
    }
}
