#pragma once
// The CUDA kernels against the CPU core. There are three ways to run them: on_gpu.cpp on a GPU;
// ../ptx what nvcc makes, by an interpreter; and ../emulation their C++, compiled a second time,
// where "device memory" is heap memory that a sanitizer checks.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "core_test.hpp"
#include "cuda/launch.hpp"

namespace cuda_test {

using adalora::DType;
using adalora::MatrixView;
using core_test::Matrix;

/// Device memory of exactly the requested size, after `offset_bytes` unused bytes, which can
/// prevent accesses of 16 bytes.
class Memory {
 public:
  explicit Memory(std::size_t bytes, std::size_t offset_bytes = 0) : bytes_(bytes) {
    if (bytes == 0) return;
    adalora::cuda::require_success(cudaMalloc(&block_, bytes + offset_bytes));
    data_ = static_cast<char*>(block_) + offset_bytes;
  }
  ~Memory() { (void)cudaFree(block_); }

  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  template <class T = void>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

  void write(const void* from) {
    if (bytes_ == 0) return;
    adalora::cuda::require_success(cudaMemcpy(data_, from, bytes_, cudaMemcpyHostToDevice));
  }
  void read(void* to) const {
    if (bytes_ == 0) return;
    adalora::cuda::require_success(cudaMemcpy(to, data_, bytes_, cudaMemcpyDeviceToHost));
  }

  template <class T>
  std::vector<T> values() const {
    std::vector<T> result(bytes_ / sizeof(T));
    read(result.data());
    return result;
  }

 private:
  void* block_ = nullptr;
  char* data_ = nullptr;
  std::size_t bytes_;
};

/// A matrix on the device, contiguous.
class DeviceMatrix {
 public:
  explicit DeviceMatrix(const Matrix& host, std::size_t offset = 0)
      : view_(host.view()),
        memory_(size(host.view()), offset * adalora::item_size(host.view().dtype)) {
    view_.data = memory_.as();
    memory_.write(host.view().data);
  }

  const MatrixView& view() const { return view_; }

  /// Whether the device holds the same bytes as `host`.
  bool equals(const Matrix& host) const {
    const std::vector<char> bytes = memory_.values<char>();
    return bytes.empty() || std::memcmp(bytes.data(), host.view().data, bytes.size()) == 0;
  }

  void read(Matrix& host) const { memory_.read(host.view().data); }
  void write(const Matrix& host) { memory_.write(host.view().data); }

  /// Checks that the device holds the numbers of `expected`, its infinities and signs of zeros; a
  /// NaN may be another.
  void check_same(const Matrix& expected) const;

 private:
  static std::size_t size(const MatrixView& view) {
    return static_cast<std::size_t>(view.rows * view.cols) * adalora::item_size(view.dtype);
  }

  MatrixView view_;
  Memory memory_;
};

/// The sizes of an adapted layer.
struct Shape {
  std::int64_t in, rank, out;
};

/// Numbers that formats round in ways of their own: zeros, subnormals of each format, ties,
/// overflow.
inline constexpr double kSpecial[] = {
    0.0,      -0.0,      6e-8,    2.9e-8, -1e-7,         1.3e-5,        -6.1e-5,    1e-40,
    -1e-42,   65504.0,   65519.0, 65520., -7e4,          1e6,           3.4e38,     -3.4e38,
    HUGE_VAL, -HUGE_VAL, NAN,     1.0,    1.00048828125, 1.00146484375, 1.00390625, 1.01171875};

/// The largest difference, relative to the largest entry of `expected`.
double difference(const Matrix& found, const Matrix& expected);

/// The stream that the tests use.
adalora::cuda::Stream stream();

/// Kernels started since the last call; -1 on a GPU, where they are not counted. Each way to run
/// the kernels has its own.
int launches();

/// Checks that an op refuses its arguments before it starts a kernel.
template <class Call>
void check_refused(const Call& call) {
  (void)launches();
  bool refused = false;
  try {
    call();
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused && launches() <= 0);
}

/// Matrices of a LLaMA-7B in which all linear layers are adapted. Where a launch may carry large
/// tables, an op takes all of them in one.
inline constexpr std::size_t kWholeModel = 224;

/// Checks the number of kernels started since the last count, by an op on `kWholeModel` matrices.
void check_launches_of_a_whole_model(int expected);

void test_importance();
void test_orthogonality();
void test_selection();
void test_svd_linear();
void test_all();

/// Checks that all kernels can be loaded before the first launch.
void test_kernels_are_known();

}  // namespace cuda_test
