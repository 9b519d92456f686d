#include "count_ops.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <functional>
#include <iostream>

#include "cuda/cuda_test.hpp"
#include "cuda/importance.hpp"
#include "cuda/orthogonality.hpp"
#include "cuda/selection.hpp"
#include "cuda/svd_linear.hpp"
#include "runtime.hpp"

namespace ptx {

namespace {

using adalora::DType;
using adalora::MatrixView;
using cuda_test::Memory;
using cuda_test::Shape;

constexpr std::int64_t kRank = 12;

/// A model whose linear layers are adapted, in float32 or bfloat16.
struct Model {
  std::string name;
  DType dtype;
  int layers;
  std::vector<Shape> of_layer;  // its adapted matrices
  std::int64_t tokens;          // of a batch
};

const Model kModels[] = {{"MiniLM",
                          DType::kFloat32,
                          6,
                          {{384, kRank, 384},
                           {384, kRank, 384},
                           {384, kRank, 384},
                           {384, kRank, 384},
                           {384, kRank, 1536},
                           {1536, kRank, 384}},
                          1024},
                         {"7B",
                          DType::kBFloat16,
                          32,
                          {{4096, kRank, 4096},
                           {4096, kRank, 4096},
                           {4096, kRank, 4096},
                           {4096, kRank, 4096},
                           {4096, kRank, 11008},
                           {4096, kRank, 11008},
                           {11008, kRank, 4096}},
                          2048}};

/// Tensors on the device that live as long as an op runs.
class Tensors {
 public:
  MatrixView add(std::int64_t rows, std::int64_t cols, DType dtype) {
    const std::vector<char> bytes(static_cast<std::size_t>(rows * cols) * item_size(dtype));
    memory_.push_back(std::make_unique<Memory>(bytes.size()));
    memory_.back()->write(bytes.data());
    return {memory_.back()->as(), rows, cols, cols, 1, dtype};
  }

  MatrixView add_scores(std::int64_t count) {
    core_test::Matrix host(count, 1, DType::kFloat32);
    host.randomize();
    const MatrixView view = add(count, 1, DType::kFloat32);
    memory_.back()->write(host.view().data);
    return view;
  }

