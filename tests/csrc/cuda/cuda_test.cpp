#include "cuda_test.hpp"

#include <algorithm>
#include <cmath>

namespace cuda_test {

double difference(const Matrix& found, const Matrix& expected) {
  const MatrixView& view = expected.view();
  CHECK(found.view().rows == view.rows && found.view().cols == view.cols);
  double worst = 0.0, largest = 1e-3;
  for (std::int64_t i = 0; i < view.rows; ++i) {
    for (std::int64_t j = 0; j < view.cols; ++j) {
      const double wanted = expected.get(i, j);
      if (!std::isfinite(wanted)) {
        if (std::isnan(wanted) != std::isnan(found.get(i, j))) return HUGE_VAL;
        continue;
      }
      // A NaN must not pass as no difference.
      const double off = std::fabs(found.get(i, j) - wanted);
      if (!(off <= HUGE_VAL)) return HUGE_VAL;
      worst = std::max(worst, off);
      largest = std::max(largest, std::fabs(wanted));
    }
  }
  return worst / largest;
}

void DeviceMatrix::check_same(const Matrix& expected) const {
  Matrix found(view_.rows, view_.cols, view_.dtype);
  read(found);
  for (std::int64_t i = 0; i < view_.rows; ++i) {
    for (std::int64_t j = 0; j < view_.cols; ++j) {
      const double wanted = expected.get(i, j), got = found.get(i, j);
      CHECK(std::isnan(wanted) ? std::isnan(got)
                               : got == wanted && std::signbit(got) == std::signbit(wanted));
    }
  }
}

adalora::cuda::Stream stream() { return {}; }

void check_launches_of_a_whole_model(int expected) {
  const int count = launches();
  if (count == -1 || CUDART_VERSION < adalora::cuda::kLargeArguments) return;
  CHECK(count == expected);
}

void test_all() {
  test_importance();
  test_orthogonality();
  test_selection();
  test_svd_linear();
}

// Those of the averages and scores, of the penalty, of the selection, and of the adapter, whose
// factors and inputs have four types each.
void test_kernels_are_known() {
  CHECK(adalora::cuda::kernels().size() == (8 + 2) + (4 + 2 + 4 + 4) + (2 + 1) + (16 + 16 + 4));
}

}  // namespace cuda_test
