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

/// All kernels can be loaded before the first launch: those of the averages and scores, of the
/// penalty, of the selection, and of the adapter, whose factors and inputs have four types each.
void test_kernels_are_known() {
  CHECK(adalora::cuda::kernels().size() == (8 + 2) + (4 + 2 + 4 + 4) + (2 + 1) + (16 + 16 + 4));
}

#if defined(ADALORA_EMULATED)

int launches() { return emulation::take_launch_count(); }

int current_device() {
  int device = -1;
  adalora::cuda::require_success(cudaGetDevice(&device));
  return device;
}

/// A call on device 1 leaves no context on device 0, where none was.
void test_current_device() {
  using adalora::cuda::CurrentDevice;
  {
    const CurrentDevice same(0);
    CHECK(!emulation::has_context(0));
    const CurrentDevice other(1);
    CHECK(current_device() == 1 && emulation::has_context(1));
    const CurrentDevice again(1);
    CHECK(current_device() == 1);
  }
  CHECK(current_device() == 0);
  CHECK(!emulation::has_context(0) && !emulation::has_context(1));
}

void run() {
  test_current_device();
  // Large launches in one order only: each order costs as much as the others.
  const bool all_orders = CUDART_VERSION < adalora::cuda::kLargeArguments;
  for (const emulation::Order order :
       {emulation::Order::kShuffled, emulation::Order::kForward, emulation::Order::kBackward}) {
    emulation::set_order(order);
    test_all();
    if (!all_orders) break;
  }
  std::puts("passed, emulated on the CPU");
}

#else

int launches() { return -1; }

void run() {
  test_all();
  std::puts("passed on a GPU");
}

#endif

}  // namespace cuda_test

int main() {
  cuda_test::test_kernels_are_known();  // needs no GPU
#if !defined(ADALORA_EMULATED)
  constexpr int kSkipped = 77;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::puts("no GPU: would have compared the CUDA kernels with the CPU core");
    return kSkipped;
  }
#endif
  cuda_test::run();
  return 0;
}
