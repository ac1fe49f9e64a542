using System.CommandLine;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Krewe.Gpu.Driver;
using Krewe.Model.Kernels.Cpu;

namespace Krewe.Silo.Commands;

/// <summary><c>krewe devices</c>: what this machine can compute on.</summary>
internal static class DevicesCommand
{
    private const double GiB = 1L << 30;

    /// <summary>The command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<bool> json = SharedOptions.Json("Everything as one JSON object");
        var command = new ToolCommand(
            "devices", "Shows the devices of this machine, what of CUDA was found, and what is missing.",
            "krewe devices", "krewe devices --json")
        {
            json,
        };
        command.SetAction(parsed =>
        {
            CpuInfo cpu = CpuInfo.OfThisMachine();
            CudaFindings cuda = CudaProbe.Run();
            if (parsed.GetValue(json))
            {
                Json.Write(terminal.Out, ToJson(cpu, cuda));
            }
            else
            {
                Print(terminal.Out, cpu, cuda);
            }

            return ExitCode.Fine;
        });
        return command;
    }

    private static JsonObject ToJson(CpuInfo cpu, CudaFindings cuda) => new()
    {
        ["cpu"] = new JsonObject
        {
            ["name"] = cpu.Name,
            ["cores"] = cpu.Cores,
            ["kernels"] = cpu.Kernels,
            ["memory_bytes"] = cpu.MemoryBytes,
        },
        ["gpus"] = new JsonArray([.. cuda.Devices.Select(gpu => (JsonNode)new JsonObject
        {
            ["index"] = gpu.Index,
            ["name"] = gpu.Name,
            ["memory_bytes"] = gpu.MemoryBytes,
            ["compute_capability"] = gpu.ComputeCapability,
            ["multiprocessors"] = gpu.Multiprocessors,
        })]),
        ["cuda"] = new JsonObject
        {
            ["driver"] = cuda.Driver,
            ["driver_version"] = cuda.DriverVersion,
            ["fault"] = cuda.Fault,
            ["nvrtc"] = cuda.Nvrtc,
            ["cublaslt"] = cuda.CublasLt,
            ["obstacle"] = cuda.Obstacle,
        },
    };

    private static void Print(TextWriter output, CpuInfo cpu, CudaFindings cuda)
    {
        output.WriteLine(
            $"CPU      {cpu.Name}, {cpu.Cores} cores, kernels {cpu.Kernels}, {cpu.MemoryBytes / GiB:F1} GiB memory");
        foreach (CudaDeviceInfo gpu in cuda.Devices)
        {
            output.WriteLine(
                $"GPU {gpu.Index}    {gpu.Name}, compute capability {gpu.ComputeCapability}, " +
                $"{gpu.Multiprocessors} multiprocessors, {gpu.MemoryBytes / GiB:F1} GiB memory");
        }

        if (cuda.Obstacle is { } obstacle)
        {
            output.WriteLine($"GPU      {(cuda.Devices.Count == 0 ? "none" : "no kernels")}: {obstacle}");
        }

        output.WriteLine();
        Library(output, "driver", CudaVersion(cuda), "install NVIDIA's driver to compute on a GPU");
        Library(output, "nvrtc", cuda.Nvrtc, "compiles GPU kernels; part of the CUDA toolkit 12 or 13");
        Library(output, "cublasLt", cuda.CublasLt, "matrix products on a GPU; part of the CUDA toolkit 12 or 13");
        output.WriteLine();
        output.WriteLine(cuda.Obstacle is not null
            ? "krewe computes on the CPU here."
            : "--device cuda:N computes on a GPU, --device cuda:0,cuda:1 on several; without it, commands compute on the " +
              "CPU.");
    }

    private static string? CudaVersion(CudaFindings cuda) =>
        cuda.Driver is null ? null : $"{cuda.Driver}, speaks CUDA {cuda.DriverVersion ?? "of unknown version"}";

    private static void Library(TextWriter output, string name, string? found, string purpose) =>
        output.WriteLine($"{name,-8} {(found is null ? $"missing: {purpose}" : $"found: {found}")}");
}

/// <summary>The CPU of this machine.</summary>
/// <param name="Name">Model name.</param>
/// <param name="Cores">Cores that this process may use.</param>
/// <param name="Kernels">Kernels that the CPU gets, by instruction set.</param>
/// <param name="MemoryBytes">Memory that this process may use.</param>
internal sealed record CpuInfo(string Name, int Cores, string Kernels, long MemoryBytes)
{
    /// <summary>Asks the system.</summary>
    public static CpuInfo OfThisMachine()
    {
        using var pool = new ComputePool(1);
        return new(
            ModelName(), Environment.ProcessorCount, new CpuKernels(pool).Name,
            GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
    }

    private static string ModelName()
    {
        const string file = "/proc/cpuinfo";
        string? line = File.Exists(file)
            ? File.ReadLines(file).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))
            : null;
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim()
            ?? Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER")
            ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
