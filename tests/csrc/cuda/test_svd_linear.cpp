#include <algorithm>
#include <cmath>

#include "adalora/arithmetic/dropout.hpp"
#include "adalora/svd_linear.hpp"
#include "cuda/svd_linear.hpp"
#include "cuda_test.hpp"

namespace cuda_test {

namespace {

constexpr double kScale = 0.7;

/// What is moved away from an address that allows accesses of 16 bytes: nothing, or one of three.
constexpr unsigned kOffsets[] = {0, 1, 2, 4};

double rounding(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-14;
    case DType::kFloat32:
      return 1e-6;
    case DType::kFloat16:
      return 1e-3;
    case DType::kBFloat16:
      return 1e-2;
  }
  return 0.0;
}

double rounding(DType a, DType b) { return std::max(rounding(a), rounding(b)); }

struct HostFactors {
  HostFactors(std::int64_t in, std::int64_t rank, std::int64_t out, DType dtype)
      : A(rank, in, dtype), E(rank, 1, dtype), B(out, rank, dtype) {
    A.randomize();
    E.randomize();
    B.randomize();
  }

  Matrix A, E, B;
};

struct DeviceFactors {
  DeviceFactors(const HostFactors& host, std::size_t offset)
      : A(host.A, offset), E(host.E), B(host.B, offset) {}

  adalora::Triplets views() const { return {A.view(), E.view(), B.view()}; }

