#pragma once
/// Vectors of the kernels, and tiles of them; included only where ADALORA_ISA names the set.

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "cpu/kernels.hpp"

#ifndef ADALORA_ISA
#error "only sources that are compiled once per instruction set may include simd.hpp"
#endif

namespace adalora::ADALORA_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kVectorRegisters = 32;
#else
inline constexpr int kVectorRegisters = 16;
#endif

/// Rows that `correlate` prefetches: the step from row to row is too long for the processor's own
/// prefetching.
inline constexpr std::int64_t kRowsAhead = 24;

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

/// a * b + c, rounded once on sets that can: whether a compiler fuses the plain expression depends
/// on the code around it, and so would the result.
template <class T, int Lanes>
inline Vector<T, Lanes> multiply_add(Vector<T, Lanes> a, Vector<T, Lanes> b, Vector<T, Lanes> c) {
#if defined(__FMA__)
  constexpr bool kFloat = sizeof(T) == sizeof(float);
  if constexpr (Lanes == 1) {
    return kFloat ? Vector<T, Lanes>{static_cast<T>(__builtin_fmaf(a[0], b[0], c[0]))}
                  : Vector<T, Lanes>{static_cast<T>(__builtin_fma(a[0], b[0], c[0]))};
  } else if constexpr (kFloat && Lanes == 4) {
    return _mm_fmadd_ps(a, b, c);
  } else if constexpr (kFloat && Lanes == 8) {
    return _mm256_fmadd_ps(a, b, c);
  } else if constexpr (!kFloat && Lanes == 4) {
    return _mm256_fmadd_pd(a, b, c);
#if defined(__AVX512F__)
  } else if constexpr (kFloat && Lanes == 16) {
    return _mm512_fmadd_ps(a, b, c);
  } else if constexpr (!kFloat && Lanes == 8) {
    return _mm512_fmadd_pd(a, b, c);
#endif
  } else {
    static_assert(Lanes < 0, "no fused multiply-add for vectors of this size");
  }
#else
  return a * b + c;
#endif
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

#if defined(__AVX512F__)

/// The sums of the lanes of four vectors.
inline __m128 sum_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
  const __m512 all = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

#endif

inline std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Lanes words of 16 bits as words of 32; compilers do not find the one instruction for it.
template <int Lanes>
inline Vector<std::uint32_t, Lanes> widened(const BFloat16* from) {
  using Words = Vector<std::uint32_t, Lanes>;
#if defined(__AVX512F__)
  if constexpr (Lanes == 16) {
    return __builtin_bit_cast(Words, _mm512_cvtepu16_epi32(load<__m256i>(from)));
  }
#endif
#if defined(__AVX2__)
  if constexpr (Lanes == 8) {
    return __builtin_bit_cast(Words, _mm256_cvtepu16_epi32(load<__m128i>(from)));
  }
#endif
  return __builtin_convertvector(load<Vector<std::uint16_t, Lanes>>(from), Words);
}

/// Reads Lanes adjacent values of S as T.
template <class T, int Lanes, class S>
inline Vector<T, Lanes> load_as(const S* from) {
  if constexpr (__is_same(S, T)) {
    return load<Vector<T, Lanes>>(from);
  } else if constexpr (__is_same(S, BFloat16) && Lanes > 1) {
    return __builtin_bit_cast(Vector<T, Lanes>, widened<Lanes>(from) << 16);
#if defined(__AVX512F__)
  } else if constexpr (__is_same(S, Float16) && Lanes == 16) {
    return _mm512_cvtph_ps(load<__m256i>(from));
#endif
#if defined(__F16C__)
  } else if constexpr (__is_same(S, Float16) && Lanes == 8) {
    return _mm256_cvtph_ps(load<__m128i>(from));
#endif
  } else {
    Vector<T, Lanes> values;
    for (int i = 0; i < Lanes; ++i) values[i] = static_cast<T>(to_float(from[i]));
    return values;
  }
}

/// Writes Lanes values of T as S, rounded.
template <class T, int Lanes, class S>
inline void store_as(S* to, Vector<T, Lanes> values) {
  if constexpr (__is_same(S, T)) {
    store(to, values);
#if defined(__AVX512BF16__)
  } else if constexpr (__is_same(S, BFloat16) && Lanes == 16) {
    store(to, _mm512_cvtneps_pbh(values));
#endif
  } else if constexpr (__is_same(S, BFloat16) && Lanes > 1) {
    using Words = Vector<std::uint32_t, Lanes>;
    const Words bits = __builtin_bit_cast(Words, values);
    const Words nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Words result = values != values ? Words{} + 0x7fc0u : nearest;
    store(to, __builtin_convertvector(result, Vector<std::uint16_t, Lanes>));
#if defined(__AVX512F__)
  } else if constexpr (__is_same(S, Float16) && Lanes == 16) {
    store(to, _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
#if defined(__F16C__)
  } else if constexpr (__is_same(S, Float16) && Lanes == 8) {
    store(to, _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
  } else {
    for (int i = 0; i < Lanes; ++i) to[i] = to_format<S>(values[i]);
  }
}

/// A number that a generic lambda can use as a template argument.
template <int N>
struct Constant {
  static constexpr int value = N;
};

/// Inlines a function or a lambda; clang ignores [[gnu::always_inline]] on a lambda.
#define ADALORA_ALWAYS_INLINE __attribute__((always_inline))

/// Calls body(0) ... body(Count - 1), always unrolled: an array of vectors that a loop indexes is
/// kept in memory, not in registers.
template <int Count, int First = 0, class Body>
ADALORA_ALWAYS_INLINE inline void unrolled(const Body& body) {
  if constexpr (First < Count) {
    body(First);
    unrolled<Count, First + 1>(body);
  }
}

/// Calls body(Constant<size>, first) for groups that cover [first, count): as many as fit of
/// Largest, then of the next smaller size.
template <int Largest, int Smallest = 0, class Body>
inline void in_groups(std::int64_t first, std::int64_t count, const Body& body) {
  for (; first + Largest <= count; first += Largest) body(Constant<Largest>{}, first);
  if constexpr (Largest > 1) {
    constexpr int kNext = Smallest > 0 ? Smallest : Largest > 6 ? 4 : Largest > 2 ? 2 : 1;
    in_groups<kNext>(first, count, body);
  }
}

/// Calls body(Constant<lanes>, Constant<few>, c) for tiles of `few` vectors that cover the columns
/// [c, end): Few full vectors, then single ones, then ever narrower ones.
template <int Lanes, int Few, class Body>
inline void over_columns(std::int64_t c, std::int64_t end, const Body& body) {
  for (; c + Few * Lanes <= end; c += Few * Lanes) body(Constant<Lanes>{}, Constant<Few>{}, c);
  if constexpr (Few > 1) {
    over_columns<Lanes, 1>(c, end, body);
  } else if constexpr (Lanes > 1) {
    over_columns<(Lanes > 4 ? Lanes / 2 : 1), 1>(c, end, body);
  }
}

#if defined(__SSE2__)

inline void transpose_block(const float* in, std::int64_t ld_in, float* out, std::int64_t ld_out) {
  __m128 rows[4];
  for (int i = 0; i < 4; ++i) rows[i] = _mm_loadu_ps(in + i * ld_in);
  _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
  for (int i = 0; i < 4; ++i) _mm_storeu_ps(out + i * ld_out, rows[i]);
}

inline void transpose_block(const BFloat16* in, std::int64_t ld_in, BFloat16* out,
                            std::int64_t ld_out) {
  __m128i rows[4];
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + i * ld_in));
  }
  const __m128i low = _mm_unpacklo_epi16(rows[0], rows[1]);
  const __m128i high = _mm_unpacklo_epi16(rows[2], rows[3]);
  const __m128i first = _mm_unpacklo_epi32(low, high);
  const __m128i last = _mm_unpackhi_epi32(low, high);
  store(out, _mm_cvtsi128_si64(first));
  store(out + ld_out, _mm_cvtsi128_si64(_mm_unpackhi_epi64(first, first)));
  store(out + 2 * ld_out, _mm_cvtsi128_si64(last));
  store(out + 3 * ld_out, _mm_cvtsi128_si64(_mm_unpackhi_epi64(last, last)));
}

#endif

template <class T>
inline void transpose_block(const T* in, std::int64_t ld_in, T* out, std::int64_t ld_out) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) out[j * ld_out + i] = in[i * ld_in + j];
  }
}

/// out[c, r] = in[r, c], four by four at a time.
template <class T>
void transpose(const T* in, std::int64_t ld_in, T* out, std::int64_t ld_out, std::int64_t rows,
               std::int64_t cols) {
  const std::int64_t whole_rows = rows / 4 * 4;
  const std::int64_t whole_cols = cols / 4 * 4;
  for (std::int64_t row = 0; row < whole_rows; row += 4) {
    for (std::int64_t col = 0; col < whole_cols; col += 4) {
      transpose_block(in + row * ld_in + col, ld_in, out + col * ld_out + row, ld_out);
    }
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t first = row < whole_rows ? whole_cols : 0;
    for (std::int64_t col = first; col < cols; ++col)
      out[col * ld_out + row] = in[row * ld_in + col];
  }
}

}  // namespace adalora::ADALORA_ISA
