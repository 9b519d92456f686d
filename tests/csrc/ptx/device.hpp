#pragma once
/// Runs PTX, what nvcc generates for no GPU in particular, on the CPU.
///
/// It shows: that the instructions compute what the C++ says; accesses outside of memory,
/// misaligned ones, and to bytes or registers that nobody wrote; races between the threads of a
/// block, in shared and in device memory, and between blocks; barriers and exchanges that some
/// threads do not reach; more shared memory or threads than a kernel may have.
///
/// It does not show: what ptxas makes of the text for a GPU, which may join products and sums that
/// the text leaves open; the order in which other blocks see writes; atomics of blocks that wait
/// for each other, since blocks run one after the other; time; limits of drivers.

#include <memory>
#include <optional>
#include <utility>

#include "warp.hpp"

namespace ptx {

class Device {
 public:
  void set_order(Order order, unsigned seed);

  /// Instructions of single threads that may still run.
  void set_limit(std::uint64_t instructions) { instructions_ = instructions; }
  std::uint64_t limit() const { return instructions_; }

  /// Counts from now on, by kernel; memory is not watched any longer.
  void count() {
    counts_.emplace();
    global_.stop_watching();
  }
  std::map<std::string, Counts> take_counts() { return std::exchange(*counts_, {}); }

  /// The memory that launches may touch; its bytes are unknown until somebody writes them.
  Memory& memory() { return global_; }

  /// Runs all blocks. `arguments` has the address of each parameter.
  void launch(const Kernel& kernel, unsigned blocks, unsigned threads, void* const* arguments);

 private:
  std::vector<unsigned> turns(unsigned count);
  void run_block(std::vector<std::unique_ptr<Warp>>& warps, unsigned block);
  bool run_warps(std::vector<std::unique_ptr<Warp>>& warps);

  Clock clock_;
  Memory global_{clock_, Lifetime::kDevice};
  Order order_ = Order::kForward;
  std::mt19937 random_{7};
  std::uint64_t instructions_ = ~std::uint64_t{0};
  std::optional<std::map<std::string, Counts>> counts_;
};

}  // namespace ptx
