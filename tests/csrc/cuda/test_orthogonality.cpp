#include <cmath>
#include <limits>

#include "adalora/orthogonality.hpp"
#include "cuda/orthogonality.hpp"
#include "cuda_test.hpp"

namespace cuda_test {

namespace {

/// Entries that lie unused before each factor, and before its gradient.
struct Offsets {
  std::size_t of_factors = 0, of_gradients = 0;
};

class Factors {
 public:
  Factors(const std::vector<Shape>& shapes, DType dtype) : dtype_(dtype) {
    for (const Shape& shape : shapes) add(shape.rank, shape.in, true);
    for (const Shape& shape : shapes) add(shape.out, shape.rank, false);
  }

  void poison() {
    hosts_.front()->set(0, 0, std::numeric_limits<double>::quiet_NaN());
    hosts_.back()->set(0, 0, std::numeric_limits<double>::infinity());
  }

  /// Leaves one factor, whose only vector has length 1: its norm is 0.
  void keep_one() {
    hosts_.resize(1);
    host_views_.resize(1);
    gram_size_ = 1;
    hosts_.front()->set(0, 0, 1.0);
  }

  void copy(const Offsets& offsets) {
    offset_of_gradients_ = offsets.of_gradients;
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      devices_.push_back(std::make_unique<DeviceMatrix>(*hosts_[i], offsets.of_factors));
      device_views_.push_back({devices_.back()->view(), host_views_[i].vectors_are_rows});
    }
  }

  void check() {
    const DType compute = adalora::compute_type(dtype_);
    const std::size_t count = hosts_.size();
    std::vector<double> norms(count);
    Matrix grams(1, gram_size_, compute);
    const double expected =
        adalora::orthogonality_penalty(host_views_, grams.view().data, norms.data());
    const auto room = static_cast<std::size_t>(adalora::cuda::gram_room(device_views_));
    const Memory partials(room * adalora::item_size(compute));
    const DeviceMatrix device_grams(Matrix(1, gram_size_, compute));
    const Memory device_norms(count * sizeof(double));
    Matrix penalty(1, 1, dtype_);
    const DeviceMatrix device_penalty(penalty);
    adalora::cuda::orthogonality_penalty(device_views_, partials.as(), device_grams.view().data,
                                         device_norms.as<double>(), device_penalty.view().data,
                                         stream());
    device_penalty.read(penalty);
    Matrix wanted(1, 1, dtype_);
    wanted.set(0, 0, expected);
    CHECK(difference(penalty, wanted) <= tolerance());
    check_gradients(grams, norms, device_grams, device_norms);
  }

 private:
  double tolerance() const {
    return dtype_ == DType::kFloat64 ? 1e-12 : dtype_ == DType::kFloat32 ? 1e-5 : 1e-2;
  }

  void add(std::int64_t rows, std::int64_t cols, bool vectors_are_rows) {
    hosts_.push_back(std::make_unique<Matrix>(rows, cols, dtype_));
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < cols; ++j) {
        hosts_.back()->set(i, j, 0.1 * core_test::random_value());
      }
    }
    host_views_.push_back({hosts_.back()->view(), vectors_are_rows});
    gram_size_ += host_views_.back().rank() * host_views_.back().rank();
  }

  void check_gradients(const Matrix& grams, const std::vector<double>& norms,
                       const DeviceMatrix& device_grams, const Memory& device_norms) {
    Matrix grad(1, 1, dtype_);
    grad.set(0, 0, -3.0);
    const DeviceMatrix device_grad(grad);
    std::vector<std::unique_ptr<Matrix>> expected, found;
    std::vector<std::unique_ptr<DeviceMatrix>> on_device;
    std::vector<MatrixView> expected_views, device_views;
    for (const auto& host : hosts_) {
      const MatrixView& view = host->view();
      expected.push_back(std::make_unique<Matrix>(view.rows, view.cols, dtype_));
      found.push_back(std::make_unique<Matrix>(view.rows, view.cols, dtype_));
      on_device.push_back(std::make_unique<DeviceMatrix>(*found.back(), offset_of_gradients_));
      expected_views.push_back(expected.back()->view());
      device_views.push_back(on_device.back()->view());
    }
    adalora::orthogonality_gradient(host_views_, grams.view().data, norms.data(), -3.0,
                                    expected_views);
    adalora::cuda::orthogonality_gradient(device_views_, device_grams.view().data,
                                          device_norms.as<double>(), device_grad.view().data,
                                          device_views, stream());
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      on_device[i]->read(*found[i]);
      CHECK(difference(*found[i], *expected[i]) <= tolerance());
    }
  }

  DType dtype_;
  std::vector<std::unique_ptr<Matrix>> hosts_;
  std::vector<std::unique_ptr<DeviceMatrix>> devices_;
  std::vector<adalora::Factor> host_views_, device_views_;
  std::int64_t gram_size_ = 0;
  std::size_t offset_of_gradients_ = 0;
};

void check(const std::vector<Shape>& shapes, DType dtype, const Offsets& offsets = {},
           bool poisoned = false) {
  Factors factors(shapes, dtype);
  if (poisoned) factors.poison();
  factors.copy(offsets);
  factors.check();
}

/// Each rank up to two tiles, one matrix, and one factor of it.
void check_ranks(DType dtype) {
  std::vector<Shape> shapes;
  for (std::int64_t rank = 1; rank <= 32; ++rank) shapes.push_back({5, rank, 3});
  check(shapes, dtype);
  check({{70, 8, 19}}, dtype);
  Factors factors({{1, 1, 1}}, dtype);
  factors.keep_one();
  factors.copy({});
  factors.check();
}

}  // namespace

void test_orthogonality() {
  for (const DType dtype : core_test::kDTypes) {
    for (const Offsets& offsets : {Offsets{0, 0}, {1, 0}, {0, 1}}) {
      // Odd, rank 0 and 1, empty sides, several pieces, several tiles.
      check({{7, 3, 11}, {8, 0, 6}, {0, 3, 5}, {1100, 12, 300}, {90, 35, 65}, {9, 1, 1}}, dtype,
            offsets);
    }
    check({{8, 0, 6}}, dtype);
    check_ranks(dtype);
    // So many pieces of a factor that a loop over them takes all its parts if it is unrolled, and
    // more factors than a block has threads.
    if (adalora::compute_type(dtype) == dtype) check({{31 * 2048 - 5, 2, 15 * 2048}}, dtype);
    std::vector<Shape> many(600, Shape{3, 0, 2});
    for (std::size_t i = 0; i < many.size(); i += 25) many[i].rank = 1;
    check(many, dtype);
    check({{7, 3, 11}, {5, 2, 4}}, dtype, {}, true);
  }
  // Products, residuals and their mean, and the gradient.
  (void)launches();
  check(std::vector<Shape>(kWholeModel, Shape{3, 2, 2}), DType::kFloat32);
  check_launches_of_a_whole_model(4);
  // More factors than one launch takes.
  check(std::vector<Shape>(1100, Shape{3, 2, 2}), DType::kFloat32);
}

}  // namespace cuda_test
