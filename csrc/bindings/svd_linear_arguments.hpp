#pragma once
/// The arguments of svd_linear, checked; shared by CPU and CUDA.

#include <optional>

#include "adalora/svd_linear.hpp"
#include "bindings/overlap.hpp"

namespace adalora::bindings {

inline constexpr const char* kSvdLinear = "svd_linear";

/// One of the functions of tensor.hpp that read a matrix.
using Reader = MatrixView (*)(py::handle object, const Argument& argument);

/// Columns of x and of the base layer's output.
struct LayerSize {
  std::int64_t in;
  std::int64_t out;
};

/// The factors, compared with each other and with the layer where its size is known.
Triplets read_triplets(py::handle A, py::handle E, py::handle B, Reader read,
                       std::optional<LayerSize> layer = {});

/// The output for the gradient of `like`, which messages call `name`; absent for None.
MatrixView read_output(py::handle object, const Argument& argument, Reader read,
                       const MatrixView& like, const char* name, Overlap& overlap);

/// The outputs for the gradients of the factors; absent for None.
Triplets read_outputs(py::handle grad_A, py::handle grad_E, py::handle grad_B, Reader read,
                      const Triplets& factors, Overlap& overlap);

/// Adds the factors to the memory that the op reads.
void add_factors(Overlap& overlap, const Triplets& factors);

/// A finite number.
double read_scale(py::handle object);

/// The probability of dropout, in [0, 1).
double read_probability(py::handle object);

}  // namespace adalora::bindings