  DeviceMatrix A, E, B;
};

/// The lowest bit of `offsets` moves the factors, the next what is given or written in `product`.
void check_fold(const HostFactors& host, DType product, unsigned offsets) {
  const std::int64_t rank = host.A.view().rows, in = host.A.view().cols, out = host.B.view().rows;
  const std::int64_t padded = adalora::cuda::padded_rank(rank, product);
  const DeviceFactors device(host, offsets & 1u);
  Matrix folded_A(padded, in, product), folded_B(out, padded, product);
  folded_A.randomize();
  folded_B.randomize();
  const DeviceMatrix device_A(folded_A, offsets >> 1 & 1u), device_B(folded_B, offsets >> 1 & 1u);
  adalora::cuda::fold_factors(device.views(), kScale, {device_A.view(), device_B.view()}, stream());
  device_A.read(folded_A);
  device_B.read(folded_B);
  Matrix expected_A(padded, in, product), expected_B(out, padded, product);
  for (std::int64_t t = 0; t < rank; ++t) {
    for (std::int64_t i = 0; i < in; ++i) {
      expected_A.set(t, i, kScale * host.E.get(t, 0) * host.A.get(t, i));
    }
    for (std::int64_t o = 0; o < out; ++o) expected_B.set(o, t, host.B.get(o, t));
  }
  const double limit = rounding(product, host.A.view().dtype);
  CHECK(difference(folded_A, expected_A) <= limit);
  CHECK(difference(folded_B, expected_B) <= limit);
  for (std::int64_t t = rank; t < padded; ++t) {
    for (std::int64_t i = 0; i < in; ++i) CHECK(folded_A.get(t, i) == 0.0);
    for (std::int64_t o = 0; o < out; ++o) CHECK(folded_B.get(o, t) == 0.0);
  }
}

/// `wanted` has one bit for A, E and B; `offsets` has a third one for the gradients.
void check_unfold(const HostFactors& host, DType given, unsigned offsets, unsigned wanted) {
  const std::int64_t rank = host.A.view().rows, in = host.A.view().cols, out = host.B.view().rows;
  const std::int64_t padded = adalora::cuda::padded_rank(rank, given);
  const DType dtype = host.A.view().dtype;
  const DeviceFactors device(host, offsets & 1u);
  Matrix of_A(padded, in, given), of_B(out, padded, given);
  of_A.randomize();
  of_B.randomize();
  const DeviceMatrix device_A(of_A, offsets >> 1 & 1u), device_B(of_B, offsets >> 1 & 1u);
  Matrix grad_A(rank, in, dtype), grad_E(rank, 1, dtype), grad_B(out, rank, dtype);
  const DeviceMatrix out_A(grad_A, offsets >> 2), out_E(grad_E), out_B(grad_B, offsets >> 2);
  const adalora::Triplets outputs{(wanted & 1u) != 0 ? out_A.view() : MatrixView{},
                                  (wanted & 2u) != 0 ? out_E.view() : MatrixView{},
                                  (wanted & 4u) != 0 ? out_B.view() : MatrixView{}};
  adalora::cuda::unfold_gradients({(wanted & 3u) != 0 ? device_A.view() : MatrixView{},
                                   (wanted & 4u) != 0 ? device_B.view() : MatrixView{}},
                                  device.views(), kScale, outputs, stream());
  out_A.read(grad_A);
  out_E.read(grad_E);
  out_B.read(grad_B);
  Matrix expected_A(rank, in, dtype), expected_B(out, rank, dtype);
  for (std::int64_t t = 0; t < rank; ++t) {
    double sum = 0.0, size = 0.0;  // of terms that may cancel
    for (std::int64_t i = 0; i < in; ++i) {
      const double term = kScale * of_A.get(t, i) * host.A.get(t, i);
      sum += term;
      size += std::fabs(term);
      if ((wanted & 1u) != 0) expected_A.set(t, i, kScale * host.E.get(t, 0) * of_A.get(t, i));
    }
    if ((wanted & 2u) == 0) sum = size = 0.0;
    const double allowed =
        rounding(dtype) * std::fabs(sum) + rounding(adalora::compute_type(dtype)) * size;
    CHECK_NEAR(grad_E.get(t, 0), sum, allowed, grad_E);
    for (std::int64_t o = 0; (wanted & 4u) != 0 && o < out; ++o) {
      expected_B.set(o, t, of_B.get(o, t));
    }
  }
  CHECK(difference(grad_A, expected_A) <= rounding(dtype));
  CHECK(difference(grad_B, expected_B) <= rounding(dtype));
}

/// With scale and E of 1, the factors and their gradients are converted and nothing else: exactly.
void check_conversions(DType from, DType to, unsigned offsets) {
  constexpr std::int64_t kOut = 3, kRank = 8, kIn = kOut * kRank;
  HostFactors host(kIn, kRank, kOut, from);
  Matrix ones(kRank, 1, to), A(kRank, kIn, to), B(kOut, kRank, to);
  Matrix expected_A(kRank, kIn, to), expected_B(kOut, kRank, to);
  for (std::int64_t i = 0; i < kRank * kIn; ++i) {
    const std::int64_t t = i / kIn, at = i % kIn;
    const double value = kSpecial[at];
    host.A.set(t, at, value);
    expected_A.set(t, at, host.A.get(t, at));
    host.E.set(t, 0, 1.0);
    ones.set(t, 0, 1.0);
    host.B.set(at / kRank, at % kRank, value);
    expected_B.set(at / kRank, at % kRank, host.B.get(at / kRank, at % kRank));
  }
  const DeviceFactors device(host, offsets & 1u);
  const DeviceMatrix E(ones), folded_A(A, offsets >> 1), folded_B(B, offsets >> 1);
  const DeviceMatrix grad_A(A, offsets >> 1), grad_B(B, offsets >> 1);
  adalora::cuda::fold_factors(device.views(), 1.0, {folded_A.view(), folded_B.view()}, stream());
  adalora::cuda::unfold_gradients({device.A.view(), device.B.view()},
                                  {folded_A.view(), E.view(), folded_B.view()}, 1.0,
                                  {grad_A.view(), MatrixView{}, grad_B.view()}, stream());
  for (const DeviceMatrix* const found : {&folded_A, &grad_A}) found->check_same(expected_A);
  for (const DeviceMatrix* const found : {&folded_B, &grad_B}) found->check_same(expected_B);
}

constexpr std::int64_t kSeed = -123456789;

void check_drop(std::int64_t rows, std::int64_t cols, DType dtype, unsigned offsets = 0,
                bool in_place = false, double probability = 1.0 / 3.0) {
  Matrix x(rows, cols, dtype), found(rows, cols, dtype), expected(rows, cols, dtype);
  x.randomize();
  const DeviceMatrix device_x(x, offsets & 1u), device_found(found, offsets >> 1);
  Memory device_seed(sizeof kSeed);
  device_seed.write(&kSeed);
  const DeviceMatrix& target = in_place ? device_x : device_found;
  adalora::cuda::drop(device_x.view(), probability, device_seed.as<std::int64_t>(), target.view(),
                      stream());
  target.read(found);
  // One and a half at a probability of a third: of half of the entries a tie.
  const double factor = 1.0 / (1.0 - probability);
  const bool is_double = dtype == DType::kFloat64;
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::uint64_t key =
        adalora::drop_row_key(static_cast<std::uint64_t>(kSeed), static_cast<std::uint64_t>(i));
    for (std::int64_t j = 0; j < cols; ++j) {
      const bool stays = adalora::drop_draw(key, static_cast<std::uint32_t>(j)) >=
                         adalora::drop_threshold(probability);
      CHECK(stays || found.get(i, j) == 0.0);
      const double value = x.get(i, j) * (is_double ? factor : static_cast<float>(factor));
      if (stays) expected.set(i, j, is_double ? value : static_cast<float>(value));
      kept += stays ? 1 : 0;
    }
  }
  CHECK(difference(found, expected) == 0.0);
  CHECK(rows * cols < 1000 ||
        std::fabs(static_cast<double>(kept) / static_cast<double>(rows * cols) -
                  (1.0 - probability)) < 0.1);
}

