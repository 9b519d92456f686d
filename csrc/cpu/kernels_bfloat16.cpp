/// The skinny products of bfloat16 with the dot-product instruction, which multiplies two pairs and
/// adds both products to a float: twice the multiply-adds of kernels_product.cpp in the same time,
/// and no conversions. The shapes of the tiles are those of kernels_product.cpp.

#include "cpu/simd.hpp"

namespace adalora::ADALORA_ISA {

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

namespace {

/// Columns of W that one sweep of `expand` over the rows uses: 6 rows of pairs fit the first cache.
constexpr std::int64_t kColumnBlock = 512;

/// Rows that one sweep of `correlate` sums up before the tile goes back to memory; their pairs
/// stay in the first cache.
constexpr std::int64_t kRowBlock = 256;

/// Ranks that `correlate` holds at a time.
constexpr int kRankBlock = 12;

/// Pairs of ranks that `expand` has room for.
constexpr std::int64_t kMostPairs = kMostDotRanks / 2;

constexpr int kLanes32 = 16;
constexpr int kLanes16 = 32;

inline __m512bh pairs(__m512i bits) { return __builtin_bit_cast(__m512bh, bits); }

/// One pair in all lanes.
inline __m512bh broadcast(const std::uint32_t* pair) {
  return pairs(_mm512_set1_epi32(static_cast<int>(*pair)));
}

inline __mmask32 first16(std::int64_t count) {
  return count >= kLanes16 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
}

inline __mmask16 first32(std::int64_t count) {
  return count >= kLanes32 ? static_cast<__mmask16>(~0u)
                           : static_cast<__mmask16>((1u << count) - 1);
}

/// H[Rows, Few] += X W^T; Rows is 4 or 1.
template <int Rows, int Few>
inline void project_tile(const std::uint16_t* X, std::int64_t ldx, const std::uint16_t* W,
                         std::int64_t ldw, float* H, std::int64_t ldh, std::int64_t k) {
  __m512 sums[4][Few] = {};
  for (std::int64_t c = 0; c < k; c += kLanes16) {
    const __mmask32 valid = first16(k - c);
    __m512bh w[Few];
    for (int j = 0; j < Few; ++j) w[j] = pairs(_mm512_maskz_loadu_epi16(valid, W + j * ldw + c));
    for (int i = 0; i < Rows; ++i) {
      const __m512bh x = pairs(_mm512_maskz_loadu_epi16(valid, X + i * ldx + c));
      for (int j = 0; j < Few; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], x, w[j]);
    }
  }
  unrolled<Few>([&](int j) ADALORA_ALWAYS_INLINE {
    float totals[4];
    _mm_storeu_ps(totals, sum_lanes(sums[0][j], sums[1][j], sums[2][j], sums[3][j]));
    for (int i = 0; i < Rows; ++i) H[i * ldh + j] += totals[i];
  });
}

void project(const void* X, std::int64_t ldx, const void* W, std::int64_t ldw, float* H,
             std::int64_t ldh, std::int64_t n, std::int64_t k, std::int64_t r) {
  in_groups<4, 1>(0, n, [&](auto rows, std::int64_t i) {
    in_groups<6>(0, r, [&](auto few, std::int64_t j) {
      project_tile<rows.value, few.value>(static_cast<const std::uint16_t*>(X) + i * ldx, ldx,
                                          static_cast<const std::uint16_t*>(W) + j * ldw, ldw,
                                          H + i * ldh + j, ldh, k);
    });
  });
}

/// Rounds a row of H into pairs of ranks; the last is filled up with zero.
inline void pair_ranks(const float* H, std::int64_t r, std::uint32_t* out) {
  for (std::int64_t j = 0; j < r; j += kLanes32) {
    const __m512 values = _mm512_maskz_loadu_ps(first32(r - j), H + j);
    store(out + j / 2, _mm512_cvtneps_pbh(values));
  }
}

inline __m512i rounded_bits(const float* H, __mmask16 valid) {
  const __m256bh bits = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(valid, H));
  return _mm512_cvtepu16_epi32(__builtin_bit_cast(__m256i, bits));
}

