#include "bindings/svd_linear_arguments.hpp"

#include <cmath>

namespace adalora::bindings {

namespace {

constexpr const char* kOp = kSvdLinear;

}  // namespace

Triplets read_triplets(py::handle A, py::handle E, py::handle B, Reader read,
                       std::optional<LayerSize> layer) {
  const Triplets factors{read(A, {kOp, "A"}), read(E, {kOp, "E"}), read(B, {kOp, "B"})};
  const std::int64_t rank = factors.A.rows;
  if (layer) require_shape(factors.A, {kOp, "A"}, rank, layer->in, "[r, in], in that of x,");
  require_shape(factors.E, {kOp, "E"}, rank, 1, "[r, 1], r that of A,");
  require_shape(factors.B, {kOp, "B"}, layer ? layer->out : factors.B.rows, rank,
                layer ? "[out, r], out that of base_output," : "[out, r], r that of A,");
  require_dtype(factors.E, {kOp, "E"}, factors.A.dtype, "that of A");
  require_dtype(factors.B, {kOp, "B"}, factors.A.dtype, "that of A");
  return factors;
}

MatrixView read_output(py::handle object, const Argument& argument, Reader read,
                       const MatrixView& like, const char* name, Overlap& overlap) {
  if (object.is_none()) return {};
  const MatrixView view = read(object, argument);
  require_like(view, argument, like, name);
  overlap.write(view, argument);
  return view;
}

Triplets read_outputs(py::handle grad_A, py::handle grad_E, py::handle grad_B, Reader read,
                      const Triplets& factors, Overlap& overlap) {
  constexpr const char* kName = "its factor";
  return {read_output(grad_A, {kOp, "grad_A"}, read, factors.A, kName, overlap),
          read_output(grad_E, {kOp, "grad_E"}, read, factors.E, kName, overlap),
          read_output(grad_B, {kOp, "grad_B"}, read, factors.B, kName, overlap)};
}

void add_factors(Overlap& overlap, const Triplets& factors) {
  overlap.read(factors.A, {kOp, "A"});
  overlap.read(factors.E, {kOp, "E"});
  overlap.read(factors.B, {kOp, "B"});
}

double read_scale(py::handle object) {
  const double scale = read_number(object, {kOp, "scale"});
  if (!std::isfinite(scale)) throw_value_error({kOp, "scale"}, "finite", std::to_string(scale));
  return scale;
}

double read_probability(py::handle object) {
  const double probability = read_number(object, {kOp, "dropout"});
  if (!(probability >= 0.0 && probability < 1.0)) {
    throw_value_error({kOp, "dropout"}, "in [0, 1)", std::to_string(probability));
  }
  return probability;
}

}  // namespace adalora::bindings
