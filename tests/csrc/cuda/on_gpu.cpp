// The tests on a GPU.

#include "cuda_test.hpp"

int cuda_test::launches() { return -1; }

int main() {
  cuda_test::test_kernels_are_known();  // needs no GPU
  constexpr int kSkipped = 77;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::puts("no GPU: would have compared the CUDA kernels with the CPU core");
    return kSkipped;
  }
  cuda_test::test_all();
  std::puts("passed on a GPU");
  return 0;
}
