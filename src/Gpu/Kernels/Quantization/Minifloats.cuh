// The element formats of Model/Precision, bit for bit the reference's: codes in integers, and quotients rounded as a
// division rounds them. FP8 codes come from the card's own conversion where it has one.
#pragma once

// Mirrors DeviceElement in DeviceQuantized.cs.
enum class Element { E4M3, E5M2, E5M6 };

template <Element E> struct CodeOf { using Type = unsigned char; };
template <> struct CodeOf<Element::E5M6> { using Type = unsigned short; };

// A binary format of at most 16 bits with a sign and subnormals; mirrors Model/Precision/Minifloat.cs.
template <Element E>
struct Minifloat {
    using Code = typename CodeOf<E>::Type;
    static constexpr int ExponentBits = E == Element::E4M3 ? 4 : 5;
    static constexpr int MantissaBits = E == Element::E4M3 ? 3 : E == Element::E5M2 ? 2 : 6;
    static constexpr unsigned Largest = E == Element::E4M3 ? 0x7E : E == Element::E5M2 ? 0x7B : 0x7BF;
    static constexpr unsigned NaN = E == Element::E5M6 ? 0x7FF : 0x7F;
    // The code behind the largest, where that is not NaN.
    static constexpr unsigned Infinity = Largest + 1 == NaN ? ~0u : Largest + 1;
    static constexpr int Bias = (1 << (ExponentBits - 1)) - 1;
    static constexpr int SignPlace = ExponentBits + MantissaBits;
    static constexpr int Dropped = 23 - MantissaBits;

    // The nearest code, ties to even, saturated; NaN stays NaN.
    __device__ static unsigned encode(float value) {
        constexpr unsigned smallest_normal = (unsigned)(128 - Bias) << 23;
        constexpr unsigned rebias = ((unsigned)(127 - Bias) << 23) - ((1u << (Dropped - 1)) - 1);
        constexpr unsigned step = (unsigned)(127 - Bias + Dropped + 1) << 23;
        unsigned bits = __float_as_uint(value);
        unsigned sign = bits >> 31 << SignPlace, magnitude = bits & 0x7FFFFFFFu;
        if (magnitude > 0x7F800000u) return sign | NaN;
        // A sum whose last place is one step of this format rounds the subnormal ones.
        unsigned code = magnitude < smallest_normal
            ? __float_as_uint(__uint_as_float(magnitude) + __uint_as_float(step)) - step
            : (magnitude - rebias + (magnitude >> Dropped & 1)) >> Dropped;
        return sign | min(code, Largest);
    }

    // The value of a code, exactly: its bits are those of a float32 whose exponent is too small.
    __device__ static float decode(unsigned code) {
        constexpr unsigned magnitudes = (1u << SignPlace) - 1;
        constexpr unsigned factor = (unsigned)(127 + 127 - Bias) << 23;
        unsigned magnitude = code & magnitudes;
        float value = __uint_as_float(magnitude << Dropped) * __uint_as_float(factor);
        if (magnitude > Largest) value = __uint_as_float(magnitude == Infinity ? 0x7F800000u : 0x7FC00000u);
        return code >> SignPlace & 1 ? -value : value;
    }
};

// max|x| / largest element, or 1 for zeros, and its reciprocal; mirrors TileFormat.ScaleOf.
struct Scale {
    float value;
    // 0 where quotient() might not round as a division.
    float inverse;

    // `max` as bits, which order like the magnitudes that they are, NaN above all.
    __device__ static Scale of(unsigned max, float element_max, float smallest_max, bool power_of_two) {
        unsigned bits = 0x7FC00000u;
        if (max <= 0x7F800000u) {
            float scale = fmaxf(__uint_as_float(max), smallest_max) / element_max;
            bits = __float_as_uint(scale < 1.17549435E-38f ? 1.0f : scale);
        }

        if (power_of_two) {
            unsigned exponent = (bits >> 23) + ((bits & 0x7FFFFFu) != 0);
            bits = (exponent < 1 ? 1 : exponent > 254 ? 254 : exponent) << 23;
        }

        float value = __uint_as_float(bits);
        return {value, inverts(value) ? 1.0f / value : 0.0f};
    }

    // Between 2^-80 and 2^100 neither the remainder nor the reciprocal leaves the normal numbers where it matters; and
    // the reciprocal must be the nearest one, which a mantissa of all ones has not for sure (Markstein 1990).
    __device__ static bool inverts(float value) {
        return value >= 8.27180613e-25f && value <= 1.26765060e30f
            && (__float_as_uint(value) & 0x7FFFFFu) != 0x7FFFFFu;
    }

