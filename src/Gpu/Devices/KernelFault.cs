using System.Runtime.InteropServices;
using Krewe.Model.Kernels;

namespace Krewe.Gpu.Devices;

/// <summary>What is wrong with an index; mirrors <c>Checks.cu</c>.</summary>
internal enum KernelFaultKind
{
    /// <summary>No fault.</summary>
    None,

    /// <summary>A row number that names no row.</summary>
    Row,

    /// <summary>An expert that does not exist.</summary>
    Expert,

    /// <summary>Offsets that do not span what they should: position and value are their ends.</summary>
    Span,

    /// <summary>An offset below the one before, which is the limit.</summary>
    Offset,
}

/// <summary>The record that check kernels write; mirrors <c>Fault</c> in <c>Tensors.cuh</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal readonly struct KernelFault
{
    /// <summary>Number of the checked argument within its submission, from 1; 0 while nothing is wrong.</summary>
    public readonly int Argument;

    /// <summary>What is wrong.</summary>
    public readonly KernelFaultKind Kind;

    /// <summary>Where.</summary>
    public readonly int Position;

    /// <summary>What stands there.</summary>
    public readonly int Value;

    /// <summary>What it is measured by.</summary>
    public readonly int Limit;

    /// <summary>The exception that host memory's check would have thrown.</summary>
    /// <param name="argument">The argument's name and, of a matrix, its columns.</param>
    public ArgumentException ToException((string Name, int Columns) argument) => new(
        Kind switch
        {
            KernelFaultKind.Expert =>
                IndexFaults.Expert(Position / argument.Columns, Position % argument.Columns, Limit, Value),
            KernelFaultKind.Span => IndexFaults.Span(argument.Name, Limit, $"{Position}..{Value}"),
            KernelFaultKind.Offset => IndexFaults.Offset(argument.Name, Position, Limit, Value),
            _ => IndexFaults.Row(argument.Name, Position, Limit, Value),
        },
        argument.Name);
}
