// The tests over the emulation.

#include "cuda/cuda_test.hpp"

namespace cuda_test {

int launches() { return emulation::take_launch_count(); }

namespace {

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
  test_kernels_are_known();
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

}  // namespace

}  // namespace cuda_test

int main() {
  cuda_test::run();
  return 0;
}
