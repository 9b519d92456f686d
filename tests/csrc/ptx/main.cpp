// The tests over the interpreter: cuda_ptx ARCHITECTURE [OPTION VALUE]...
//
//   --op NAME       the tests of one op; without it those of all, which have to run every kernel
//   --order NAME    forward, backward or shuffled: the turns of blocks, warps and divided groups
//   --seed NUMBER   of the shuffling
//   --limit NUMBER  of instructions of single threads
//   --text FILE     the kernels of this text, instead of those in the program
//   --missed 1      write the instructions of the kernels that no test ran
//   --print 1       write the text of the program, and run nothing
//   --count 1       instead of tests run the ops on two models, and write what each kernel did

#include <fstream>
#include <iostream>
#include <iterator>

#include "count_ops.hpp"
#include "cuda/cuda_test.hpp"
#include "runtime.hpp"

namespace cuda_test {

int launches() { return ptx::runtime::take_launch_count(); }

}  // namespace cuda_test

namespace {

namespace runtime = ptx::runtime;

const std::map<std::string, void (*)()> kTests = {{"importance", cuda_test::test_importance},
                                                  {"orthogonality", cuda_test::test_orthogonality},
                                                  {"selection", cuda_test::test_selection},
                                                  {"svd_linear", cuda_test::test_svd_linear},
                                                  {"all", cuda_test::test_all}};
const std::map<std::string, ptx::Order> kOrders = {{"forward", ptx::Order::kForward},
                                                   {"backward", ptx::Order::kBackward},
                                                   {"shuffled", ptx::Order::kShuffled}};

std::string read_file(const std::string& name) {
  std::ifstream file(name);
  if (!file) throw std::invalid_argument("no file " + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

void check_that_all_ran() {
  for (const auto& [name, kernel] : runtime::program()) {
    if (!runtime::launched_kernels().contains(name)) throw ptx::Fault("not run: " + name);
  }
}

void write_missed() {
  for (const auto& [name, kernel] : runtime::program()) {
    if (!runtime::launched_kernels().contains(name)) continue;
    for (const ptx::Instruction& instruction : kernel.instructions) {
      if (!instruction.has_run) std::cout << name << ": " << instruction.text << '\n';
    }
  }
}

void run(const std::string& architecture, std::map<std::string, std::string> options) {
  options.try_emplace("--op", "all");
  options.try_emplace("--order", "shuffled");
  options.try_emplace("--seed", "7");
  options.try_emplace("--limit", "1000000000000");
  const std::string text =
      options.contains("--text")
          ? read_file(options.at("--text"))
          : runtime::embedded_text(static_cast<unsigned>(std::stoul(architecture)));
  if (options.contains("--print")) {
    std::cout << text;
    return;
  }
  ptx::Device& device = runtime::device();
  const std::uint64_t limit = std::stoull(options.at("--limit"));
  device.set_limit(limit);
  device.set_order(kOrders.at(options.at("--order")),
                   static_cast<unsigned>(std::stoul(options.at("--seed"))));
  runtime::load(text);
  if (options.contains("--count")) return ptx::count_ops();
  cuda_test::test_kernels_are_known();
  kTests.at(options.at("--op"))();
  if (options.at("--op") == "all") check_that_all_ran();
  if (options.contains("--missed")) write_missed();
  std::cout << "passed, as PTX of compute_" << architecture << ": "
            << runtime::launched_kernels().size() << " kernels, " << limit - device.limit()
            << " instructions\n";
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count < 2) throw std::invalid_argument("usage: cuda_ptx ARCHITECTURE [OPTION VALUE]...");
    std::map<std::string, std::string> options;
    for (int i = 2; i + 1 < count; i += 2) options[arguments[i]] = arguments[i + 1];
    run(arguments[1], options);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "PTX: " << error.what() << '\n';
    return 1;
  }
}
