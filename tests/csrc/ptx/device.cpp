#include "device.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace ptx {

namespace {

/// The memory of a kernel's parameters, at addresses from 0 on.
std::vector<std::byte> copy_parameters(const Kernel& kernel, void* const* arguments) {
  std::vector<std::byte> bytes(kernel.parameter_bytes);
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
    const Range& range = kernel.parameters[i];
    std::memcpy(bytes.data() + range.begin, arguments[i], range.size);
  }
  return bytes;
}

std::size_t shared_bytes(const Kernel& kernel) {
  return kernel.shared.empty() ? 0 : kernel.shared.back().begin + kernel.shared.back().size;
}

}  // namespace

void Device::set_order(Order order, unsigned seed) {
  order_ = order;
  random_.seed(seed);
}

std::vector<unsigned> Device::turns(unsigned count) {
  std::vector<unsigned> result(count);
  std::iota(result.begin(), result.end(), 0u);
  if (order_ == Order::kBackward) std::ranges::reverse(result);
  if (order_ == Order::kShuffled) std::ranges::shuffle(result, random_);
  return result;
}

void Device::launch(const Kernel& kernel, unsigned blocks, unsigned threads,
                    void* const* arguments) {
  if (threads == 0 || threads > kernel.most_threads) throw Fault("threads of " + kernel.name);
  clock_.start_launch();
  const std::vector<std::byte> parameters = copy_parameters(kernel, arguments);
  std::vector<std::byte> shared_memory(shared_bytes(kernel));
  Memory shared(clock_, Lifetime::kBlock);
  for (const Range& range : kernel.shared) {
    shared.add(range.begin, shared_memory.data() + range.begin, range.size);
  }
  Counts* counts = counts_.has_value() ? &(*counts_)[kernel.name] : nullptr;
  if (counts != nullptr) {
    ++counts->launches;
    counts->blocks += blocks;
  }
  const Launch launch{kernel, blocks, threads, parameters,    global_,
                      shared, order_, random_, instructions_, counts};
  std::vector<std::unique_ptr<Warp>> warps;
  for (unsigned first = 0; first < threads; first += kLanes) {
    warps.push_back(std::make_unique<Warp>(launch, first));
  }
  for (const unsigned block : turns(blocks)) run_block(warps, block);
}

/// Lets every warp run until it waits or has returned.
bool Device::run_warps(std::vector<std::unique_ptr<Warp>>& warps) {
  bool again = false;
  for (const unsigned i : turns(static_cast<unsigned>(warps.size()))) {
    // Shuffled warps interrupt each other anywhere.
    warps[i]->run(order_ == Order::kShuffled ? 1 + random_() % 64 : ~std::uint64_t{0});
    again |= warps[i]->can_run();
  }
  return again;
}

void Device::run_block(std::vector<std::unique_ptr<Warp>>& warps, unsigned block) {
  clock_.start_block();
  for (const auto& warp : warps) warp->start(block);
  for (;;) {
    while (run_warps(warps)) {
    }
    const auto done =
        std::ranges::count_if(warps, [](const auto& warp) { return warp->is_done(); });
    if (done == static_cast<std::ptrdiff_t>(warps.size())) return;
    std::optional<std::size_t> barrier;
    for (const auto& warp : warps) {
      if (warp->is_done()) continue;
      const std::size_t at = warp->barrier();
      if (done > 0 || barrier.value_or(at) != at)
        warp->fail("a barrier that some warps do not reach");
      barrier = at;
    }
    for (const auto& warp : warps) warp->pass_barrier();
    ++clock_.now;
  }
}

}  // namespace ptx
