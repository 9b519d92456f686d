#pragma once
/// One side of an adapter: the long matrices of x with A, or those of the output with B.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "adalora/arithmetic/dropout.hpp"
#include "adalora/svd_linear.hpp"
#include "cpu/kernels.hpp"
#include "cpu/scratch.hpp"

namespace adalora {

/// Rows per task: few enough to stay in the first caches between the two products. All tasks are
/// cut by shape alone.
inline constexpr std::int64_t kTaskRows = 16;

/// Columns per task of the sums over rows.
inline constexpr std::int64_t kTaskCols = 128;

/// Dropout as a mask; a sum of masked values must be multiplied by `kept_factor`.
class Drop {
 public:
  explicit Drop(const Dropout& dropout)
      : active_(dropout.active()),
        seed_(dropout.seed),
        threshold_(drop_threshold(dropout.probability)),
        kept_factor_(1.0 / (1.0 - dropout.probability)) {}

  bool active() const { return active_; }
  double kept_factor() const { return kept_factor_; }

  /// Sets the dropped entries among [col, col + count) of row `row` of x to zero.
  template <class T>
  void apply(const ProductKernels<T>& product, DType dtype, void* values, std::int64_t row,
             std::int64_t col, std::int64_t count) const {
    product.mask[static_cast<int>(dtype)](values, count,
                                          drop_row_key(seed_, static_cast<std::uint64_t>(row)),
                                          static_cast<std::uint32_t>(col), threshold_);
  }

 private:
  bool active_;
  std::uint64_t seed_;
  std::uint32_t threshold_;
  double kept_factor_;
};

/// The access to a long matrix: in place by the kernels of its dtype, with the factor as rows of T;
/// in place by the dot products of bfloat16; or through blocks of T.
enum class Access : std::uint8_t { kInPlace, kDot, kBlocks };

/// The factor in the form that the kernels take: W [r, k] is A, or B transposed.
template <class T>
class AdapterSide {
 public:
  struct Use {
    bool projects;
    bool expands;
    bool plain;  ///< all long matrices of the side have contiguous rows
  };

  AdapterSide(const KernelTable& table, const MatrixView& factor, bool transposed, DType dtype,
              const Use& use)
      : product_(product_kernels<T>(table)),
        rank_(transposed ? factor.cols : factor.rows),
        length_(transposed ? factor.rows : factor.cols),
        access_(choose(table, factor, dtype, use)),
        dtype_(access_ == Access::kBlocks ? kDTypeOf<T> : dtype),
        kernels_(access_ == Access::kBlocks ? &product_ : &product_.of[static_cast<int>(dtype)]) {
    if (access_ == Access::kDot) {
      if constexpr (sizeof(T) == sizeof(float))
        prepare_pairs(table.dot_bfloat16, factor, transposed, use);
    } else if (use.projects || use.expands) {
      prepare_rows(factor, transposed);
    }
  }

  /// H[rows, r] = mask(X[row...]) W^T
  void project(const MatrixView& X, const Drop* drop, std::int64_t row, std::int64_t rows,
               T* H) const {
    std::fill_n(H, rows * rank_, T{0});
    if (access_ != Access::kBlocks && drop == nullptr) {
      kernels_->project(X.at(row, 0), X.row_stride, rows_of_w_, stride_, H, rank_, rows, X.cols,
                        rank_);
      return;
    }
    alignas(64) char block[kTaskRows * kBlockCols * sizeof(T)];
    for (std::int64_t col = 0; col < X.cols; col += kBlockCols) {
      const std::int64_t cols = std::min(kBlockCols, X.cols - col);
      fetch(X, drop, row, rows, col, cols, block);
      kernels_->project(block, cols, offset(rows_of_w_, col), stride_, H, rank_, rows, cols, rank_);
    }
  }

  /// Y[row...] = base[row...] + mask(H W); without the base if it is absent.
  void expand(const T* H, const MatrixView& base, const Drop* drop, std::int64_t row,
              std::int64_t rows, const MatrixView& Y) const {
    if (access_ != Access::kBlocks && (drop == nullptr || !base.present())) {
      kernels_->expand(H, rank_, expanding_w_, expanding_stride_,
                       base.present() ? base.at(row, 0) : nullptr, base.row_stride, Y.at(row, 0),
                       Y.row_stride, rows, Y.cols, rank_);
      for (std::int64_t i = 0; drop != nullptr && i < rows; ++i) {
        drop->apply(product_, dtype_, Y.at(row + i, 0), row + i, 0, Y.cols);
      }
      return;
    }
    T block[kTaskRows * kBlockCols];
    T addend[kBlockCols];
    for (std::int64_t col = 0; col < Y.cols; col += kBlockCols) {
      const std::int64_t cols = std::min(kBlockCols, Y.cols - col);
      product_.expand(H, rank_, static_cast<const T*>(expanding_w_) + col, expanding_stride_,
                      nullptr, 0, block, cols, rows, cols, rank_);
      for (std::int64_t i = 0; i < rows; ++i) {
        T* const values = block + i * cols;
        if (drop != nullptr) drop->apply(product_, kDTypeOf<T>, values, row + i, col, cols);
        if (base.present()) {
          load_row(product_, base, row + i, col, cols, addend);
          for (std::int64_t j = 0; j < cols; ++j) values[j] += addend[j];
        }
        store_row(product_, values, cols, Y, row + i, col);
      }
    }
  }

