using System.Globalization;
using Krewe.Gpu.Devices;
using Krewe.Gpu.Driver;
using Krewe.GpuSpeed;

// Usage: Krewe.GpuSpeed [repetitions] [part of a case's name]. Run a Release build on a machine with a GPU.
int repetitions = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 20;
string filter = args.Length > 1 ? args[1] : "";
try
{
    using var device = new CudaDevice(0);
    (long free, long total) = device.Context.Memory();
    CudaFindings found = CudaProbe.Run();
    Console.WriteLine(
        $"{device.Context.DeviceName}, compute capability {device.Context.ComputeCapability}, "
        + $"{device.Context.Multiprocessors} multiprocessors, {total >> 20:N0} MiB, {free >> 20:N0} free");
    Console.WriteLine(
        $"driver speaks CUDA {found.DriverVersion}, {found.Nvrtc}, {found.CublasLt}, kernels {device.Kernels.Name}");
    using var cases = new GpuCases(device, repetitions, filter);
    await cases.RunAsync();
    return 0;
}
catch (CudaException exception)
{
    Console.Error.WriteLine(exception.Message);
    return 2;
}