/// Rounds kRankBlock or fewer values of each row into pairs (row, row + 1), one for each rank; an
/// odd last row is paired with zeros.
inline void pair_rows_of(const float* H, std::int64_t ldh, std::int64_t n, std::int64_t r,
                         std::uint32_t* out) {
  const __mmask16 valid = first32(r);
  for (std::int64_t i = 0; i < n; i += 2) {
    const __m512i low = rounded_bits(H + i * ldh, valid);
    const __m512i high =
        i + 1 < n ? rounded_bits(H + (i + 1) * ldh, valid) : _mm512_setzero_si512();
    _mm512_mask_storeu_epi32(out + i / 2 * kRankBlock, valid,
                             _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
}

inline __m512 load_bfloat16(const std::uint16_t* from, __mmask16 valid) {
  const __m256i bits = _mm256_maskz_loadu_epi16(valid, from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline void store_bfloat16(std::uint16_t* to, __mmask16 valid, __m512 values) {
  _mm256_mask_storeu_epi16(to, valid, __builtin_bit_cast(__m256i, _mm512_cvtneps_pbh(values)));
}

/// Y[Rows, 16 Few] = base + H W, where H and W hold pairs of ranks.
template <int Rows, int Few>
inline void expand_tile(const std::uint32_t (*H)[kMostPairs], const std::uint32_t* W,
                        std::int64_t ldw, const std::uint16_t* base, std::int64_t ld_base,
                        std::uint16_t* Y, std::int64_t ldy, std::int64_t r, __mmask16 valid) {
  __m512 sums[Rows][Few] = {};
  if (base != nullptr) {
    for (int i = 0; i < Rows; ++i) {
      for (int v = 0; v < Few; ++v) {
        sums[i][v] = load_bfloat16(base + i * ld_base + v * kLanes32, valid);
      }
    }
  }
  for (std::int64_t j = 0; 2 * j < r; ++j) {
    __m512bh w[Few];
    for (int v = 0; v < Few; ++v) {
      w[v] = pairs(_mm512_maskz_loadu_epi32(valid, W + j * ldw + v * kLanes32));
    }
    for (int i = 0; i < Rows; ++i) {
      const __m512bh h = broadcast(H[i] + j);
      for (int v = 0; v < Few; ++v) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], h, w[v]);
    }
  }
  unrolled<Rows>([&](int i) ADALORA_ALWAYS_INLINE {
    unrolled<Few>([&](int v) ADALORA_ALWAYS_INLINE {
      store_bfloat16(Y + i * ldy + v * kLanes32, valid, sums[i][v]);
    });
  });
}

void expand(const float* H, std::int64_t ldh, const void* W, std::int64_t ldw, const void* base,
            std::int64_t ld_base, void* Y, std::int64_t ldy, std::int64_t n, std::int64_t k,
            std::int64_t r) {
  for (std::int64_t begin = 0; begin < k; begin += kColumnBlock) {
    const std::int64_t end = smaller(k, begin + kColumnBlock);
    in_groups<4, 1>(0, n, [&](auto rows, std::int64_t i) {
      std::uint32_t paired[4][kMostPairs];
      for (int row = 0; row < rows.value; ++row) pair_ranks(H + (i + row) * ldh, r, paired[row]);
      const auto tile = [&](auto few, std::int64_t c, __mmask16 valid) {
        expand_tile<rows.value, few.value>(
            paired, static_cast<const std::uint32_t*>(W) + c, ldw,
            base ? static_cast<const std::uint16_t*>(base) + i * ld_base + c : nullptr, ld_base,
            static_cast<std::uint16_t*>(Y) + i * ldy + c, ldy, r, valid);
      };
      std::int64_t c = begin;
      for (; c + 4 * kLanes32 <= end; c += 4 * kLanes32) tile(Constant<4>{}, c, first32(kLanes32));
      for (; c < end; c += kLanes32) tile(Constant<1>{}, c, first32(end - c));
    });
  }
}

/// In `correlate` a register holds four columns of every eight: those that the interleaving of two
/// rows leaves in its low or in its high half.
struct Halves {
  __m512 low, high;
};

inline __m512 select_quads(__m512 a, __m512 b, long long first, long long second, long long third,
                           long long fourth) {
  const __m512i order = _mm512_setr_epi64(2 * first, 2 * first + 1, 2 * second, 2 * second + 1,
                                          2 * third, 2 * third + 1, 2 * fourth, 2 * fourth + 1);
  return _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(a), order, _mm512_castps_pd(b)));
}

