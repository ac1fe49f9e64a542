using Krewe.Model.Tensors;
using Krewe.Silo.Commands;

NativeHeap.ReturnFreedBlocks();
using var interruption = new Interruption();
return await KreweCommand.RunAsync(args, Terminal.OfProcess(), interruption.Token);
