/// The skinny products: a tile of accumulators stays in registers while the long side streams by.
/// Four rows by two vectors are eight independent chains of multiply-adds, enough to hide their
/// latency; the small factor is reused from the first cache. Each result is summed in the same
/// order in every tile, so it does not depend on how the work is cut. bench_svd_linear.py measures
/// them.

#include "adalora/arithmetic/dropout.hpp"
#include "cpu/simd.hpp"

namespace adalora::ADALORA_ISA {

namespace {

/// Columns of the small factor that one sweep over the rows uses: 12 rows of them fit the first
/// cache.
constexpr std::int64_t kColumnBlock = 512;

/// Rows that one sweep of `correlate` sums up before the tile goes back to memory.
constexpr std::int64_t kRowBlock = 32;

template <class T, int Rows, int Few>
void project_tile(const T* X, std::int64_t ldx, const T* W, std::int64_t ldw, T* H,
                  std::int64_t ldh, std::int64_t k) {
  constexpr int kWide = kLanes<T>;
  using V = Vector<T, kWide>;
  V sums[Rows][Few] = {};
  std::int64_t c = 0;
  for (; c + kWide <= k; c += kWide) {
    V w[Few];
    for (int j = 0; j < Few; ++j) w[j] = load<V>(W + j * ldw + c);
    for (int i = 0; i < Rows; ++i) {
      const V x = load<V>(X + i * ldx + c);
      for (int j = 0; j < Few; ++j) sums[i][j] += x * w[j];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Few; ++j) {
      T total = sum_lanes<T, kWide>(sums[i][j]);
      for (std::int64_t tail = c; tail < k; ++tail) total += X[i * ldx + tail] * W[j * ldw + tail];
      H[i * ldh + j] += total;
    }
  }
}

template <class T, int Rows>
void project_rows(const T* X, std::int64_t ldx, const T* W, std::int64_t ldw, T* H,
                  std::int64_t ldh, std::int64_t k, std::int64_t r) {
  std::int64_t j = 0;
  for (; j + 3 <= r; j += 3) project_tile<T, Rows, 3>(X, ldx, W + j * ldw, ldw, H + j, ldh, k);
  for (; j < r; ++j) project_tile<T, Rows, 1>(X, ldx, W + j * ldw, ldw, H + j, ldh, k);
}

template <class T>
void project(const T* X, std::int64_t ldx, const T* W, std::int64_t ldw, T* H, std::int64_t ldh,
             std::int64_t n, std::int64_t k, std::int64_t r) {
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    project_rows<T, 4>(X + i * ldx, ldx, W, ldw, H + i * ldh, ldh, k, r);
  }
  for (; i < n; ++i) project_rows<T, 1>(X + i * ldx, ldx, W, ldw, H + i * ldh, ldh, k, r);
}

template <class T, int Rows, int Lanes, int Few>
void expand_tile(const T* H, std::int64_t ldh, const T* W, std::int64_t ldw, const T* base,
                 std::int64_t ld_base, T* Y, std::int64_t ldy, std::int64_t r) {
  using V = Vector<T, Lanes>;
  V sums[Rows][Few] = {};
  if (base != nullptr) {
    for (int i = 0; i < Rows; ++i) {
      for (int v = 0; v < Few; ++v) sums[i][v] = load<V>(base + i * ld_base + v * Lanes);
    }
  }
  for (std::int64_t j = 0; j < r; ++j) {
    V w[Few];
    for (int v = 0; v < Few; ++v) w[v] = load<V>(W + j * ldw + v * Lanes);
    for (int i = 0; i < Rows; ++i) {
      for (int v = 0; v < Few; ++v) sums[i][v] += H[i * ldh + j] * w[v];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int v = 0; v < Few; ++v) store(Y + i * ldy + v * Lanes, sums[i][v]);
  }
}

/// Covers the columns with full vectors, then with ever narrower ones.
template <class T, int Rows, int Lanes, int Few>
void expand_columns(const T* H, std::int64_t ldh, const T* W, std::int64_t ldw, const T* base,
                    std::int64_t ld_base, T* Y, std::int64_t ldy, std::int64_t c, std::int64_t k,
                    std::int64_t r) {
  for (; c + Few * Lanes <= k; c += Few * Lanes) {
    expand_tile<T, Rows, Lanes, Few>(H, ldh, W + c, ldw, base ? base + c : nullptr, ld_base, Y + c,
                                     ldy, r);
  }
  if constexpr (Few > 1) {
    expand_columns<T, Rows, Lanes, 1>(H, ldh, W, ldw, base, ld_base, Y, ldy, c, k, r);
  } else if constexpr (Lanes > 1) {
    expand_columns<T, Rows, Lanes / 2, 1>(H, ldh, W, ldw, base, ld_base, Y, ldy, c, k, r);
  }
}

template <class T>
void expand(const T* H, std::int64_t ldh, const T* W, std::int64_t ldw, const T* base,
            std::int64_t ld_base, T* Y, std::int64_t ldy, std::int64_t n, std::int64_t k,
            std::int64_t r) {
  for (std::int64_t c = 0; c < k; c += kColumnBlock) {
    const std::int64_t end = smaller(k, c + kColumnBlock);
    std::int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
      expand_columns<T, 4, kLanes<T>, 2>(H + i * ldh, ldh, W, ldw,
                                         base ? base + i * ld_base : nullptr, ld_base, Y + i * ldy,
                                         ldy, c, end, r);
    }
    for (; i < n; ++i) {
      expand_columns<T, 1, kLanes<T>, 2>(H + i * ldh, ldh, W, ldw,
                                         base ? base + i * ld_base : nullptr, ld_base, Y + i * ldy,
                                         ldy, c, end, r);
    }
  }
}

