using System.Buffers.Binary;
using System.Text;
using Krewe.Model.Checkpoints;
using Krewe.Model.Tensors;
using Krewe.TestSupport;
using Xunit;

namespace Krewe.Model.Tests.Checkpoints;

public sealed class SafetensorsFileTests
{
    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 4, "cut short or damaged")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 9, "1 bytes after 'a' belong to no tensor")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4, "needs 8 bytes and has 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}""", 8, "cut short or damaged")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""", 8, "lacks a proper")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""", 8, "lacks a proper")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}""", 8, "lacks a proper")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}""", 8, "lacks a proper")]
    [InlineData("""{"a":{"dtype":"F32","data_offsets":[0,8]}}""", 8, "lacks a proper")]
    [InlineData("""{"a":7}""", 8, "lacks a proper")]
    [InlineData("""{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}""", 8, "unknown dtype 'F4'")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}""", 8, "needs")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}""", 6, "overlap")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}}""", 10, "a hole of 2 bytes")]
    [InlineData("""{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}""", 8, "names 'a' twice")]
    [InlineData("""{"a":""", 8, "not valid JSON")]
    [InlineData("[]", 0, "no JSON object")]
    [InlineData("""{"__metadata__":3}""", 0, "__metadata__ is no JSON object")]
    [InlineData("""{"__metadata__":{"k":3}}""", 0, "'k' is no string")]
    public void A_bad_header_gives_one_line(string header, int dataBytes, string expected)
    {
        using TemporaryFolder folder = new();
        WriteRaw(folder["x.safetensors"], header, dataBytes);
        AssertOneLine(folder["x.safetensors"], expected);
    }

    [Theory]
    [InlineData(new byte[0], "0 bytes are no safetensors file")]
    [InlineData(new byte[] { 1, 2, 3 }, "3 bytes are no safetensors file")]
    [InlineData(new byte[] { 200, 0, 0, 0, 0, 0, 0, 0, (byte)'{' }, "the header claims 200 bytes, the file has 9")]
    [InlineData(new byte[] { 255, 255, 255, 255, 255, 255, 255, 255, 0 }, "the header claims 18446744073709551615 bytes")]
    public void A_cut_file_gives_one_line(byte[] content, string expected)
    {
        using TemporaryFolder folder = new();
        File.WriteAllBytes(folder["x.safetensors"], content);
        AssertOneLine(folder["x.safetensors"], expected);
    }

    [Fact]
    public void A_missing_file_gives_one_line()
    {
        using TemporaryFolder folder = new();
        AssertOneLine(folder["none.safetensors"], "no such file");
        AssertOneLine(folder["none/none.safetensors"], "no such file");
    }

    [Fact]
    public void Scalars_empty_tensors_metadata_and_foreign_types_are_read()
    {
        using TemporaryFolder folder = new();
        const string header = """
            {"__metadata__":{"format":"pt"},"none":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},
            "one":{"dtype":"I16","shape":[],"data_offsets":[0,2]}}
            """;
        WriteRaw(folder["x.safetensors"], header, 2);
        using SafetensorsFile file = SafetensorsFile.Open(folder["x.safetensors"]);
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Empty(file.ReadFloat32("none"));
        Assert.Equal(1, file["one"].Count);
        Assert.Equal(new TensorShape(1), file["one"].Shape);
        Assert.Equal([(short)0], file.ReadArray<short>("one"));
        Assert.Contains("I16", Assert.Throws<KreweException>(() => file["one"].DType).Message);
        Assert.Contains("not Int32", Assert.Throws<KreweException>(() => file.ReadArray<int>("one")).Message);
        Assert.Contains("no tensor 'two'", Assert.Throws<KreweException>(() => file["two"]).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => file.Bytes(file["one"], 1, 2).Length);
    }

    [Fact]
    public void Nothing_is_read_after_Dispose()
    {
        SafetensorsFile file = SafetensorsFile.Open(Path.Combine(TestData.GoldenFolder, "fp8", "quant.safetensors"));
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.ReadFloat32("weight"));
        file.Dispose();
    }

    [Fact]
    public void The_writer_makes_what_the_reader_reads()
    {
        using TemporaryFolder folder = new();
        SafetensorsEntry[] entries =
        [
            new("bias", DType.Float32, new(2)), new("ä \"quoted\"", DType.BFloat16, new(1, 3)),
            new("codes", DType.Float8E4M3, new(5)),
        ];
        using (SafetensorsWriter writer = SafetensorsWriter.Create(folder["x"], entries))
        {
            writer.Append("codes", [1, 2, 3]);
            writer.Append("bias", [0, 0, 128, 63, 0, 0, 0, 64]);
            writer.Append("ä \"quoted\"", [128, 63, 0, 64, 64, 64]);
            Assert.Throws<InvalidOperationException>(writer.Finish);
            writer.Append("codes", [4, 5]);
            Assert.Throws<ArgumentException>(() => writer.Append("codes", [6]));
            Assert.Throws<ArgumentException>(() => writer.Append("none", [6]));
            writer.Finish();
        }

        byte[] bytes = File.ReadAllBytes(folder["x"]);
        Assert.Equal(0, BinaryPrimitives.ReadInt64LittleEndian(bytes) % 8);
        using SafetensorsFile file = SafetensorsFile.Open(folder["x"]);
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal([1f, 2f], file.ReadFloat32("bias"));
        Assert.Equal([1f, 2f, 3f], file.ReadFloat32("ä \"quoted\""));
        Assert.Equal([1, 2, 3, 4, 5], file.ReadArray<byte>("codes"));
        Assert.Throws<IOException>(() => SafetensorsWriter.Create(folder["x"], entries));
    }

    private static void WriteRaw(string path, string header, int dataBytes)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        byte[] content = new byte[8 + json.Length + dataBytes];
        BinaryPrimitives.WriteInt64LittleEndian(content, json.Length);
        json.CopyTo(content, 8);
        File.WriteAllBytes(path, content);
    }

    private static void AssertOneLine(string path, string expected)
    {
        KreweException exception = Assert.Throws<KreweException>(() => SafetensorsFile.Open(path));
        Assert.StartsWith(path + ": ", exception.Message);
        Assert.Contains(expected, exception.Message);
        Assert.DoesNotContain("\n", exception.Message);
    }
}
