using Krewe.Silo.Commands;

using var interruption = new Interruption();
return await KreweCommand.RunAsync(args, Terminal.OfProcess(), interruption.Token);