template <class T, int Ranks, int Lanes, int Few>
void correlate_tile(const T* H, std::int64_t ldh, const T* X, std::int64_t ldx, T* G,
                    std::int64_t ldg, std::int64_t n) {
  using V = Vector<T, Lanes>;
  V sums[Ranks][Few];
  for (int j = 0; j < Ranks; ++j) {
    for (int v = 0; v < Few; ++v) sums[j][v] = load<V>(G + j * ldg + v * Lanes);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    V x[Few];
    for (int v = 0; v < Few; ++v) x[v] = load<V>(X + i * ldx + v * Lanes);
    for (int j = 0; j < Ranks; ++j) {
      for (int v = 0; v < Few; ++v) sums[j][v] += H[i * ldh + j] * x[v];
    }
  }
  for (int j = 0; j < Ranks; ++j) {
    for (int v = 0; v < Few; ++v) store(G + j * ldg + v * Lanes, sums[j][v]);
  }
}

template <class T, int Lanes, int Few>
void correlate_columns(const T* H, std::int64_t ldh, const T* X, std::int64_t ldx, T* G,
                       std::int64_t ldg, std::int64_t n, std::int64_t c, std::int64_t k,
                       std::int64_t r) {
  for (; c + Few * Lanes <= k; c += Few * Lanes) {
    std::int64_t j = 0;
    for (; j + 4 <= r; j += 4) {
      correlate_tile<T, 4, Lanes, Few>(H + j, ldh, X + c, ldx, G + j * ldg + c, ldg, n);
    }
    for (; j < r; ++j) {
      correlate_tile<T, 1, Lanes, Few>(H + j, ldh, X + c, ldx, G + j * ldg + c, ldg, n);
    }
  }
  if constexpr (Few > 1) {
    correlate_columns<T, Lanes, 1>(H, ldh, X, ldx, G, ldg, n, c, k, r);
  } else if constexpr (Lanes > 1) {
    correlate_columns<T, Lanes / 2, 1>(H, ldh, X, ldx, G, ldg, n, c, k, r);
  }
}

template <class T>
void correlate(const T* H, std::int64_t ldh, const T* X, std::int64_t ldx, T* G, std::int64_t ldg,
               std::int64_t n, std::int64_t k, std::int64_t r) {
  for (std::int64_t i = 0; i < n; i += kRowBlock) {
    correlate_columns<T, kLanes<T>, 2>(H + i * ldh, ldh, X + i * ldx, ldx, G, ldg,
                                       smaller(kRowBlock, n - i), 0, k, r);
  }
}

/// Four by four at a time, which the compiler turns into shuffles.
template <class T>
void transpose(const T* in, std::int64_t ld_in, T* out, std::int64_t ld_out, std::int64_t rows,
               std::int64_t cols) {
  const std::int64_t whole_rows = rows / 4 * 4;
  const std::int64_t whole_cols = cols / 4 * 4;
  for (std::int64_t row = 0; row < whole_rows; row += 4) {
    for (std::int64_t col = 0; col < whole_cols; col += 4) {
      T block[4][4];
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) block[j][i] = in[(row + i) * ld_in + col + j];
      }
      for (int j = 0; j < 4; ++j) {
        __builtin_memcpy(out + (col + j) * ld_out + row, block[j], sizeof block[j]);
      }
    }
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t first = row < whole_rows ? whole_cols : 0;
    for (std::int64_t col = first; col < cols; ++col)
      out[col * ld_out + row] = in[row * ld_in + col];
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
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = to_format<S>(from[i]);
  }
}

template <class T>
void drop(T* values, std::int64_t count, std::uint64_t key, std::uint32_t first,
          std::uint32_t threshold, T kept_factor) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t draw = drop_draw(key, first + static_cast<std::uint32_t>(i));
    values[i] *= draw >= threshold ? kept_factor : T{0};
  }
}

template <class T>
ProductKernels<T> product_table() {
  return {project<T>,
          expand<T>,
          correlate<T>,
          transpose<T>,
          {load_values<float, T>, load_values<double, T>, load_values<BFloat16, T>,
           load_values<Float16, T>},
          {store_values<float, T>, store_values<double, T>, store_values<BFloat16, T>,
           store_values<Float16, T>},
          drop<T>};
}

}  // namespace

void add_product_kernels(KernelTable& table) {
  table.product_float = product_table<float>();
  table.product_double = product_table<double>();
}

}  // namespace adalora::ADALORA_ISA