/// Each entry with the highest probability that keeps it, and the lowest that does not: no bit of
/// its draw may be another.
void check_draws(std::int64_t cols, DType dtype) {
  const std::uint64_t key = adalora::drop_row_key(static_cast<std::uint64_t>(kSeed), 0);
  for (std::uint32_t i = 0; i < cols; ++i) {
    const double draw = adalora::drop_draw(key, i);
    for (const double threshold : {draw, draw + 1.0}) {
      check_drop(1, cols, dtype, 0, false, threshold / 4294967296.0);
    }
  }
}

/// Factors of 2^31 entries, of which a kernel counts fewer.
void check_refusals() {
  char data = 0;
  const auto view_of = [&](std::int64_t rows, std::int64_t cols) {
    return MatrixView{&data, rows, cols, cols, 1, DType::kFloat32};
  };
  constexpr std::int64_t kRank = 8, kLong = std::int64_t{1} << 28;
  for (const Shape& shape : {Shape{kLong, kRank, 2}, {2, kRank, kLong}}) {
    const MatrixView A = view_of(kRank, shape.in), B = view_of(shape.out, kRank);
    const adalora::Triplets triplets{A, view_of(kRank, 1), B};
    check_refused([&] { adalora::cuda::fold_factors(triplets, kScale, {A, B}, stream()); });
    if (shape.out < kLong) continue;
    check_refused([&] {
      adalora::cuda::unfold_gradients({MatrixView{}, B}, triplets, kScale,
                                      {MatrixView{}, MatrixView{}, B}, stream());
    });
  }
}

}  // namespace

void test_svd_linear() {
  check_refusals();
  for (const DType from : core_test::kDTypes) {
    for (const DType to : core_test::kDTypes) {
      for (const unsigned offsets : kOffsets) check_conversions(from, to, offsets);
      HostFactors infinite(7, 3, 11, from);
      infinite.E.set(2, 0, HUGE_VAL);  // and the padding beside it stays zero
      check_fold(infinite, to, 0);
      // Rows of which every thread reads four or more entries, and the first thread one more, alone
      // or in packs.
      for (const std::int64_t in : {1025, 1281, 1537, 1793, 4104}) {
        const HostFactors host(in, 1, 2, from);
        for (const unsigned offsets : kOffsets) {
          for (const unsigned wanted : {2u, 7u}) check_unfold(host, to, offsets, wanted);
        }
      }
    }
  }
  for (const Shape& shape : {Shape{7, 3, 11}, {300, 12, 33}, {3, 16, 150}, {5, 1, 1}, {1, 9, 70}}) {
    for (const DType dtype : core_test::kDTypes) {
      const HostFactors host(shape.in, shape.rank, shape.out, dtype);
      for (const DType product : core_test::kDTypes) {
        for (const unsigned offsets : kOffsets) {
          check_fold(host, product, offsets);
          check_unfold(host, product, offsets, 7);
        }
        for (unsigned wanted = 1; wanted < 7; ++wanted) check_unfold(host, product, 0, wanted);
      }
    }
  }
  for (const DType dtype : core_test::kDTypes) {
    for (const std::int64_t cols : {7, 8}) check_draws(cols, dtype);
    for (const unsigned offsets : {0u, 1u, 2u}) {
      for (const bool in_place : {false, true}) {
        // Short and long rows, with every rest that a pack leaves.
        for (std::int64_t cols = 32; cols < 40; ++cols)
          check_drop(9, cols, dtype, offsets, in_place);
        check_drop(2, 1100, dtype, offsets, in_place);
        check_drop(3, 1, dtype, offsets, in_place);
        check_drop(0, 8, dtype, offsets, in_place);
        check_drop(8, 0, dtype, offsets, in_place);
      }
    }
  }
}

}  // namespace cuda_test
