#pragma once
/// Memory that an op needs while it runs, and blocks of matrices as rows of the compute type.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "adalora/view.hpp"
#include "cpu/kernels.hpp"

namespace adalora {

inline constexpr std::size_t kScratchAlignment = 64;

// Without a reserve the address sanitizer sees the end of each piece.
#if defined(ADALORA_WITHOUT_RESERVE)
inline constexpr std::size_t kReserveBytes = 0;
#else
inline constexpr std::size_t kReserveBytes = std::size_t{1} << 20;
#endif

/// Memory of a thread that every op on it uses again: pieces from the heap would be cold, and would
/// move torch's tensors, which are on the same heap.
class Reserve {
 public:
  static Reserve& of_thread() {
    thread_local Reserve reserve;
    return reserve;
  }

  /// Returns null where `bytes` do not fit. A piece is free again once all are.
  void* take(std::size_t bytes) {
    if (bytes > kReserveBytes - used_) return nullptr;
    if (memory_ == nullptr) memory_.reset(static_cast<char*>(allocate(kReserveBytes)));
    void* const piece = memory_.get() + used_;
    used_ += bytes;
    ++pieces_;
    return piece;
  }

  void give_back() {
    if (--pieces_ == 0) used_ = 0;
  }

  static void* allocate(std::size_t bytes) {
    return ::operator new[](bytes, std::align_val_t{kScratchAlignment});
  }

  struct Delete {
    void operator()(void* memory) const {
      ::operator delete[](memory, std::align_val_t{kScratchAlignment});
    }
  };

 private:
  std::unique_ptr<char[], Delete> memory_;
  std::size_t used_ = 0;
  std::int64_t pieces_ = 0;
};

/// Uninitialised memory for `count` values, aligned so that no vector crosses a cache line; for the
/// thread that made it to free.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t whole = (bytes + kScratchAlignment - 1) / kScratchAlignment;
    void* const piece = Reserve::of_thread().take(whole * kScratchAlignment);
    data_ = {static_cast<T*>(piece != nullptr ? piece : Reserve::allocate(bytes)),
             Delete{piece != nullptr}};
  }

  T* data() const { return data_.get(); }

 private:
  struct Delete {
    bool is_reserved = false;

    void operator()(T* values) const {
      is_reserved ? Reserve::of_thread().give_back() : Reserve::Delete{}(values);
    }
  };

  std::unique_ptr<T[], Delete> data_;
};

template <class T>
inline constexpr DType kDTypeOf = sizeof(T) == sizeof(double) ? DType::kFloat64 : DType::kFloat32;

/// Whether the kernels can read `view` in place.
template <class T>
bool is_plain(const MatrixView& view) {
  return view.dtype == kDTypeOf<T> && view.row_major();
}

/// Reads `count` elements of one row into `to`.
template <class T>
void load_row(const ProductKernels<T>& kernels, const MatrixView& view, std::int64_t row,
              std::int64_t col, std::int64_t count, T* to) {
  const auto load = kernels.load[static_cast<int>(view.dtype)];
  if (view.row_major()) {
    load(view.at(row, col), to, count);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) load(view.at(row, col + i), to + i, 1);
}

/// Writes `count` elements of one row.
template <class T>
void store_row(const ProductKernels<T>& kernels, const T* from, std::int64_t count,
               const MatrixView& view, std::int64_t row, std::int64_t col) {
  const auto store = kernels.store[static_cast<int>(view.dtype)];
  if (view.row_major()) {
    store(from, view.at(row, col), count);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) store(from + i, view.at(row, col + i), 1);
}

/// Rows of the compute type: where they start and how far apart they are.
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
};

/// The block [row, row + rows) x [col, col + cols) of `view`: in place where the kernels can read
/// it there, else converted into `scratch`.
template <class T>
Rows<T> read_block(const ProductKernels<T>& kernels, const MatrixView& view, std::int64_t row,
                   std::int64_t rows, std::int64_t col, std::int64_t cols, T* scratch) {
  if (is_plain<T>(view)) {
    return {reinterpret_cast<const T*>(view.at(row, col)), view.row_stride};
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    load_row(kernels, view, row + i, col, cols, scratch + i * cols);
  }
  return {scratch, cols};
}

}  // namespace adalora
