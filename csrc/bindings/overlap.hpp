#pragma once

#include <cstdint>
#include <vector>

#include "bindings/tensor.hpp"

namespace adalora::bindings {

/// Memory from `begin` up to `end`, as addresses; empty for a view without elements.
struct Interval {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  bool empty() const { return begin == end; }
};

Interval memory_of(const MatrixView& view);

/// Finds arguments that share memory: an output must not overlap any other argument.
class Overlap {
 public:
  /// An output, whose elements must not share memory either.
  void write(const MatrixView& view, const Argument& argument);
  void write(const Interval& memory, const Argument& argument);
  void read(const MatrixView& view, const Argument& argument) { read(memory_of(view), argument); }
  void read(const Interval& memory, const Argument& argument);

  /// Throws if an output overlaps another argument.
  void check();

 private:
  struct Use {
    Interval memory;
    Argument argument;
  };

  std::vector<Use> writes_;
  std::vector<Use> reads_;
};

}  // namespace adalora::bindings