    // x / value, rounded to nearest, where the inverse is not 0; of a power of two that is one product.
    __device__ float quotient(float x, bool power_of_two = false) const {
        float q = x * inverse;
        if (power_of_two) return q;
        q = fmaf(fmaf(-value, q, x), inverse, q);
        return copysignf(fmaf(fmaf(-value, q, x), inverse, q), x);
    }
};

// The code of x / scale, of any x and scale. A NaN has the sign that x86 gives it: that of x if x is one, minus where
// infinity meets infinity.
template <Element E>
__device__ __noinline__ unsigned encode_quotient(float x, float scale) {
    float quotient = x / scale;
    if (quotient == quotient) return Minifloat<E>::encode(quotient);
    bool negative = x != x ? __float_as_uint(x) >> 31 : scale == scale;
    return (unsigned)negative << Minifloat<E>::SignPlace | Minifloat<E>::NaN;
}

// The codes of four quotients by one scale, as FourCodes has them.
template <Element E>
__device__ __noinline__ uint2 encode_quotients(float4 x, float scale) {
    const unsigned a = encode_quotient<E>(x.x, scale), b = encode_quotient<E>(x.y, scale);
    const unsigned c = encode_quotient<E>(x.z, scale), d = encode_quotient<E>(x.w, scale);
    if (E == Element::E5M6) return {a | b << 16, c | d << 16};
    return {a | b << 8 | c << 16 | d << 24, 0};
}

// Codes of four finite values, the first in the lowest place: 32 bits, of E5M6 64.
template <Element E>
struct FourCodes {
    unsigned words[E == Element::E5M6 ? 2 : 1];

    __device__ void set(const unsigned (&code)[4]) {
        if (E == Element::E5M6) {
            words[0] = code[0] | code[1] << 16;
            words[E == Element::E5M6] = code[2] | code[3] << 16;
        } else {
            words[0] = code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24;
        }
    }

    __device__ void encode(const float (&x)[4]) {
#if __CUDA_ARCH__ >= 890
        if constexpr (E == Element::E4M3) {
            asm("{ .reg .b16 low, high;"
                " cvt.rn.satfinite.e4m3x2.f32 low, %2, %1; cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;"
                " mov.b32 %0, {low, high}; }" : "=r"(words[0]) : "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]));
        } else if constexpr (E == Element::E5M2) {
            asm("{ .reg .b16 low, high;"
                " cvt.rn.satfinite.e5m2x2.f32 low, %2, %1; cvt.rn.satfinite.e5m2x2.f32 high, %4, %3;"
                " mov.b32 %0, {low, high}; }" : "=r"(words[0]) : "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3]));
        } else
#endif
        {
            unsigned code[4];
#pragma unroll
            for (int i = 0; i < 4; i++) code[i] = Minifloat<E>::encode(x[i]);
            set(code);
        }
    }

    // Of x / scale, each with its own scale.
    __device__ void encode(const float (&x)[4], const Scale (&scale)[4]) {
        if (scale[0].inverse != 0 && scale[1].inverse != 0 && scale[2].inverse != 0 && scale[3].inverse != 0) {
            float quotient[4];
#pragma unroll
            for (int i = 0; i < 4; i++) quotient[i] = scale[i].quotient(x[i]);
            encode(quotient);
        } else {
            unsigned code[4];
#pragma unroll
            for (int i = 0; i < 4; i++) code[i] = encode_quotient<E>(x[i], scale[i].value);
            set(code);
        }
    }

    // Of x / scale.
    __device__ void encode(const float (&x)[4], const Scale& scale, bool power_of_two) {
        if (scale.inverse != 0) {
            float quotient[4];
#pragma unroll
            for (int i = 0; i < 4; i++) quotient[i] = scale.quotient(x[i], power_of_two);
            encode(quotient);
        } else {
            const uint2 codes = encode_quotients<E>({x[0], x[1], x[2], x[3]}, scale.value);
            words[0] = codes.x;
            if (E == Element::E5M6) words[E == Element::E5M6] = codes.y;
        }
    }

    // The values of the codes.
    __device__ void decode(float (&x)[4]) const {
#if __CUDA_ARCH__ >= 890
        if constexpr (E == Element::E4M3) {
            asm("{ .reg .b16 low, high, a, b, c, d; .reg .b32 first, second;"
                " mov.b32 {low, high}, %4; cvt.rn.f16x2.e4m3x2 first, low; cvt.rn.f16x2.e4m3x2 second, high;"
                " mov.b32 {a, b}, first; mov.b32 {c, d}, second;"
                " cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; cvt.f32.f16 %2, c; cvt.f32.f16 %3, d; }"
                : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3]) : "r"(words[0]));
        } else
#endif
        {
            constexpr int bits = E == Element::E5M6 ? 16 : 8;
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[i] = Minifloat<E>::decode(words[i * bits / 32] >> i * bits % 32 & ((1u << bits) - 1));
        }
    }
};
