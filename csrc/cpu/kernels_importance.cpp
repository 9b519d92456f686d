/// The element-wise pass of importance: 24 bytes of traffic per float entry (p, g, two averages
/// read and written), bound by memory. Compiled without contraction of products and sums, so that
/// every rounding is torch's; tests/ops/test_importance.py compares bit by bit.

#include "cpu/simd.hpp"

namespace adalora::ADALORA_ISA {

namespace {

template <class P, class T, bool kWithScores>
std::int64_t update(const P* __restrict p, const P* __restrict g, T* __restrict smoothed,
                    T* __restrict uncertainty, std::int64_t count, const Smoothing<T>& smoothing,
                    T* __restrict scores) {
  const Smoothing<T> local = smoothing;  // a copy that no store can change
  std::int64_t seen = 0;
  // A short inner counter: a 32-bit sum per block keeps the loop as wide as the floats.
  constexpr std::int64_t kBlock = 1 << 20;
  for (std::int64_t start = 0; start < count; start += kBlock) {
    const std::int64_t end = smaller(count, start + kBlock);
    std::int32_t seen_in_block = 0;
    for (std::int64_t i = start; i < end; ++i) {
      T new_smoothed = smoothed[i];
      T new_uncertainty = uncertainty[i];
      const bool finite = observe(static_cast<T>(to_float(p[i])), static_cast<T>(to_float(g[i])),
                                  local, new_smoothed, new_uncertainty);
      smoothed[i] = new_smoothed;
      uncertainty[i] = new_uncertainty;
      if constexpr (kWithScores) scores[i] = new_smoothed * new_uncertainty;
      seen_in_block += finite ? 1 : 0;
    }
    seen += seen_in_block;
  }
  return count - seen;
}

template <class P, class T>
std::int64_t span(const P* p, const P* g, T* smoothed, T* uncertainty, std::int64_t count,
                  const Smoothing<T>& smoothing, T* scores) {
  if (g == nullptr) {
    if (scores != nullptr) {
      for (std::int64_t i = 0; i < count; ++i) scores[i] = smoothed[i] * uncertainty[i];
    }
    return 0;
  }
  return scores == nullptr
             ? update<P, T, false>(p, g, smoothed, uncertainty, count, smoothing, nullptr)
             : update<P, T, true>(p, g, smoothed, uncertainty, count, smoothing, scores);
}

template <class T>
T sum(const T* values, std::int64_t count) {
  constexpr int kSumLanes = 16;
  T lanes[kSumLanes] = {};
  std::int64_t i = 0;
  for (; i + kSumLanes <= count; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) lanes[lane] += values[i + lane];
  }
  for (int lane = 0; i + lane < count; ++lane) lanes[lane] += values[i + lane];
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

template <class T>
void add_rows(const T* __restrict values, std::int64_t rows, std::int64_t cols,
              T* __restrict sums) {
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = 0; col < cols; ++col) sums[col] += values[row * cols + col];
  }
}

}  // namespace

void add_importance_kernels(KernelTable& table) {
  table.importance_float32 = {span<float, float>};
  table.importance_float64 = {span<double, double>};
  table.importance_bfloat16 = {span<BFloat16, float>};
  table.importance_float16 = {span<Float16, float>};
  table.reduce_float = {sum<float>, add_rows<float>};
  table.reduce_double = {sum<double>, add_rows<double>};
}

}  // namespace adalora::ADALORA_ISA
