#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/svd_linear_arguments.hpp"

namespace adalora::bindings {

namespace {

MatrixView read_hidden(py::handle object, std::int64_t rows, const MatrixView& A) {
  const Argument argument{kSvdLinear, "hidden"};
  const MatrixView hidden = read_rows(object, argument);
  require_shape(hidden, argument, rows, A.rows, "[N, r]");
  require_dtype(hidden, argument, compute_type(A.dtype), "the compute type of A");
  require_contiguous(hidden, argument);
  return hidden;
}

Dropout read_dropout(py::handle probability, py::handle seed) {
  return {read_probability(probability),
          static_cast<std::uint64_t>(read_integer(seed, {kSvdLinear, "seed"}))};
}

bool same_memory(const MatrixView& a, const MatrixView& b) {
  return a.data == b.data && a.row_stride == b.row_stride && a.col_stride == b.col_stride &&
         a.dtype == b.dtype;
}

void forward(py::handle base_output, py::handle x, py::handle A, py::handle E, py::handle B,
             py::handle scale, py::handle dropout, py::handle seed, py::handle hidden,
             py::handle output) {
  const MatrixView base = read_rows(base_output, {kSvdLinear, "base_output"});
  const MatrixView input = read_rows(x, {kSvdLinear, "x"});
  require_shape(base, {kSvdLinear, "base_output"}, input.rows, base.cols,
                "[..., out] with the rows of x");
  const Triplets factors = read_triplets(A, E, B, read_matrix, LayerSize{input.cols, base.cols});
  const MatrixView kept = read_hidden(hidden, input.rows, factors.A);
  const MatrixView result =
      base_output.is(output) ? base : read_rows(output, {kSvdLinear, "output"});
  require_shape(result, {kSvdLinear, "output"}, base.rows, base.cols, "[N, out]");
  require_dtype(result, {kSvdLinear, "output"}, base.dtype, "that of base_output");
  const double factor = read_scale(scale);
  const Dropout drop = read_dropout(dropout, seed);
  Overlap overlap;
  overlap.write(result, {kSvdLinear, "output"});
  overlap.write(kept, {kSvdLinear, "hidden"});
  overlap.read(input, {kSvdLinear, "x"});
  add_factors(overlap, factors);
  if (!same_memory(base, result)) overlap.read(base, {kSvdLinear, "base_output"});
  overlap.check();
  const py::gil_scoped_release unlocked;
  svd_linear_forward(base, input, factors, factor, drop, kept, result);
}

void backward(py::handle grad, py::handle x, py::handle hidden, py::handle A, py::handle E,
              py::handle B, py::handle scale, py::handle dropout, py::handle seed,
              py::handle grad_x, py::handle grad_A, py::handle grad_E, py::handle grad_B,
              py::handle accumulate_x) {
  const MatrixView upstream = read_rows(grad, {kSvdLinear, "grad"});
  const MatrixView input = read_rows(x, {kSvdLinear, "x"});
  require_shape(upstream, {kSvdLinear, "grad"}, input.rows, upstream.cols,
                "[..., out] with the rows of x");
  const Triplets factors =
      read_triplets(A, E, B, read_matrix, LayerSize{input.cols, upstream.cols});
  const MatrixView kept = read_hidden(hidden, input.rows, factors.A);
  const double factor = read_scale(scale);
  const Dropout drop = read_dropout(dropout, seed);
  Overlap overlap;
  const SvdLinearGradients gradients{
      read_output(grad_x, {kSvdLinear, "grad_x"}, read_rows, input, "x", overlap),
      read_outputs(grad_A, grad_E, grad_B, read_matrix, factors, overlap),
      read_flag(accumulate_x, {kSvdLinear, "accumulate_x"})};
  overlap.read(upstream, {kSvdLinear, "grad"});
  overlap.read(input, {kSvdLinear, "x"});
  overlap.read(kept, {kSvdLinear, "hidden"});
  add_factors(overlap, factors);
  overlap.check();
  const py::gil_scoped_release unlocked;
  svd_linear_backward(upstream, input, kept, factors, factor, drop, gradients);
}

}  // namespace

void bind_svd_linear(py::module_& module) {
  define<&forward>(module, "svd_linear_forward", "Write hidden and output.");
  define<&backward>(module, "svd_linear_backward", "Write the gradients that are not None.");
}

}  // namespace adalora::bindings
