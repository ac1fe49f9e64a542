// Speed and memory of whole models: the cost of the grains, training, decoding, the channel, the pipeline. Every
// comparison alternates within one run.
//   dotnet run -c Release --project benchmarks/Cluster -- grains [--preset tiny] [--threads 2] [--rounds 7]
//   dotnet run -c Release --project benchmarks/Cluster -- grains --device cuda:0 [--preset 3b] [--precision fp8] [--turns 2]
//   dotnet run -c Release --project benchmarks/Cluster -- train [--preset docs-26m] [--threads 1]
//   dotnet run -c Release --project benchmarks/Cluster -- decode FOLDER [--threads 1] [--silos 2]
//   dotnet run -c Release --project benchmarks/Cluster -- channel [--rounds 7]
//   dotnet run -c Release --project benchmarks/Cluster -- bubble [--rounds 7]
//   dotnet run -c Release --project benchmarks/Cluster -- overlap [--rounds 7]
//   dotnet run -c Release --project benchmarks/Cluster -- memory [--preset docs-26m]
//   dotnet run -c Release --project benchmarks/Cluster -- soak [--minutes 20] [--every 60]
using Krewe.Cluster;

string what = args.Length > 0 ? args[0] : "";
if (what == ChannelProcesses.ChildMode)
{
    await ChannelProcesses.RunChildAsync(args[1..]);
    return 0;
}

var options = BenchmarkOptions.Parse(args.Skip(1));
Console.WriteLine(Machine.Describe(options.Threads));
switch (what)
{
    case "grains":
        await (options.Devices.All(device => device.IsCuda) ? GrainCostInTurns.RunAsync(options) : GrainCost.RunAsync(options));
        return 0;
    case "train":
        await TrainingSpeed.RunAsync(options);
        return 0;
    case "decode":
        await DecodingSpeed.RunAsync(options);
        return 0;
    case "soak":
        return await Soak.RunAsync(options);
    case "channel":
        await ChannelSpeed.RunAsync(options);
        return 0;
    case "bubble":
        await PipelineTimes.BubbleAsync(options);
        return 0;
    case "overlap":
        await PipelineTimes.OverlapAsync(options);
        return 0;
    case "memory":
        await ParameterMemory.RunAsync(options);
        return 0;
    default:
        Console.Error.WriteLine("say what to measure: grains, train, decode, channel, bubble, overlap, memory or soak");
        return 2;
}
