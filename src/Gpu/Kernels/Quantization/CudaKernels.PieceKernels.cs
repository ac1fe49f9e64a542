using Krewe.Gpu.Driver;

namespace Krewe.Gpu.Kernels;

/// <content>The kernels that quantise, by element.</content>
internal sealed partial class CudaKernels
{
    /// <summary><c>QuantizePieces.cu</c>, <c>QuantizeRows.cu</c> and <c>QuantizeExperts.cu</c>, compiled for one element.</summary>
    private sealed class PieceKernels(KernelLibrary library, DeviceElement element)
    {
        public const string File = "Quantization/QuantizePieces.cu";
        public const string RowsFile = "Quantization/QuantizeRows.cu";
        public const string ExpertsFile = "Quantization/QuantizeExperts.cu";
        private readonly string _option = OptionOf(element);

        public CudaKernel Quantize => field ??= library.Kernel(File, "quantize", _option);

        public CudaKernel QuantizeRows => field ??= library.Kernel(RowsFile, "quantize_rows", _option);

        public CudaKernel RmsNormRows => field ??= library.Kernel(RowsFile, "rms_norm_quantize_rows", _option);

        public CudaKernel SwiGluRows => field ??= library.Kernel(RowsFile, "swiglu_quantize_rows", _option);

        public CudaKernel QuantizeExperts => field ??= library.Kernel(ExpertsFile, "quantize_experts", _option);

        public CudaKernel QuantizeWeightedExperts =>
            field ??= library.Kernel(ExpertsFile, "quantize_weighted_experts", _option);

        public CudaKernel RequantizeExperts => field ??= library.Kernel(ExpertsFile, "requantize_experts", _option);

        public CudaKernel QuantizeMany => field ??= library.Kernel(File, "quantize_many", _option);

        public CudaKernel Requantize => field ??= library.Kernel(File, "requantize", _option);

        public CudaKernel RmsNorm => field ??= library.Kernel(File, "rms_norm_quantize", _option);

        public CudaKernel SwiGlu => field ??= library.Kernel(File, "swiglu_quantize", _option);

        /// <summary>Option of the compiler for an element.</summary>
        public static string OptionOf(DeviceElement element) => $"--define-macro=KREWE_ELEMENT=Element::{element}";
    }
}
