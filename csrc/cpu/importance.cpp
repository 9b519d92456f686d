#include "adalora/importance.hpp"

#include <algorithm>
#include <vector>

#include "adalora/parallel.hpp"
#include "cpu/kernels.hpp"
#include "cpu/scratch.hpp"

namespace adalora {

namespace {

/// The means that the triplet scores need: over the rows of a parameter (A; E has rows of one
/// entry) or over its columns (B).
enum class Means { kOfRows, kOfColumns };

/// Entries per piece of work: 1 MB of traffic, so that a piece is worth a call and pieces balance.
constexpr std::int64_t kPieceEntries = std::int64_t{1} << 15;

/// Below this many entries the threads cost more than they save (bench_importance.py).
constexpr std::int64_t kSerialEntries = std::int64_t{1} << 15;

/// Rows [begin, end) of one parameter. Pieces are cut by shape alone, never by the thread count.
struct Piece {
  std::size_t entry;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t sums;  ///< where its means' sums start
};

/// One piece: blocks of whole rows, or of a part of one row if rows are long.
template <class P, class T>
class PieceUpdate {
 public:
  PieceUpdate(const ImportanceEntry& entry, Means means, const Smoothing<T>& smoothing,
              const ImportanceKernels<P, T>& importance)
      : entry_(entry),
        means_(means),
        smoothing_(smoothing),
        importance_(importance),
        product_(product_kernels<T>(kernels())),
        reduction_(reduction_kernels<T>(kernels())),
        contiguous_(entry.parameter.contiguous() && entry.smoothed.contiguous() &&
                    entry.uncertainty.contiguous() &&
                    (!entry.gradient.present() || entry.gradient.contiguous())) {}

  /// `sums` is null if no scores are wanted; else row sums go to sums[0..] for the piece's rows, or
  /// column sums to sums[0..cols).
  std::int64_t run(std::int64_t begin, std::int64_t end, double* sums) const {
    const std::int64_t cols = entry_.parameter.cols;
    if (sums == nullptr && contiguous_) return update(begin, 0, (end - begin) * cols, nullptr);
    const std::int64_t block_cols = std::min(cols, kScoreBlock);
    const std::int64_t block_rows = contiguous_ && block_cols == cols ? kScoreBlock / cols : 1;
    std::int64_t skipped = 0;
    for (std::int64_t row = begin; row < end; row += block_rows) {
      const std::int64_t rows = std::min(block_rows, end - row);
      for (std::int64_t col = 0; col < cols; col += block_cols) {
        const std::int64_t width = std::min(block_cols, cols - col);
        T scores[kScoreBlock];
        skipped += contiguous_ ? update(row, col, rows * width, scores)
                               : update_strided(row, col, width, scores);
        if (sums != nullptr) add(scores, rows, width, sums, row - begin, col);
      }
    }
    return skipped;
  }

 private:
  std::int64_t update(std::int64_t row, std::int64_t col, std::int64_t count, T* scores) const {
    const MatrixView& gradient = entry_.gradient;
    return importance_.span(
        reinterpret_cast<const P*>(entry_.parameter.at(row, col)),
        gradient.present() ? reinterpret_cast<const P*>(gradient.at(row, col)) : nullptr,
        reinterpret_cast<T*>(entry_.smoothed.at(row, col)),
        reinterpret_cast<T*>(entry_.uncertainty.at(row, col)), count, smoothing_, scores);
  }

  /// Strided tensors pass through contiguous blocks of the compute type.
  std::int64_t update_strided(std::int64_t row, std::int64_t col, std::int64_t width,
                              T* scores) const {
    T p[kScoreBlock], g[kScoreBlock], smoothed[kScoreBlock], uncertainty[kScoreBlock];
    const bool observed = entry_.gradient.present();
    load_row(product_, entry_.parameter, row, col, width, p);
    if (observed) load_row(product_, entry_.gradient, row, col, width, g);
    load_row(product_, entry_.smoothed, row, col, width, smoothed);
    load_row(product_, entry_.uncertainty, row, col, width, uncertainty);
    const std::int64_t skipped = same_type().span(p, observed ? g : nullptr, smoothed, uncertainty,
                                                  width, smoothing_, scores);
    if (observed) {
      store_row(product_, smoothed, width, entry_.smoothed, row, col);
      store_row(product_, uncertainty, width, entry_.uncertainty, row, col);
    }
    return skipped;
  }

  static const ImportanceKernels<T, T>& same_type() {
    if constexpr (sizeof(T) == sizeof(float)) {
      return kernels().importance_float32;
    } else {
      return kernels().importance_float64;
    }
  }

  void add(const T* scores, std::int64_t rows, std::int64_t width, double* sums, std::int64_t row,
           std::int64_t col) const {
    if (width == 1) {  // E: a row is an entry
      for (std::int64_t i = 0; i < rows; ++i) {
        sums[(means_ == Means::kOfRows ? row + i : col)] += scores[i];
      }
      return;
    }
    if (means_ == Means::kOfRows) {
      for (std::int64_t i = 0; i < rows; ++i) {
        sums[row + i] += reduction_.sum(scores + i * width, width);
      }
      return;
    }
    T block_sums[kScoreBlock] = {};
    reduction_.add_rows(scores, rows, width, block_sums);
    for (std::int64_t j = 0; j < width; ++j) sums[col + j] += block_sums[j];
  }

