#pragma once
/// The view of a tensor that every op of the core takes.

#include <cstddef>
#include <cstdint>

namespace adalora {

enum class DType : std::uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16 };

inline constexpr int kDTypeCount = 4;

constexpr std::size_t item_size(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

/// The type that values of `dtype` are computed in: double for double, else float.
constexpr DType compute_type(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

/// A matrix in memory that the caller owns; strides are in elements and never negative.
///
/// No element of a view that an op writes overlaps another element or another argument.
struct MatrixView {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 0;
  DType dtype = DType::kFloat32;

  bool present() const { return data != nullptr; }

  bool row_major() const { return col_stride == 1 || cols <= 1; }

  /// All elements are adjacent, row after row.
  bool contiguous() const { return row_major() && (row_stride == cols || rows <= 1); }

  /// The address of element [row, col].
  char* at(std::int64_t row, std::int64_t col) const {
    return static_cast<char*>(data) +
           (row * row_stride + col * col_stride) * static_cast<std::int64_t>(item_size(dtype));
  }
};

}  // namespace adalora
