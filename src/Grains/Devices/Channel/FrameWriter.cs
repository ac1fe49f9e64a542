using System.Buffers;
using System.IO.Hashing;
using System.Net.Sockets;
using Krewe.Model.Tensors;

namespace Krewe.Grains.Devices.Channel;

/// <summary>
/// Writes tensors to a socket, straight from their memory: only the head of a tensor, and rows with gaps between them,
/// pass through a small buffer. One writing at a time.
/// </summary>
internal sealed class FrameWriter
{
    /// <summary>The values that ride with the header in one write.</summary>
    private const int HeadBytes = 4096;

    private const int StagingBytes = 256 << 10;

    private readonly ChannelSocket _socket;
    private readonly NativeBufferPool _pool;
    private readonly bool _checksum;
    private readonly ChannelFaults? _faults;
    private readonly ArrayBufferWriter<byte> _header = new(HeadBytes + 512);
    private readonly XxHash3 _hash = new();

    /// <summary>A writer to <paramref name="socket"/>.</summary>
    public FrameWriter(ChannelSocket socket, NativeBufferPool pool, TensorChannelOptions options)
    {
        (_socket, _pool, _checksum, _faults) = (socket, pool, options.ChecksumValues, options.Faults);
    }

    /// <summary>Sends a message without values.</summary>
    public ValueTask WriteAsync(ChannelMessage message, CancellationToken cancellationToken)
    {
        _header.ResetWrittenCount();
        message.WriteTo(_header);
        return _socket.SendAsync(_header.WrittenMemory, cancellationToken);
    }

    /// <summary>Sends a tensor; on an exception the stream is broken in the middle of it.</summary>
    public async ValueTask WriteAsync(TensorTicket ticket, Tensor tensor, CancellationToken cancellationToken)
    {
        bool cut = _faults?.TakeCut() ?? false;
        long bytes = ticket.Bytes;
        _hash.Reset();
        WriteHeader(ticket, bytes);
        bool isDense = tensor.IsDense || tensor.Rows == 1;
        int head = isDense ? (int)Math.Min(HeadBytes, bytes) : 0;
        Append(tensor.Address, head);
        await _socket.SendAsync(_header.WrittenMemory, cancellationToken).ConfigureAwait(false);
        if (cut)
        {
            throw new SocketException((int)SocketError.ConnectionAborted);
        }

        if (isDense)
        {
            await SendDenseAsync(tensor.Address + head, bytes - head, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            await SendRowsAsync(tensor, cancellationToken).ConfigureAwait(false);
        }

        if (_checksum)
        {
            ulong hash = _hash.GetCurrentHashAsUInt64() ^ (_faults?.TakeCorruptValues() == true ? 1UL : 0);
            await _socket.SendAsync(BitConverter.GetBytes(hash), cancellationToken).ConfigureAwait(false);
        }
    }

    private void WriteHeader(TensorTicket ticket, long bytes)
    {
        _header.ResetWrittenCount();
        new ChannelMessage(MessageKind.Tensor, ticket.Id, bytes)
        {
            Scope = ticket.Scope,
            Attempt = ticket.Attempt,
            DType = ticket.DType,
            Shape = TensorShape.Of(ticket.Shape),
            HasChecksum = _checksum,
        }.WriteTo(_header);
        if (_faults?.TakeCorruptHeader() == true)
        {
            System.Runtime.InteropServices.MemoryMarshal.AsMemory(_header.WrittenMemory).Span[^1] ^= 1;
        }
    }

    private unsafe void Append(nint address, int count)
    {
        var values = new ReadOnlySpan<byte>((void*)address, count);
        _header.Write(values);
        Hash(address, count);
    }

    private async ValueTask SendDenseAsync(nint address, long bytes, CancellationToken cancellationToken)
    {
        // With a checksum in pieces, so that the kernel copies what the hash has just brought into the cache.
        long piece = _checksum ? StagingBytes : bytes;
        for (long sent = 0; sent < bytes; sent += piece)
        {
            long count = Math.Min(piece, bytes - sent);
            Hash(address + (nint)sent, count);
            await _socket.SendAsync(address + (nint)sent, count, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask SendRowsAsync(Tensor tensor, CancellationToken cancellationToken)
    {
        long rowBytes = (long)tensor.Columns * tensor.DType.SizeInBytes();
        if (rowBytes > StagingBytes)
        {
            for (int row = 0; row < tensor.Rows; row++)
            {
                await SendDenseAsync(tensor.SliceRows(row, 1).Address, rowBytes, cancellationToken).ConfigureAwait(false);
            }

            return;
        }

        nint staging = _pool.Rent(StagingBytes);
        try
        {
            int rowsAtOnce = (int)(StagingBytes / rowBytes);
            for (int row = 0; row < tensor.Rows; row += rowsAtOnce)
            {
                int rows = Math.Min(rowsAtOnce, tensor.Rows - row);
                Gather(tensor.SliceRows(row, rows), rowBytes, staging);
                Hash(staging, rows * rowBytes);
                await _socket.SendAsync(staging, rows * rowBytes, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _pool.Return(staging, StagingBytes);
        }
    }

    private static unsafe void Gather(Tensor rows, long rowBytes, nint staging)
    {
        for (int row = 0; row < rows.Rows; row++)
        {
            nint source = rows.Address + ((nint)row * rows.RowStride * rows.DType.SizeInBytes());
            Buffer.MemoryCopy((void*)source, (void*)(staging + (nint)(row * rowBytes)), rowBytes, rowBytes);
        }
    }

    private unsafe void Hash(nint address, long count)
    {
        if (_checksum)
        {
            _hash.Append(new ReadOnlySpan<byte>((void*)address, checked((int)count)));
        }
    }
}
