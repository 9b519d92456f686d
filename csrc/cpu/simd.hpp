#pragma once
/// Vectors and number conversions of the kernels; included only where ADALORA_ISA names the set.

#include "cpu/kernels.hpp"

#ifndef ADALORA_ISA
#error "simd.hpp belongs into the sources that are compiled once per instruction set"
#endif

namespace adalora::ADALORA_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T, int Lanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(Lanes * sizeof(T))));
};

template <class T, int Lanes>
using Vector = typename VectorOf<T, Lanes>::type;

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class V, class T>
inline V load(const T* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

template <class V, class T>
inline void store(T* to, V value) {
  __builtin_memcpy(to, &value, sizeof value);
}

/// Adds the lanes pairwise: halves first.
template <class T, int Lanes>
inline T sum_lanes(Vector<T, Lanes> value) {
  if constexpr (Lanes == 1) {
    return value[0];
  } else {
    Vector<T, Lanes / 2> halves[2];
    __builtin_memcpy(halves, &value, sizeof value);
    return sum_lanes<T, Lanes / 2>(halves[0] + halves[1]);
  }
}

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

inline std::uint32_t bits_of(float value) { return __builtin_bit_cast(std::uint32_t, value); }
inline float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline float to_float(BFloat16 value) {
  return float_of(static_cast<std::uint32_t>(value.bits) << 16);
}

/// Shifts the bits into place and repairs the exponent with one exact product, subnormals included.
inline float to_float(Float16 value) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7fffu) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const float finite = float_of(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude | 0x7f800000u;
  return float_of((magnitude >= (0x7c00u << 13) ? special : bits_of(finite)) | sign);
}

inline float to_float(float value) { return value; }
inline double to_float(double value) { return value; }

/// Rounds to nearest even, as torch does; NaN stays NaN.
inline BFloat16 to_bfloat16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t result = value != value ? 0x7fc0u : rounded;
  return BFloat16{{static_cast<std::uint16_t>(result)}};
}

/// Rounds to nearest even; what is too large becomes infinite, NaN stays NaN.
inline Float16 to_float16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal numbers: add half of the last place (and one if it is odd), then drop 13 bits.
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Subnormal numbers: adding 0.5 aligns the last place of a half with the last place of a float.
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  std::uint32_t result = magnitude < (113u << 23) ? subnormal : normal;
  result = magnitude >= (143u << 23) ? 0x7c00u : result;  // 65536 and above
  result = magnitude > 0x7f800000u ? 0x7e00u : result;
  return Float16{{static_cast<std::uint16_t>(result | sign)}};
}

}  // namespace adalora::ADALORA_ISA
