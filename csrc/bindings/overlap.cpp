#include "bindings/overlap.hpp"

#include <algorithm>

namespace adalora::bindings {

namespace {

/// Throws if elements of `view`, an output, share memory.
void require_separate_elements(const MatrixView& view, const Argument& argument) {
  if (view.rows == 0 || view.cols == 0) return;
  const bool rows_inside = view.row_stride < view.col_stride;
  const std::int64_t inner_count = rows_inside ? view.rows : view.cols;
  const std::int64_t inner = rows_inside ? view.row_stride : view.col_stride;
  const std::int64_t outer_count = rows_inside ? view.cols : view.rows;
  const std::int64_t outer = rows_inside ? view.col_stride : view.row_stride;
  if ((inner_count > 1 && inner == 0) ||
      (outer_count > 1 && outer < inner * (inner_count - 1) + 1)) {
    throw_value_error(argument, "a tensor whose elements do not overlap, since the op writes to it",
                      "one whose elements share memory; call contiguous() on it");
  }
}

[[noreturn]] void throw_overlap(const Argument& first, const Argument& second) {
  throw_value_error(first, "in memory of its own, since the op writes to it",
                    "memory that " + second.text() + " uses too");
}

}  // namespace

Interval memory_of(const MatrixView& view) {
  if (view.rows == 0 || view.cols == 0) return {};
  const auto begin = reinterpret_cast<std::uintptr_t>(view.data);
  const auto end = reinterpret_cast<std::uintptr_t>(view.at(view.rows - 1, view.cols - 1));
  return {begin, end + item_size(view.dtype)};
}

void Overlap::write(const MatrixView& view, const Argument& argument) {
  require_separate_elements(view, argument);
  write(memory_of(view), argument);
}

void Overlap::write(const Interval& memory, const Argument& argument) {
  if (!memory.empty()) writes_.push_back({memory, argument});
}

void Overlap::read(const Interval& memory, const Argument& argument) {
  if (!memory.empty()) reads_.push_back({memory, argument});
}

void Overlap::check() {
  std::sort(writes_.begin(), writes_.end(),
            [](const Use& a, const Use& b) { return a.memory.begin < b.memory.begin; });
  for (std::size_t i = 1; i < writes_.size(); ++i) {
    if (writes_[i].memory.begin < writes_[i - 1].memory.end) {
      throw_overlap(writes_[i].argument, writes_[i - 1].argument);
    }
  }
  for (const Use& use : reads_) {
    const auto next = std::partition_point(writes_.begin(), writes_.end(), [&](const Use& write) {
      return write.memory.end <= use.memory.begin;
    });
    if (next != writes_.end() && next->memory.begin < use.memory.end) {
      throw_overlap(next->argument, use.argument);
    }
  }
}

}  // namespace adalora::bindings
