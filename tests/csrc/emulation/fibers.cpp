// The scheduler of the emulated threads: each is a fiber with a stack of its own, and gives up its
// turn only at a barrier or a collective operation of its warp.

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"
#include "stack_switch.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ADALORA_FIBERS_UNDER_ASAN 1
#endif

namespace emulation {

dim3 thread_index;
dim3 block_index;
int (*holds_lock)() = nullptr;

namespace {

constexpr unsigned kWarp = 32;
constexpr std::size_t kStackBytes = 96 * 1024;

enum class State { kReady, kAtWarp, kAtBlock, kDone };

struct Fiber {
  std::vector<char> stack = std::vector<char>(kStackBytes);
  void* place = nullptr;  // where it continues
  State state = State::kDone;
  int operation = 0;    // the collective it waits in
  unsigned parity = 0;  // which of two arrays its next collective uses
  void* asan_stack = nullptr;
};

struct Warp {
  std::uint64_t slots[2][kWarp];
};

void* scheduler = nullptr;
void* scheduler_asan_stack = nullptr;
const void* scheduler_stack_bottom = nullptr;
std::size_t scheduler_stack_size = 0;

std::vector<Fiber> fibers;
std::vector<Warp> warps;
const std::function<void()>* body = nullptr;
Order order = Order::kForward;
int launches = 0;

void start_switch([[maybe_unused]] void** own, [[maybe_unused]] const void* bottom,
                  [[maybe_unused]] std::size_t size) {
#ifdef ADALORA_FIBERS_UNDER_ASAN
  __sanitizer_start_switch_fiber(own, bottom, size);
#endif
}

void finish_switch([[maybe_unused]] void* own, [[maybe_unused]] const void** bottom,
                   [[maybe_unused]] std::size_t* size) {
#ifdef ADALORA_FIBERS_UNDER_ASAN
  __sanitizer_finish_switch_fiber(own, bottom, size);
#endif
}

void run_fiber() {
  finish_switch(nullptr, &scheduler_stack_bottom, &scheduler_stack_size);
  const unsigned index = thread_index.x;
  (*body)();
  fibers[index].state = State::kDone;
  start_switch(nullptr, scheduler_stack_bottom,
               scheduler_stack_size);  // the stack is left for good
  emulation_switch_stack(&fibers[index].place, scheduler);
}

void start(Fiber& fiber) {
  fiber.place = prepare_stack(fiber.stack.data() + fiber.stack.size(), run_fiber);
  fiber.state = State::kReady;
  fiber.parity = 0;
}

void resume(unsigned index) {
  Fiber& fiber = fibers[index];
  thread_index.x = index;
  start_switch(&scheduler_asan_stack, fiber.stack.data(), fiber.stack.size());
  emulation_switch_stack(&scheduler, fiber.place);
  finish_switch(scheduler_asan_stack, nullptr, nullptr);
}

/// Gives up the turn until the scheduler has made this fiber ready again.
void wait(State state) {
  const unsigned index = thread_index.x;
  Fiber& fiber = fibers[index];
  fiber.state = state;
  start_switch(&fiber.asan_stack, scheduler_stack_bottom, scheduler_stack_size);
  emulation_switch_stack(&fiber.place, scheduler);
  finish_switch(fiber.asan_stack, &scheduler_stack_bottom, &scheduler_stack_size);
  thread_index.x = index;
}

/// Releases the lanes of a warp if all of them are in the same collective; true if it did.
bool release_warp(unsigned first) {
  for (unsigned i = first; i < first + kWarp; ++i) {
    if (fibers[i].state != State::kAtWarp) return false;
  }
  for (unsigned i = first; i < first + kWarp; ++i) {
    if (fibers[i].operation != fibers[first].operation) {
      fail("the lanes of a warp are in different collective operations");
    }
    fibers[i].state = State::kReady;
  }
  return true;
}

/// False once all threads of the block are done.
bool release(unsigned threads) {
  bool released = false;
  unsigned done = 0, waiting = 0;
  for (unsigned first = 0; first < threads; first += kWarp) released |= release_warp(first);
  for (unsigned i = 0; i < threads; ++i) {
    done += fibers[i].state == State::kDone;
    waiting += fibers[i].state == State::kAtBlock;
  }
  if (done == threads) return false;
  if (waiting == threads) {
    for (unsigned i = 0; i < threads; ++i) fibers[i].state = State::kReady;
  } else if (!released) {
    fail(done > 0 ? "some threads have left and others wait for them"
                  : "threads wait for each other at different places");
  }
  return true;
}

std::vector<unsigned> turns(unsigned count) {
  static std::mt19937 generator(7);
  std::vector<unsigned> result(count);
  std::iota(result.begin(), result.end(), 0u);
  if (order == Order::kBackward) std::reverse(result.begin(), result.end());
  if (order == Order::kShuffled) std::shuffle(result.begin(), result.end(), generator);
  return result;
}

void run_block(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) start(fibers[i]);
  const std::vector<unsigned> sequence = turns(threads);
  do {
    for (const unsigned i : sequence) {
      if (fibers[i].state == State::kReady) resume(i);
    }
  } while (release(threads));
}

}  // namespace

void set_order(Order value) { order = value; }

int take_launch_count() {
  const int count = launches;
  launches = 0;
  return count;
}

void run(unsigned blocks, unsigned threads, const std::function<void()>& thread) {
  static std::mutex one_at_a_time;
  const std::lock_guard guard(one_at_a_time);
  if (threads % kWarp != 0) fail("a block of incomplete warps");
  if (holds_lock != nullptr && holds_lock() != 0) fail("a launch that holds the lock of Python");
  if (fibers.size() < threads) fibers.resize(threads);
  warps.resize(threads / kWarp);
  body = &thread;
  ++launches;
  for (const unsigned block : turns(blocks)) {
    block_index.x = block;
    run_block(threads);
  }
}

const std::uint64_t* exchange(int operation, std::uint64_t value) {
  Fiber& fiber = fibers[thread_index.x];
  std::uint64_t* slots = warps[thread_index.x / kWarp].slots[fiber.parity];
  fiber.parity ^= 1u;  // a lane may be one operation ahead, never two
  slots[lane()] = value;
  fiber.operation = operation;
  wait(State::kAtWarp);
  return slots;
}

void wait_for_block() { wait(State::kAtBlock); }

void fail(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s (block %u, thread %u)\n", what, block_index.x,
               thread_index.x);
  std::exit(1);
}

}  // namespace emulation