  const ImportanceEntry& entry_;
  Means means_;
  const Smoothing<T>& smoothing_;
  const ImportanceKernels<P, T>& importance_;
  const ProductKernels<T>& product_;
  const ReductionKernels<T>& reduction_;
  bool contiguous_;
};

class Pass {
 public:
  Pass(std::span<const ImportanceEntry> entries, double beta1, double beta2,
       const MatrixView& scores)
      : entries_(entries),
        scores_(scores),
        single_(smoothing_of<float>(beta1, beta2)),
        double_(smoothing_of<double>(beta1, beta2)) {
    cut();
  }

  std::int64_t run() {
    std::vector<std::int64_t> skipped(groups_.size() - 1);
    parallel_for(static_cast<std::int64_t>(skipped.size()), total_ > kSerialEntries,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t group = begin; group < end; ++group) {
                     for (std::size_t i = groups_[group]; i < groups_[group + 1]; ++i) {
                       skipped[group] += run_piece(pieces_[i]);
                     }
                   }
                 });
    if (scores_.present()) write_scores();
    std::int64_t total = 0;
    for (const std::int64_t count : skipped) total += count;
    return total;
  }

 private:
  static Means means_of(std::size_t entry) {
    return entry % kFactors == 2 ? Means::kOfColumns : Means::kOfRows;
  }

  /// Cuts the parameters into pieces and groups small pieces, so that a group is worth a task.
  void cut() {
    std::int64_t sums = 0;
    std::int64_t in_group = kPieceEntries;
    first_piece_.reserve(entries_.size() + 1);
    for (std::size_t entry = 0; entry < entries_.size(); ++entry) {
      first_piece_.push_back(pieces_.size());
      const MatrixView& p = entries_[entry].parameter;
      const bool idle = !entries_[entry].gradient.present() && !scores_.present();
      if (p.rows == 0 || p.cols == 0 || idle) continue;
      const std::int64_t step = std::max<std::int64_t>(1, kPieceEntries / p.cols);
      for (std::int64_t row = 0; row < p.rows; row += step) {
        const std::int64_t end = std::min(p.rows, row + step);
        if (in_group >= kPieceEntries) {
          groups_.push_back(pieces_.size());
          in_group = 0;
        }
        pieces_.push_back({entry, row, end, sums});
        sums += means_of(entry) == Means::kOfRows ? end - row : p.cols;
        in_group += (end - row) * p.cols;
        total_ += (end - row) * p.cols;
      }
    }
    first_piece_.push_back(pieces_.size());
    groups_.push_back(pieces_.size());
    if (scores_.present()) sums_.resize(static_cast<std::size_t>(sums));
  }

  std::int64_t run_piece(const Piece& piece) {
    const ImportanceEntry& entry = entries_[piece.entry];
    double* sums = scores_.present() ? sums_.data() + piece.sums : nullptr;
    const KernelTable& table = kernels();
    const auto run = [&](const auto& importance, const auto& smoothing) {
      return PieceUpdate(entry, means_of(piece.entry), smoothing, importance)
          .run(piece.begin, piece.end, sums);
    };
    switch (entry.parameter.dtype) {
      case DType::kFloat32:
        return run(table.importance_float32, single_);
      case DType::kFloat64:
        return run(table.importance_float64, double_);
      case DType::kBFloat16:
        return run(table.importance_bfloat16, single_);
      case DType::kFloat16:
        return run(table.importance_float16, single_);
    }
    return 0;
  }

  /// Means of the rows (or columns) of one parameter, into `means`, one per triplet.
  void write_means(std::size_t entry, std::vector<double>& means) const {
    const MatrixView& p = entries_[entry].parameter;
    const bool of_rows = means_of(entry) == Means::kOfRows;
    means.assign(static_cast<std::size_t>(of_rows ? p.rows : p.cols), 0.0);
    for (std::size_t i = first_piece_[entry]; i < first_piece_[entry + 1]; ++i) {
      const Piece& piece = pieces_[i];
      const std::int64_t count = of_rows ? piece.end - piece.begin : p.cols;
      double* target = means.data() + (of_rows ? piece.begin : 0);
      for (std::int64_t j = 0; j < count; ++j) target[j] += sums_[piece.sums + j];
    }
    const std::int64_t averaged = of_rows ? p.cols : p.rows;
    for (double& mean : means) mean = mean_of(mean, averaged);
  }

  void write_scores() {
    std::vector<double> a, e, b;
    std::int64_t position = 0;
    for (std::size_t entry = 0; entry + 2 < entries_.size(); entry += kFactors) {
      write_means(entry, a);
      write_means(entry + 1, e);
      write_means(entry + 2, b);
      for (std::size_t t = 0; t < e.size(); ++t, ++position) {
        char* target = scores_.at(position, 0);
        if (scores_.dtype == DType::kFloat64) {
          *reinterpret_cast<double*>(target) = triplet_score<double>(e[t], a[t], b[t]);
        } else {
          *reinterpret_cast<float*>(target) = triplet_score<float>(e[t], a[t], b[t]);
        }
      }
    }
  }

  std::span<const ImportanceEntry> entries_;
  const MatrixView& scores_;
  Smoothing<float> single_;
  Smoothing<double> double_;
  std::vector<Piece> pieces_;
  std::vector<std::size_t> first_piece_;  ///< of each entry, and one past the last
  std::vector<std::size_t> groups_;       ///< first piece of each group, and one past the last
  std::vector<double> sums_;
  std::int64_t total_ = 0;
};

}  // namespace

std::int64_t update_importance(std::span<const ImportanceEntry> entries, double beta1, double beta2,
                               const MatrixView& scores) {
  return Pass(entries, beta1, beta2, scores).run();
}

}  // namespace adalora