inline Halves load_halves(const float* from, __mmask32 valid) {
  const __m512 a = _mm512_maskz_loadu_ps(static_cast<__mmask16>(valid), from);
  const __m512 b = _mm512_maskz_loadu_ps(static_cast<__mmask16>(valid >> 16), from + kLanes32);
  return {select_quads(a, b, 0, 2, 4, 6), select_quads(a, b, 1, 3, 5, 7)};
}

inline void store_halves(float* to, __mmask32 valid, const Halves& values) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(valid),
                        select_quads(values.low, values.high, 0, 4, 1, 5));
  _mm512_mask_storeu_ps(to + kLanes32, static_cast<__mmask16>(valid >> 16),
                        select_quads(values.low, values.high, 2, 6, 3, 7));
}

/// G[Ranks, 32] += H^T X for `valid` columns, where H holds pairs of rows.
template <int Ranks>
inline void correlate_tile(const std::uint32_t* H, const std::uint16_t* X, std::int64_t ldx,
                           float* G, std::int64_t ldg, std::int64_t n, __mmask32 valid) {
  Halves sums[Ranks];
  for (int j = 0; j < Ranks; ++j) sums[j] = load_halves(G + j * ldg, valid);
  for (std::int64_t i = 0; i < n; i += 2) {
    __builtin_prefetch(X + (i + 2 * kRowsAhead) * ldx);
    __builtin_prefetch(X + (i + 2 * kRowsAhead + 1) * ldx);
    const __m512i x = _mm512_maskz_loadu_epi16(valid, X + i * ldx);
    const __m512i next =
        i + 1 < n ? _mm512_maskz_loadu_epi16(valid, X + (i + 1) * ldx) : _mm512_setzero_si512();
    const __m512bh low = pairs(_mm512_unpacklo_epi16(x, next));
    const __m512bh high = pairs(_mm512_unpackhi_epi16(x, next));
    for (int j = 0; j < Ranks; ++j) {
      const __m512bh h = broadcast(H + i / 2 * kRankBlock + j);
      sums[j].low = _mm512_dpbf16_ps(sums[j].low, low, h);
      sums[j].high = _mm512_dpbf16_ps(sums[j].high, high, h);
    }
  }
  unrolled<Ranks>([&](int j) ADALORA_ALWAYS_INLINE { store_halves(G + j * ldg, valid, sums[j]); });
}

void correlate(const float* H, std::int64_t ldh, const void* X, std::int64_t ldx, float* G,
               std::int64_t ldg, std::int64_t n, std::int64_t k, std::int64_t r) {
  std::uint32_t paired[kRowBlock / 2 * kRankBlock];
  for (std::int64_t i = 0; i < n; i += kRowBlock) {
    const std::int64_t rows = smaller(kRowBlock, n - i);
    const std::uint16_t* const x = static_cast<const std::uint16_t*>(X) + i * ldx;
    for (std::int64_t first = 0; first < r; first += kRankBlock) {
      const std::int64_t ranks = smaller(kRankBlock, r - first);
      pair_rows_of(H + i * ldh + first, ldh, rows, ranks, paired);
      for (std::int64_t c = 0; c < k; c += kLanes16) {
        in_groups<kRankBlock>(0, ranks, [&](auto few, std::int64_t j) {
          correlate_tile<few.value>(paired + j, x + c, ldx, G + (first + j) * ldg + c, ldg, rows,
                                    first16(k - c));
        });
      }
    }
  }
}

void pair_rows(const BFloat16* W, std::int64_t ldw, BFloat16Pair* out, std::int64_t ld_out,
               std::int64_t rows, std::int64_t cols) {
  for (std::int64_t row = 0; row < rows; row += 2) {
    BFloat16Pair* const to = out + row / 2 * ld_out;
    const BFloat16* const first = W + row * ldw;
    if (row + 1 < rows) {
      const BFloat16* const second = first + ldw;
      for (std::int64_t c = 0; c < cols; ++c) to[c] = {first[c], second[c]};
    } else {
      for (std::int64_t c = 0; c < cols; ++c) to[c] = {first[c], {}};
    }
  }
}

}  // namespace

void add_dot_kernels(KernelTable& table) {
  table.dot_bfloat16 = {{project, expand, correlate}, transpose<BFloat16>, pair_rows};
}

#else

void add_dot_kernels(KernelTable&) {}

#endif

}  // namespace adalora::ADALORA_ISA
