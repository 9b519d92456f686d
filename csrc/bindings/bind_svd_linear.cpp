#include <cmath>

#include "adalora/svd_linear.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/tensor.hpp"

namespace adalora::bindings {

namespace {

constexpr const char* kOp = "svd_linear";

constexpr Argument argument(const char* name) { return {kOp, name}; }

Triplets read_triplets(py::handle A, py::handle E, py::handle B, std::int64_t in,
                       std::int64_t out) {
  const Triplets triplets{read_matrix(A, argument("A")), read_matrix(E, argument("E")),
                          read_matrix(B, argument("B"))};
  const std::int64_t rank = triplets.A.rows;
  require_shape(triplets.A, argument("A"), rank, in, "[r, in], in that of x,");
  require_shape(triplets.E, argument("E"), rank, 1, "[r, 1], r that of A,");
  require_shape(triplets.B, argument("B"), out, rank, "[out, r], out that of base_output,");
  require_dtype(triplets.E, argument("E"), triplets.A.dtype, "that of A");
  require_dtype(triplets.B, argument("B"), triplets.A.dtype, "that of A");
  return triplets;
}

MatrixView read_hidden(py::handle object, std::int64_t rows, const MatrixView& A) {
  const MatrixView hidden = read_rows(object, argument("hidden"));
  require_shape(hidden, argument("hidden"), rows, A.rows, "[N, r]");
  require_dtype(hidden, argument("hidden"), compute_type(A.dtype), "the compute type of A");
  if (!hidden.contiguous()) throw_value_error(argument("hidden"), "contiguous", "a strided tensor");
  return hidden;
}

double read_scale(py::handle object) {
  const double scale = read_number(object, argument("scale"));
  if (!std::isfinite(scale)) throw_value_error(argument("scale"), "finite", std::to_string(scale));
  return scale;
}

Dropout read_dropout(py::handle probability, py::handle seed) {
  const Dropout dropout{read_number(probability, argument("dropout")),
                        static_cast<std::uint64_t>(read_integer(seed, argument("seed")))};
  if (!(dropout.probability >= 0.0 && dropout.probability < 1.0)) {
    throw_value_error(argument("dropout"), "in [0, 1)", std::to_string(dropout.probability));
  }
  return dropout;
}

void read_factors(Overlap& overlap, const Triplets& triplets) {
  overlap.read(triplets.A, argument("A"));
  overlap.read(triplets.E, argument("E"));
  overlap.read(triplets.B, argument("B"));
}

bool same_memory(const MatrixView& a, const MatrixView& b) {
  return a.data == b.data && a.row_stride == b.row_stride && a.col_stride == b.col_stride &&
         a.dtype == b.dtype;
}

void forward(py::handle base_output, py::handle x, py::handle A, py::handle E, py::handle B,
             py::handle scale, py::handle dropout, py::handle seed, py::handle hidden,
             py::handle output) {
  const MatrixView base = read_rows(base_output, argument("base_output"));
  const MatrixView input = read_rows(x, argument("x"));
  require_shape(base, argument("base_output"), input.rows, base.cols,
                "[..., out] with the rows of x");
  const Triplets triplets = read_triplets(A, E, B, input.cols, base.cols);
  const MatrixView kept = read_hidden(hidden, input.rows, triplets.A);
  const MatrixView result = base_output.is(output) ? base : read_rows(output, argument("output"));
  require_shape(result, argument("output"), base.rows, base.cols, "[N, out]");
  require_dtype(result, argument("output"), base.dtype, "that of base_output");
  const double factor = read_scale(scale);
  const Dropout drop = read_dropout(dropout, seed);
  Overlap overlap;
  overlap.write(result, argument("output"));
  overlap.write(kept, argument("hidden"));
  overlap.read(input, argument("x"));
  read_factors(overlap, triplets);
  if (!same_memory(base, result)) overlap.read(base, argument("base_output"));
  overlap.check();
  const py::gil_scoped_release unlocked;
  svd_linear_forward(base, input, triplets, factor, drop, kept, result);
}

/// An output that may be None: not wanted.
MatrixView read_output(py::handle object, const Argument& argument, const MatrixView& like,
                       Overlap& overlap, bool rows) {
  if (object.is_none()) return {};
  const MatrixView view = rows ? read_rows(object, argument) : read_matrix(object, argument);
  require_shape(view, argument, like.rows, like.cols, "the shape of what it is the gradient of");
  require_dtype(view, argument, like.dtype, "that of what it is the gradient of");
  overlap.write(view, argument);
  return view;
}

void backward(py::handle grad, py::handle x, py::handle hidden, py::handle A, py::handle E,
              py::handle B, py::handle scale, py::handle dropout, py::handle seed,
              py::handle grad_x, py::handle grad_A, py::handle grad_E, py::handle grad_B,
              py::handle accumulate_x) {
  const MatrixView upstream = read_rows(grad, argument("grad"));
  const MatrixView input = read_rows(x, argument("x"));
  require_shape(upstream, argument("grad"), input.rows, upstream.cols,
                "[..., out] with the rows of x");
  const Triplets triplets = read_triplets(A, E, B, input.cols, upstream.cols);
  const MatrixView kept = read_hidden(hidden, input.rows, triplets.A);
  const double factor = read_scale(scale);
  const Dropout drop = read_dropout(dropout, seed);
  Overlap overlap;
  SvdLinearGradients gradients;
  gradients.x = read_output(grad_x, argument("grad_x"), input, overlap, true);
  gradients.triplets = {read_output(grad_A, argument("grad_A"), triplets.A, overlap, false),
                        read_output(grad_E, argument("grad_E"), triplets.E, overlap, false),
                        read_output(grad_B, argument("grad_B"), triplets.B, overlap, false)};
  gradients.accumulate_x = read_flag(accumulate_x, argument("accumulate_x"));
  overlap.read(upstream, argument("grad"));
  overlap.read(input, argument("x"));
  overlap.read(kept, argument("hidden"));
  read_factors(overlap, triplets);
  overlap.check();
  const py::gil_scoped_release unlocked;
  svd_linear_backward(upstream, input, kept, triplets, factor, drop, gradients);
}

}  // namespace

void bind_svd_linear(py::module_& module) {
  define<&forward>(module, "svd_linear_forward", "Write hidden and output.");
  define<&backward>(module, "svd_linear_backward", "Write the gradients that are not None.");
}

}  // namespace adalora::bindings