  /// G[r, cols] += H^T mask(X)[row..., col...], where H starts at `row`.
  void correlate(const T* H, const MatrixView& X, const Drop* drop, std::int64_t row,
                 std::int64_t rows, std::int64_t col, std::int64_t cols, T* G) const {
    if (rows == 0) return;
    if (access_ != Access::kBlocks && drop == nullptr) {
      kernels_->correlate(H, rank_, X.at(row, col), X.row_stride, G, cols, rows, cols, rank_);
      return;
    }
    constexpr std::int64_t kRows = 32;
    alignas(64) char block[kRows * kTaskCols * sizeof(T)];
    for (std::int64_t i = 0; i < rows; i += kRows) {
      const std::int64_t count = std::min(kRows, rows - i);
      fetch(X, drop, row + i, count, col, cols, block);
      kernels_->correlate(H + i * rank_, rank_, block, cols, G, cols, count, cols, rank_);
    }
  }

 private:
  static constexpr std::int64_t kBlockCols = 512;

  Access choose(const KernelTable& table, const MatrixView& factor, DType dtype,
                const Use& use) const {
    if (!use.plain) return Access::kBlocks;
    const bool bfloat16 = dtype == DType::kBFloat16 && factor.dtype == DType::kBFloat16;
    if (bfloat16 && table.dot_bfloat16.project != nullptr && factor.row_major() &&
        rank_ <= kMostDotRanks) {
      return Access::kDot;
    }
    return product_.of[static_cast<int>(dtype)].project != nullptr ? Access::kInPlace
                                                                   : Access::kBlocks;
  }

  /// Rows this far apart compete for the same few sets of the first cache.
  static bool collides(std::int64_t stride) {
    return stride * static_cast<std::int64_t>(sizeof(T)) % 2048 == 0;
  }

  /// An odd number of cache lines, in elements of any type.
  static std::int64_t padded(std::int64_t length) { return (length + 31) / 64 * 64 + 32; }

  void prepare_rows(const MatrixView& factor, bool transposed) {
    stride_ = padded(length_);
    if (!transposed && is_plain<T>(factor) && !collides(factor.row_stride)) {
      rows_of_w_ = factor.data;
      stride_ = factor.row_stride;
    } else if (!transposed) {
      scratch_ = Scratch<T>(rank_ * stride_);
      for (std::int64_t j = 0; j < rank_; ++j) {
        load_row(product_, factor, j, 0, length_, scratch_.data() + j * stride_);
      }
      rows_of_w_ = scratch_.data();
    } else {
      scratch_ = Scratch<T>(rank_ * stride_);
      constexpr std::int64_t kRows = 64;
      const Scratch<T> block(is_plain<T>(factor) ? 0 : kRows * rank_);
      for (std::int64_t row = 0; row < length_; row += kRows) {
        const std::int64_t count = std::min(kRows, length_ - row);
        const Rows<T> rows = read_block(product_, factor, row, count, 0, rank_, block.data());
        product_.transpose(rows.data, rows.stride, scratch_.data() + row, stride_, count, rank_);
      }
      rows_of_w_ = scratch_.data();
    }
    expanding_w_ = rows_of_w_;
    expanding_stride_ = stride_;
  }

  void prepare_pairs(const DotKernels& dot, const MatrixView& factor, bool transposed,
                     const Use& use) {
    kernels_ = &dot;
    const auto* rows = reinterpret_cast<const BFloat16*>(factor.data);
    stride_ = factor.row_stride;
    if (transposed) {
      if (!use.projects && !use.expands) return;
      stride_ = padded(length_);
      dot_rows_ = Scratch<BFloat16>(rank_ * stride_);
      dot.transpose(rows, factor.row_stride, dot_rows_.data(), stride_, length_, rank_);
      rows = dot_rows_.data();
    }
    rows_of_w_ = rows;
    if (use.expands) {
      expanding_stride_ = padded(length_);
      dot_pairs_ = Scratch<BFloat16Pair>((rank_ + 1) / 2 * expanding_stride_);
      dot.pair_rows(rows, stride_, dot_pairs_.data(), expanding_stride_, rank_, length_);
      expanding_w_ = dot_pairs_.data();
    }
  }

  /// Reads a block, as the kernels of this side read it, and masks it.
  void fetch(const MatrixView& X, const Drop* drop, std::int64_t row, std::int64_t rows,
             std::int64_t col, std::int64_t cols, char* block) const {
    const auto size = static_cast<std::size_t>(cols) * item_size(dtype_);
    for (std::int64_t i = 0; i < rows; ++i) {
      char* const to = block + static_cast<std::size_t>(i) * size;
      if (access_ == Access::kBlocks) {
        load_row(product_, X, row + i, col, cols, reinterpret_cast<T*>(to));
      } else {
        std::memcpy(to, X.at(row + i, col), size);
      }
      if (drop != nullptr) drop->apply(product_, dtype_, to, row + i, col, cols);
    }
  }

  const void* offset(const void* rows, std::int64_t col) const {
    const std::size_t size = access_ == Access::kDot ? sizeof(BFloat16) : sizeof(T);
    return static_cast<const char*>(rows) + static_cast<std::size_t>(col) * size;
  }

  const ProductKernels<T>& product_;
  std::int64_t rank_;
  std::int64_t length_;
  Access access_;
  DType dtype_;  ///< of what the kernels read
  const SkinnyKernels<T>* kernels_;
  const void* rows_of_w_ = nullptr;  ///< of T, or of bfloat16 for the dot products
  std::int64_t stride_ = 0;
  const void* expanding_w_ = nullptr;  ///< the same, or pairs of ranks for the dot products
  std::int64_t expanding_stride_ = 0;
  Scratch<T> scratch_{0};
  Scratch<BFloat16> dot_rows_{0};
  Scratch<BFloat16Pair> dot_pairs_{0};
};

}  // namespace adalora
