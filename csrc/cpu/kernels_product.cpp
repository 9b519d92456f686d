/// The skinny products: a tile of accumulators stays in registers while the long side streams by,
/// and is converted on its way in and out. The tile has enough independent chains of multiply-adds
/// to hide their latency; the small factor is reused from the first cache. Each result is summed in
/// the same order in every tile, so it does not depend on how the work is cut. bench_svd_linear.py
/// measures them.

#include "adalora/arithmetic/dropout.hpp"
#include "cpu/simd.hpp"

namespace adalora::ADALORA_ISA {

namespace {

/// Columns of the small factor that one sweep over the rows uses: 12 rows of them fit the first
/// cache.
constexpr std::int64_t kColumnBlock = 512;

/// Rows that one sweep of `correlate` sums up before the tile goes back to memory.
constexpr std::int64_t kRowBlock = 64;

/// Rows that `project` and `expand` prefetch, those of the next task: after the base layer's
/// product they are in the third cache, and the processor's own prefetching ends with each page.
constexpr std::int64_t kTileRowsAhead = 16;

/// A tile of four rows by six (three) results, or of four (two) vectors, leaves registers for the
/// operands.
constexpr int kFewRanks = kVectorRegisters >= 32 ? 6 : 3;
constexpr int kFewVectors = kVectorRegisters >= 32 ? 4 : 2;

/// k is a multiple of the lanes.
template <class S, class T, int Rows, int Few, bool Prefetches = true>
void project_tile(const S* X, std::int64_t ldx, const T* W, std::int64_t ldw, T* H,
                  std::int64_t ldh, std::int64_t k) {
  constexpr int kWide = kLanes<T>;
  using V = Vector<T, kWide>;
  V sums[Rows][Few] = {};
  for (std::int64_t c = 0; c < k; c += kWide) {
    V w[Few];
    for (int j = 0; j < Few; ++j) w[j] = load<V>(W + j * ldw + c);
    for (int i = 0; i < Rows; ++i) {
      if constexpr (Prefetches) __builtin_prefetch(X + (i + kTileRowsAhead) * ldx + c, 0, 2);
      const V x = load_as<T, kWide>(X + i * ldx + c);
      for (int j = 0; j < Few; ++j) sums[i][j] = multiply_add<T, kWide>(x, w[j], sums[i][j]);
    }
  }
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == sizeof(float)) {
    unrolled<Few>([&](int j) ADALORA_ALWAYS_INLINE {
      float totals[4];
      _mm_storeu_ps(totals, sum_lanes(sums[0][j], sums[Rows / 4][j], sums[Rows / 4 * 2][j],
                                      sums[Rows / 4 * 3][j]));
      for (int i = 0; i < Rows; ++i) H[i * ldh + j] += totals[i];
    });
  } else
#endif
    unrolled<Rows * Few>([&](int n) ADALORA_ALWAYS_INLINE {
      const int i = n / Few;
      const int j = n % Few;
      H[i * ldh + j] += sum_lanes<T, kWide>(sums[i][j]);
    });
}

/// The columns after the last whole vector, filled up with zero: `count` of them.
template <class S, class T, int Rows, int Few>
void project_rest(const S* X, std::int64_t ldx, const T* W, std::int64_t ldw, T* H,
                  std::int64_t ldh, std::int64_t count) {
  constexpr int kWide = kLanes<T>;
  const auto entries = static_cast<std::size_t>(count);
  S x[Rows][kWide] = {};
  T w[Few][kWide] = {};
  for (int i = 0; i < Rows; ++i) __builtin_memcpy(x[i], X + i * ldx, entries * sizeof(S));
  for (int j = 0; j < Few; ++j) __builtin_memcpy(w[j], W + j * ldw, entries * sizeof(T));
  project_tile<S, T, Rows, Few, false>(x[0], kWide, w[0], kWide, H, ldh, kWide);
}

template <class S, class T>
void project(const void* X, std::int64_t ldx, const void* W, std::int64_t ldw, T* H,
             std::int64_t ldh, std::int64_t n, std::int64_t k, std::int64_t r) {
  for (std::int64_t begin = 0; begin < k; begin += kColumnBlock) {
    const std::int64_t count = smaller(kColumnBlock, k - begin);
    const std::int64_t whole = count / kLanes<T> * kLanes<T>;
    in_groups<4, 1>(0, n, [&](auto rows, std::int64_t i) {
      in_groups<kFewRanks>(0, r, [&](auto few, std::int64_t j) {
        const S* const x = static_cast<const S*>(X) + i * ldx + begin;
        const T* const w = static_cast<const T*>(W) + j * ldw + begin;
        T* const h = H + i * ldh + j;
        project_tile<S, T, rows.value, few.value>(x, ldx, w, ldw, h, ldh, whole);
        if (whole == count) return;
        project_rest<S, T, rows.value, few.value>(x + whole, ldx, w + whole, ldw, h, ldh,
                                                  count - whole);
      });
    });
  }
}

template <class S, class T, int Rows, int Lanes, int Few>
void expand_tile(const T* H, std::int64_t ldh, const T* W, std::int64_t ldw, const S* base,
                 std::int64_t ld_base, S* Y, std::int64_t ldy, std::int64_t r) {
  using V = Vector<T, Lanes>;
  V sums[Rows][Few] = {};
  if (base != nullptr) {
    for (int i = 0; i < Rows; ++i) {
      for (int v = 0; v < Few; ++v) {
        __builtin_prefetch(base + (i + kTileRowsAhead) * ld_base + v * Lanes, 0, 2);
        sums[i][v] = load_as<T, Lanes>(base + i * ld_base + v * Lanes);
      }
    }
  }
  for (std::int64_t j = 0; j < r; ++j) {
    V w[Few];
    for (int v = 0; v < Few; ++v) w[v] = load<V>(W + j * ldw + v * Lanes);
    for (int i = 0; i < Rows; ++i) {
      const V h = H[i * ldh + j] - V{};  // in every lane
      for (int v = 0; v < Few; ++v) sums[i][v] = multiply_add<T, Lanes>(h, w[v], sums[i][v]);
    }
  }
  unrolled<Rows * Few>([&](int n) ADALORA_ALWAYS_INLINE {
    const int i = n / Few;
    const int v = n % Few;
    store_as<T, Lanes>(Y + i * ldy + v * Lanes, sums[i][v]);
  });
}

template <class S, class T>
void expand(const T* H, std::int64_t ldh, const void* W, std::int64_t ldw, const void* base,
            std::int64_t ld_base, void* Y, std::int64_t ldy, std::int64_t n, std::int64_t k,
            std::int64_t r) {
  for (std::int64_t begin = 0; begin < k; begin += kColumnBlock) {
    const std::int64_t end = smaller(k, begin + kColumnBlock);
    in_groups<4, 1>(0, n, [&](auto rows, std::int64_t i) {
      const S* const addend = base ? static_cast<const S*>(base) + i * ld_base : nullptr;
      over_columns<kLanes<T>, kFewVectors>(begin, end, [&](auto lanes, auto few, std::int64_t c) {
        expand_tile<S, T, rows.value, lanes.value, few.value>(
            H + i * ldh, ldh, static_cast<const T*>(W) + c, ldw, addend ? addend + c : nullptr,
            ld_base, static_cast<S*>(Y) + i * ldy + c, ldy, r);
      });
    });
  }
}

template <class S, class T, int Ranks, int Lanes, int Few>
void correlate_tile(const T* H, std::int64_t ldh, const S* X, std::int64_t ldx, T* G,
                    std::int64_t ldg, std::int64_t n) {
  using V = Vector<T, Lanes>;
  V sums[Ranks][Few];
  for (int j = 0; j < Ranks; ++j) {
    for (int v = 0; v < Few; ++v) sums[j][v] = load<V>(G + j * ldg + v * Lanes);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    V x[Few];
    for (int v = 0; v < Few; ++v) __builtin_prefetch(X + (i + kRowsAhead) * ldx + v * Lanes);
    for (int v = 0; v < Few; ++v) x[v] = load_as<T, Lanes>(X + i * ldx + v * Lanes);
    for (int j = 0; j < Ranks; ++j) {
      const V h = H[i * ldh + j] - V{};  // in every lane
      for (int v = 0; v < Few; ++v) sums[j][v] = multiply_add<T, Lanes>(h, x[v], sums[j][v]);
    }
  }
  unrolled<Ranks * Few>([&](int n) ADALORA_ALWAYS_INLINE {
    const int j = n / Few;
    const int v = n % Few;
    store(G + j * ldg + v * Lanes, sums[j][v]);
  });
}

template <class S, class T>
void correlate(const T* H, std::int64_t ldh, const void* X, std::int64_t ldx, T* G,
               std::int64_t ldg, std::int64_t n, std::int64_t k, std::int64_t r) {
  for (std::int64_t i = 0; i < n; i += kRowBlock) {
    const S* const rows = static_cast<const S*>(X) + i * ldx;
    over_columns<kLanes<T>, kFewVectors>(0, k, [&](auto lanes, auto few, std::int64_t c) {
      in_groups<6>(0, r, [&](auto ranks, std::int64_t j) {
        correlate_tile<S, T, ranks.value, lanes.value, few.value>(
            H + i * ldh + j, ldh, rows + c, ldx, G + j * ldg + c, ldg, smaller(kRowBlock, n - i));
      });
    });
  }
}

template <class S, class T>
void load_values(const void* from, T* __restrict to, std::int64_t count) {
  const S* values = static_cast<const S*>(from);
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<T>(to_float(values[i]));
}

template <class S, class T>
void store_values(const T* __restrict from, void* to, std::int64_t count) {
  S* values = static_cast<S*>(to);
  for (std::int64_t i = 0; i < count; ++i) values[i] = to_format<S>(from[i]);
}

template <class Bits>
void mask(void* values, std::int64_t count, std::uint64_t key, std::uint32_t first,
          std::uint32_t threshold) {
  Bits* const bits = static_cast<Bits*>(values);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t draw = drop_draw(key, first + static_cast<std::uint32_t>(i));
    bits[i] = draw >= threshold ? bits[i] : Bits{0};
  }
}

template <class S, class T>
constexpr SkinnyKernels<T> skinny() {
  return {project<S, T>, expand<S, T>, correlate<S, T>};
}

template <class T>
ProductKernels<T> product_table() {
  return {skinny<T, T>(),
          {},
          transpose<T>,
          {load_values<float, T>, load_values<double, T>, load_values<BFloat16, T>,
           load_values<Float16, T>},
          {store_values<float, T>, store_values<double, T>, store_values<BFloat16, T>,
           store_values<Float16, T>},
          {mask<std::uint32_t>, mask<std::uint64_t>, mask<std::uint16_t>, mask<std::uint16_t>}};
}

}  // namespace

void add_product_kernels(KernelTable& table) {
  table.product_float = product_table<float>();
  SkinnyKernels<float>* const of = table.product_float.of;
  of[static_cast<int>(DType::kFloat32)] = skinny<float, float>();
  of[static_cast<int>(DType::kBFloat16)] = skinny<BFloat16, float>();
  of[static_cast<int>(DType::kFloat16)] = skinny<Float16, float>();
  table.product_double = product_table<double>();
  table.product_double.of[static_cast<int>(DType::kFloat64)] = skinny<double, double>();
}

}  // namespace adalora::ADALORA_ISA
