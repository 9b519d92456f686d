#pragma once
/// The 16-bit formats as bits, and their conversions, which round as torch's do.

#include <cstdint>

#include "adalora/arithmetic/portable.hpp"

namespace adalora {

struct Bits16 {
  std::uint16_t bits;
};
struct BFloat16 : Bits16 {};
struct Float16 : Bits16 {};

ADALORA_SHARED std::uint32_t bits_of(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}
ADALORA_SHARED float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

ADALORA_SHARED float to_float(BFloat16 value) {
  return float_of(static_cast<std::uint32_t>(value.bits) << 16);
}

/// Shifts the bits into place and repairs the exponent with one exact product, subnormals included.
ADALORA_SHARED float to_float(Float16 value) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7fffu) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const float finite = float_of(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude | 0x7f800000u;
  return float_of((magnitude >= (0x7c00u << 13) ? special : bits_of(finite)) | sign);
}

ADALORA_SHARED float to_float(float value) { return value; }
ADALORA_SHARED double to_float(double value) { return value; }

/// Rounds to nearest even, as torch does; NaN stays NaN.
ADALORA_SHARED BFloat16 to_bfloat16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t result = value != value ? 0x7fc0u : rounded;
  return BFloat16{{static_cast<std::uint16_t>(result)}};
}

/// Rounds to nearest even; too large values become infinite, NaN stays NaN.
ADALORA_SHARED Float16 to_float16(float value) {
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

template <class, class>
inline constexpr bool kIsSame = false;
template <class T>
inline constexpr bool kIsSame<T, T> = true;

/// A value of the compute type T as a number of the format S.
template <class S, class T>
ADALORA_SHARED S to_format(T value) {
  if constexpr (kIsSame<S, BFloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else if constexpr (kIsSame<S, Float16>) {
    return to_float16(static_cast<float>(value));
  } else {
    return static_cast<S>(value);
  }
}

}  // namespace adalora
