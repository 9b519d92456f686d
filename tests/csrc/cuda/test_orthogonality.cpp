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

  /// Makes all numbers so short that no sum is rounded, in whatever order.
  void shorten() {
    is_exact_ = true;
    for (const auto& host : hosts_) {
      const MatrixView& view = host->view();
      for (std::int64_t i = 0; i < view.rows * view.cols; ++i) {
        const std::int64_t row = i / view.cols, col = i % view.cols;
        host->set(row, col, std::round(20.0 * host->get(row, col)) / 2.0);
      }
    }
  }

  /// Makes norms of 0, 1 and a little more or less, so that a lane has another than its neighbour.
  /// Their mean lies exactly between two numbers of the format: no bit of a norm may be lost. The
  /// first `count` norms of 0 grow by the square of `entry`.
  void make_tie(double entry, std::size_t count) {
    is_exact_ = true;
    const double small = std::ldexp(1.0, -11);
    for (std::size_t i = 0; i < hosts_.size(); ++i) {
      const bool is_one = i % 2 == 0, is_more = i < hosts_.size() / 2;
      const double of_zero[] = {1.0, i < 2 * count ? entry : 0.0, 0.0, 0.0};
      const double of_more[] = {1.0, 1.0, small, small}, of_less[] = {0.0, 0.0, small, small};
      const double* const vector = !is_one ? of_zero : is_more ? of_more : of_less;
      for (std::int64_t j = 0; j < 4; ++j) {
        const bool is_row = host_views_[i].vectors_are_rows;
        hosts_[i]->set(is_row ? 0 : j, is_row ? j : 0, vector[j]);
      }
    }
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
    CHECK(difference(penalty, wanted) <= (is_exact_ ? 1e-15 : tolerance()));
    CHECK(!is_exact_ || device_norms.values<double>() == norms);
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
  bool is_exact_ = false;
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
  Factors exact({{7, 18, 5}}, dtype);
  exact.shorten();
  exact.copy({});
  exact.check();
}

/// The mean is rounded up from one tie, and down from the next.
void check_ties(DType dtype, double entry, std::size_t count) {
  for (const std::size_t times : {1, 3}) {
    Factors factors(std::vector<Shape>(32, Shape{4, 1, 4}), dtype);
    factors.make_tie(entry, times * count);
    factors.copy({});
    factors.check();
  }
}

/// More products of vectors than a kernel counts.
void check_refusal() {
  constexpr std::int64_t kRank = 46341;
  const adalora::Factor factor{{nullptr, kRank, kRank, kRank, 1, DType::kFloat32}, true};
  check_refused([&] {
    adalora::cuda::orthogonality_penalty({&factor, 1}, nullptr, nullptr, nullptr, nullptr,
                                         stream());
  });
}

}  // namespace

void test_orthogonality() {
  for (const DType dtype : core_test::kDTypes) {
    for (const Offsets& offsets : {Offsets{0, 0}, {1, 0}, {0, 1}}) {
      // Odd, rank 0 and 1, empty sides, several tiles.
      check({{7, 3, 11}, {8, 0, 6}, {0, 3, 5}, {1100, 12, 300}, {90, 35, 65}, {9, 1, 1}}, dtype,
            offsets);
    }
    check({{8, 0, 6}}, dtype);
    check_ranks(dtype);
    // Several pieces of a factor, and more factors than a block has threads.
    check({{5 * 2048 - 5, 2, 2 * 2048}}, dtype);
    std::vector<Shape> many(600, Shape{3, 0, 2});
    for (std::size_t i = 0; i < many.size(); i += 25) many[i].rank = 1;
    check(many, dtype);
    check({{7, 3, 11}, {5, 2, 4}}, dtype, {}, true);
  }
  check_ties(DType::kFloat32, std::ldexp(1.0, -10), 2);
  check_ties(DType::kBFloat16, 0.25, 2);
  check_ties(DType::kFloat16, 0.125, 1);
  check_refusal();
  // Products, residuals and their mean, and the gradient.
  (void)launches();
  check(std::vector<Shape>(kWholeModel, Shape{3, 2, 2}), DType::kFloat32);
  check_launches_of_a_whole_model(4);
  // More factors than one launch takes.
  check(std::vector<Shape>(1100, Shape{3, 2, 2}), DType::kFloat32);
}

}  // namespace cuda_test
