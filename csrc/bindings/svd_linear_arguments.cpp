#include "bindings/svd_linear_arguments.hpp"

#include <cmath>

namespace adalora::bindings {

namespace {}  // namespace

Triplets read_triplets(py::handle A, py::handle E, py::handle B, Reader read,
                       std::optional<LayerSize> layer) {
  const Triplets factors{read(A, {kSvdLinear, "A"}), read(E, {kSvdLinear, "E"}),
                         read(B, {kSvdLinear, "B"})};
  const std::int64_t rank = factors.A.rows;
  if (layer) require_shape(factors.A, {kSvdLinear, "A"}, rank, layer->in, "[r, in], in that of x,");
  require_shape(factors.E, {kSvdLinear, "E"}, rank, 1, "[r, 1], r that of A,");
  require_shape(factors.B, {kSvdLinear, "B"}, layer ? layer->out : factors.B.rows, rank,
                layer ? "[out, r], out that of base_output," : "[out, r], r that of A,");
  require_dtype(factors.E, {kSvdLinear, "E"}, factors.A.dtype, "that of A");
  require_dtype(factors.B, {kSvdLinear, "B"}, factors.A.dtype, "that of A");
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
  return {read_output(grad_A, {kSvdLinear, "grad_A"}, read, factors.A, kName, overlap),
          read_output(grad_E, {kSvdLinear, "grad_E"}, read, factors.E, kName, overlap),
          read_output(grad_B, {kSvdLinear, "grad_B"}, read, factors.B, kName, overlap)};
}

void add_factors(Overlap& overlap, const Triplets& factors) {
  overlap.read(factors.A, {kSvdLinear, "A"});
  overlap.read(factors.E, {kSvdLinear, "E"});
  overlap.read(factors.B, {kSvdLinear, "B"});
}

double read_scale(py::handle object) {
  const double scale = read_number(object, {kSvdLinear, "scale"});
  if (!std::isfinite(scale))
    throw_value_error({kSvdLinear, "scale"}, "finite", std::to_string(scale));
  return scale;
}

double read_probability(py::handle object) {
  const double probability = read_number(object, {kSvdLinear, "dropout"});
  if (!(probability >= 0.0 && probability < 1.0)) {
    throw_value_error({kSvdLinear, "dropout"}, "in [0, 1)", std::to_string(probability));
  }
  return probability;
}

}  // namespace adalora::bindings
