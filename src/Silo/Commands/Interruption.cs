using System.Runtime.InteropServices;

namespace Krewe.Silo.Commands;

/// <summary>
/// Ctrl-C and SIGTERM as a cancellation token: the first asks the command to end well, the second ends the process at
/// once, as if nobody had listened.
/// </summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _registrations;

    public Interruption() => _registrations =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle),
    ];

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _source.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }

        _source.Dispose();
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = true;
        if (_source.IsCancellationRequested)
        {
            // Other listeners of the process, such as hosts, may also have cancelled the default: end it ourselves.
            Environment.Exit(130);
        }

        _source.Cancel();
    }
}
