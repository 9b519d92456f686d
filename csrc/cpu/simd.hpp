#pragma once
/// Vectors of the kernels; included only where ADALORA_ISA names the set.

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

}  // namespace adalora::ADALORA_ISA
