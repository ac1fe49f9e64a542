using System.Buffers;
using System.Net.Sockets;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// Sends small messages in order without making anyone wait: what is posted while a write is under way goes with the
/// next one. Thread-safe. A write that fails is forgotten: the reader of the same socket notices.
/// </summary>
internal sealed class ControlWriter(ChannelSocket socket)
{
    private readonly Lock _lock = new();
    private ArrayBufferWriter<byte> _posted = new(256);
    private ArrayBufferWriter<byte> _leaving = new(256);
    private bool _writing;
    private bool _failed;

    /// <summary>Sends a message soon.</summary>
    public void Post(in ChannelMessage message)
    {
        lock (_lock)
        {
            if (_failed)
            {
                return;
            }

            message.WriteTo(_posted);
            if (_writing)
            {
                return;
            }

            _writing = true;
        }

        _ = WriteAsync();
    }

    private async Task WriteAsync()
    {
        try
        {
            while (true)
            {
                lock (_lock)
                {
                    if (_posted.WrittenCount == 0)
                    {
                        _writing = false;
                        return;
                    }

                    (_posted, _leaving) = (_leaving, _posted);
                }

                await socket.SendAsync(_leaving.WrittenMemory, CancellationToken.None).ConfigureAwait(false);
                _leaving.ResetWrittenCount();
            }
        }
        catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
        {
            lock (_lock)
            {
                _failed = true;
            }
        }
    }
}
