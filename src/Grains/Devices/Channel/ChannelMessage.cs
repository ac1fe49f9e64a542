using System.Buffers;
using System.Buffers.Binary;
using System.IO.Hashing;
using Krewe.Model.Tensors;
using MessagePack;

namespace Krewe.Grains.Devices.Channel;

/// <summary>What a message of the tensor channel says. S: from the side that connected, R: from the one that listens.</summary>
internal enum MessageKind : byte
{
    /// <summary>S: who connects. Incarnation, name, nonce.</summary>
    Hello = 1,

    /// <summary>R: who listens. Incarnation, name, nonce.</summary>
    Challenge,

    /// <summary>S: proof of the token.</summary>
    Proof,

    /// <summary>R: proof of the token, and the window in bytes.</summary>
    Welcome,

    /// <summary>R: why the connection ends.</summary>
    Fault,

    /// <summary>S: a tensor, whose values follow.</summary>
    Tensor,

    /// <summary>S: a ticket whose tensor waits for room in the window.</summary>
    Offer,

    /// <summary>S: an offered tensor that will not come.</summary>
    Withdraw,

    /// <summary>R: an offered ticket that somebody waits for.</summary>
    Want,

    /// <summary>R: a ticket whose tensor has come whole, and its bytes if they take no room any more.</summary>
    Arrived,

    /// <summary>R: bytes that were claimed or dropped later.</summary>
    Credit,
}