 private:
  std::vector<std::unique_ptr<Memory>> memory_;
};

std::int64_t bytes_of(const MatrixView& view) {
  return view.rows * view.cols * static_cast<std::int64_t>(item_size(view.dtype));
}

std::vector<adalora::Triplets> triplets_of(const Model& model, int layers, Tensors& tensors) {
  std::vector<adalora::Triplets> result;
  for (int i = 0; i < layers; ++i) {
    for (const Shape& shape : model.of_layer) {
      result.push_back({tensors.add(shape.rank, shape.in, model.dtype),
                        tensors.add(shape.rank, 1, model.dtype),
                        tensors.add(shape.out, shape.rank, model.dtype)});
    }
  }
  return result;
}

/// Each op returns the bytes that it has to move: every input read once, every output written once.
using Op = std::function<std::int64_t(const Model&, Tensors&)>;

std::int64_t update(const Model& model, Tensors& tensors, bool scored) {
  std::vector<adalora::ImportanceEntry> entries;
  std::int64_t bytes = 0, triplets = 0;
  const DType compute = compute_type(model.dtype);
  for (const adalora::Triplets& matrix : triplets_of(model, model.layers, tensors)) {
    for (const MatrixView& p : {matrix.A, matrix.E, matrix.B}) {
      entries.push_back({p, tensors.add(p.rows, p.cols, p.dtype),
                         tensors.add(p.rows, p.cols, compute),
                         tensors.add(p.rows, p.cols, compute)});
      bytes += 2 * bytes_of(p) + 4 * bytes_of(entries.back().smoothed);
    }
    triplets += matrix.E.rows;
  }
  const MatrixView scores = scored ? tensors.add(triplets, 1, compute) : MatrixView{};
  const std::int64_t room = scored ? adalora::cuda::score_room(entries) : 0;
  const adalora::cuda::ImportanceOutputs outputs{
      scores, static_cast<double*>(tensors.add(room, 1, DType::kFloat64).data),
      static_cast<std::int64_t*>(tensors.add(1, 1, DType::kFloat64).data)};
  adalora::cuda::update_importance(entries, 0.85, 0.85, outputs, cuda_test::stream());
  return bytes + (scored ? bytes_of(scores) : 0);
}

std::int64_t select(const Model& model, Tensors& tensors) {
  std::vector<MatrixView> values;
  for (int i = 0; i < model.layers; ++i) {
    for (const Shape& shape : model.of_layer) {
      values.push_back(tensors.add(shape.rank, 1, model.dtype));
    }
  }
  const auto count = static_cast<std::int64_t>(values.size()) * kRank;
  const MatrixView mask = tensors.add(count, 1, DType::kFloat16);
  adalora::cuda::select_triplets(tensors.add_scores(count), 2 * count / 3,
                                 static_cast<std::uint8_t*>(mask.data), values,
                                 cuda_test::stream());
  return count * 5 + count / 3 * static_cast<std::int64_t>(item_size(model.dtype));
}

std::int64_t penalize(const Model& model, Tensors& tensors, bool backward) {
  std::vector<adalora::Factor> factors;
  std::vector<MatrixView> gradients;
  std::int64_t bytes = 0;
  for (const adalora::Triplets& matrix : triplets_of(model, model.layers, tensors)) {
    factors.push_back({matrix.A, true});
    factors.push_back({matrix.B, false});
  }
  for (const adalora::Factor& factor : factors) {
    if (backward)
      gradients.push_back(tensors.add(factor.matrix.rows, factor.matrix.cols, model.dtype));
    bytes += bytes_of(factor.matrix) * (backward ? 2 : 1);
  }
  const DType compute = compute_type(model.dtype);
  const auto count = static_cast<std::int64_t>(factors.size());
  void* const grams = tensors.add(count * kRank, kRank, compute).data;
  auto* const norms = static_cast<double*>(tensors.add(count, 1, DType::kFloat64).data);
  void* const scalar = tensors.add(1, 1, model.dtype).data;
  if (backward) {
    adalora::cuda::orthogonality_gradient(factors, grams, norms, scalar, gradients,
                                          cuda_test::stream());
  } else {
    void* const partials = tensors.add(adalora::cuda::gram_room(factors), 1, compute).data;
    adalora::cuda::orthogonality_penalty(factors, partials, grams, norms, scalar,
                                         cuda_test::stream());
  }
  return bytes;
}

/// The matrices of one layer, one after the other.
std::int64_t fold(const Model& model, Tensors& tensors, bool backward) {
  std::int64_t bytes = 0;
  for (const adalora::Triplets& matrix : triplets_of(model, 1, tensors)) {
    const std::int64_t padded = adalora::cuda::padded_rank(kRank, model.dtype);
    const adalora::cuda::Folded folded{tensors.add(padded, matrix.A.cols, model.dtype),
                                       tensors.add(matrix.B.rows, padded, model.dtype)};
    const std::int64_t factors = bytes_of(matrix.A) + bytes_of(matrix.E) + bytes_of(matrix.B);
    if (!backward) {
      adalora::cuda::fold_factors(matrix, 0.5, folded, cuda_test::stream());
      bytes += factors + bytes_of(folded.A) + bytes_of(folded.B);
      continue;
    }
    const adalora::Triplets wanted{tensors.add(kRank, matrix.A.cols, model.dtype),
                                   tensors.add(kRank, 1, model.dtype),
                                   tensors.add(matrix.B.rows, kRank, model.dtype)};
    adalora::cuda::unfold_gradients(folded, matrix, 0.5, wanted, cuda_test::stream());
    // Of the gradients of A' and B' all but the padding, A and E; and what is wanted.
    bytes += 2 * factors + bytes_of(matrix.A) + bytes_of(matrix.E);
  }
  return bytes;
}

std::int64_t drop(const Model& model, Tensors& tensors) {
  const MatrixView x = tensors.add(model.tokens, model.of_layer.front().in, model.dtype);
  const MatrixView output = tensors.add(x.rows, x.cols, x.dtype);
  const MatrixView seed = tensors.add(1, 1, DType::kFloat64);
  adalora::cuda::drop(x, 0.1, static_cast<const std::int64_t*>(seed.data), output,
                      cuda_test::stream());
  return bytes_of(x) + bytes_of(output);
}

/// update_kernel<float, true> for what a compiler calls it.
std::string readable(const std::string& mangled) {
  int status = 0;
  char* const text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : mangled;
  std::free(text);
  for (const std::string part : {"void ", "adalora::", "cuda::", "(anonymous namespace)::"}) {
    for (std::size_t at = name.find(part); at != std::string::npos; at = name.find(part)) {
      name.erase(at, part.size());
    }
  }
  return name.substr(0, name.find('('));
}

void write(const std::string& model, const std::string& op, std::int64_t bytes,
           const std::string& kernel, const Counts& counts) {
  std::cout << model << '\t' << op << '\t' << bytes << '\t' << readable(kernel) << '\t'
            << counts.launches << '\t' << counts.blocks;
  for (const std::uint64_t of_class : counts.instructions) std::cout << '\t' << of_class;
  std::cout << '\t' << counts.divergent_branches;
  for (const Accesses& accesses : {counts.loads, counts.stores}) {
    std::cout << '\t' << accesses.requests << '\t' << accesses.bytes << '\t' << accesses.sectors;
  }
  std::cout << '\t' << counts.shared_requests << '\t' << counts.bank_conflicts << '\n';
}

}  // namespace

void count_ops() {
  const std::pair<std::string, Op> ops[] = {
      {"averages", [](auto& model, auto& tensors) { return update(model, tensors, false); }},
      {"averages and scores",
       [](auto& model, auto& tensors) { return update(model, tensors, true); }},
      {"selection", select},
      {"penalty", [](auto& model, auto& tensors) { return penalize(model, tensors, false); }},
      {"gradient of the penalty",
       [](auto& model, auto& tensors) { return penalize(model, tensors, true); }},
      {"fold", [](auto& model, auto& tensors) { return fold(model, tensors, false); }},
      {"unfold", [](auto& model, auto& tensors) { return fold(model, tensors, true); }},
      {"drop", drop}};
  std::cout
      << "model\top\tneeded\tkernel\tlaunches\tblocks\tfloat32\tfloat64\tinteger\tmove\tmemory\t"
         "control\tdivergent\tloads\tload_bytes\tload_sectors\tstores\tstore_bytes\t"
         "store_sectors\tshared\tconflicts\n";
  runtime::device().count();
  runtime::device().set_order(Order::kForward, 0);  // the groups of a warp meet as soon as they can
  for (const Model& model : kModels) {
    for (const auto& [name, op] : ops) {
      Tensors tensors;
      const std::int64_t bytes = op(model, tensors);
      for (const auto& [kernel, counts] : runtime::device().take_counts()) {
        write(model.name, name, bytes, kernel, counts);
      }
    }
  }
}

}  // namespace ptx