/// <summary>One message: a prefix of magic, length and checksum, then a MessagePack array.</summary>
/// <param name="Kind">What it says; the rest depends on it.</param>
/// <param name="Id">Number of a ticket.</param>
/// <param name="Bytes">Size of the values, a credit, or the window.</param>
internal readonly record struct ChannelMessage(MessageKind Kind, long Id = 0, long Bytes = 0)
{
    /// <summary>Bytes of the prefix: magic (2), length (2), checksum of the array (4), little-endian.</summary>
    public const int PrefixBytes = 8;

    /// <summary>Longest array accepted: a kilobyte holds the longest name and reason.</summary>
    public const int MaxBytes = 1024;

    /// <summary>Version of the protocol, part of the greeting.</summary>
    public const int Version = 1;

    /// <summary>Bytes of a nonce and of a proof.</summary>
    public const int SecretBytes = 32;

    private const ushort Magic = 0x544B;
    private const int LongestText = 600;

    /// <summary>Incarnation of the one that greets.</summary>
    public Guid Incarnation { get; init; }

    /// <summary>Version of the one that greets.</summary>
    public int Protocol { get; init; }

    /// <summary>Name of the silo that greets, or the reason of a fault.</summary>
    public string Text { get; init; } = "";

    /// <summary>Nonce or proof.</summary>
    public byte[] Secret { get; init; } = [];

    /// <summary>Scope of the ticket.</summary>
    public long Scope { get; init; }

    /// <summary>Attempt of the ticket.</summary>
    public long Attempt { get; init; }

    /// <summary>Element type of the tensor.</summary>
    public DType DType { get; init; }

    /// <summary>Extents of the tensor.</summary>
    public TensorShape Shape { get; init; }

    /// <summary>True where a checksum of the values follows them (8 bytes).</summary>
    public bool HasChecksum { get; init; }

    /// <summary>Appends the message with its prefix.</summary>
    public void WriteTo(ArrayBufferWriter<byte> output)
    {
        int start = output.WrittenCount;
        output.GetSpan(PrefixBytes)[..PrefixBytes].Clear();
        output.Advance(PrefixBytes);
        var writer = new MessagePackWriter(output);
        WriteFields(ref writer);
        writer.Flush();

        // The writer owns this memory until it is cleared: the prefix is filled in afterwards.
        Span<byte> written = System.Runtime.InteropServices.MemoryMarshal.AsMemory(output.WrittenMemory).Span[start..];
        Span<byte> body = written[PrefixBytes..];
        BinaryPrimitives.WriteUInt16LittleEndian(written, Magic);
        BinaryPrimitives.WriteUInt16LittleEndian(written[2..], checked((ushort)body.Length));
        BinaryPrimitives.WriteUInt32LittleEndian(written[4..], Crc32.HashToUInt32(body));
    }

    /// <summary>Length of the array that follows a prefix.</summary>
    /// <exception cref="ChannelException">Not a prefix of this protocol, or too long.</exception>
    public static int LengthOf(ReadOnlySpan<byte> prefix)
    {
        ushort magic = BinaryPrimitives.ReadUInt16LittleEndian(prefix);
        int length = BinaryPrimitives.ReadUInt16LittleEndian(prefix[2..]);
        return magic != Magic ? throw new ChannelException($"header starts with 0x{magic:x4}, not 0x{Magic:x4}")
            : length > MaxBytes ? throw new ChannelException($"header of {length} bytes, at most {MaxBytes} are allowed")
            : length;
    }

    /// <summary>Reads the array that follows <paramref name="prefix"/>.</summary>
    /// <exception cref="ChannelException">The checksum does not fit, or it is no message.</exception>
    public static ChannelMessage Read(ReadOnlySpan<byte> prefix, ReadOnlyMemory<byte> body)
    {
        uint expected = BinaryPrimitives.ReadUInt32LittleEndian(prefix[4..]);
        uint actual = Crc32.HashToUInt32(body.Span);
        if (expected != actual)
        {
            throw new ChannelException($"header checksum is 0x{actual:x8}, sent as 0x{expected:x8}");
        }

        try
        {
            var reader = new MessagePackReader(body);
            return ReadFields(ref reader);
        }
        catch (Exception exception) when (exception is MessagePackSerializationException or EndOfStreamException
            or OverflowException or ArgumentException)
        {
            throw new ChannelException($"header is no message: {exception.Message}", exception);
        }
    }

    private void WriteFields(ref MessagePackWriter writer)
    {
        switch (Kind)
        {
            case MessageKind.Offer or MessageKind.Withdraw or MessageKind.Want or MessageKind.Arrived
                or MessageKind.Credit:
                writer.WriteArrayHeader(3);
                WriteNumbers(ref writer);
                break;
            case MessageKind.Tensor:
                writer.WriteArrayHeader(8);
                WriteNumbers(ref writer);
                writer.Write(Scope);
                writer.Write(Attempt);
                writer.Write((byte)DType);
                writer.Write(HasChecksum);
                writer.WriteArrayHeader(Shape.Rank);
                foreach (long extent in Shape.ToArray())
                {
                    writer.Write(extent);
                }

                break;
            default:
                writer.WriteArrayHeader(7);
                WriteNumbers(ref writer);
                writer.Write(Protocol);
                writer.Write(Incarnation.ToByteArray());
                writer.Write(Text.Length > LongestText ? Text[..LongestText] : Text);
                writer.Write(Secret);
                break;
        }
    }

    private void WriteNumbers(ref MessagePackWriter writer)
    {
        writer.Write((byte)Kind);
        writer.Write(Id);
        writer.Write(Bytes);
    }

    private static ChannelMessage ReadFields(ref MessagePackReader reader)
    {
        int count = reader.ReadArrayHeader();
        var message = new ChannelMessage((MessageKind)reader.ReadByte(), reader.ReadInt64(), reader.ReadInt64());
        return (message.Kind, count) switch
        {
            (MessageKind.Offer or MessageKind.Withdraw or MessageKind.Want or MessageKind.Arrived
                or MessageKind.Credit, 3) => message,
            (MessageKind.Tensor, 8) => message with
            {
                Scope = reader.ReadInt64(),
                Attempt = reader.ReadInt64(),
                DType = (DType)reader.ReadByte(),
                HasChecksum = reader.ReadBoolean(),
                Shape = ReadShape(ref reader),
            },
            (MessageKind.Hello or MessageKind.Challenge or MessageKind.Proof or MessageKind.Welcome
                or MessageKind.Fault, 7) => message with
                {
                    Protocol = reader.ReadInt32(),
                    Incarnation = new(ReadBinary(ref reader)),
                    Text = reader.ReadString() ?? "",
                    Secret = ReadBinary(ref reader),
                },
            _ => throw new ChannelException($"header of kind {(int)message.Kind} with {count} fields"),
        };
    }

    private static TensorShape ReadShape(ref MessagePackReader reader)
    {
        int rank = reader.ReadArrayHeader();
        Span<long> extents = stackalloc long[3];
        for (int i = 0; i < rank; i++)
        {
            extents[i < 3 ? i : throw new ChannelException($"tensor of {rank} dimensions")] = reader.ReadInt64();
        }

        return TensorShape.Of(extents[..rank]);
    }

    private static byte[] ReadBinary(ref MessagePackReader reader) =>
        reader.ReadBytes() is { } bytes ? bytes.ToArray() : [];
}
