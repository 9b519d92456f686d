#pragma once
/// Runs work on torch's own thread pool, found at run time, so that two pools never compete for the
/// cores.

#include <cstdint>
#include <type_traits>

namespace adalora {

/// The function that `run_on_pool` calls for a part [begin, end) of its range; must not throw.
using RangeFunction = void (*)(std::int64_t begin, std::int64_t end, void* context);

/// Calls `function` once or more so that the calls cover [0, count), each index once.
///
/// The calls may run at the same time. Serial where torch is not loaded, where it has one thread,
/// and in a forked child (the pool's threads do not exist there).
void run_on_pool(std::int64_t count, RangeFunction function, void* context);

/// Like `run_on_pool`, for a callable; serial unless `parallel`, which the caller decides by size
/// alone.
template <class Body>
void parallel_for(std::int64_t count, bool parallel, Body&& body) {
  if (count <= 0) return;
  if (!parallel || count == 1) {
    body(std::int64_t{0}, count);
    return;
  }
  using Plain = std::remove_reference_t<Body>;
  run_on_pool(
      count,
      [](std::int64_t begin, std::int64_t end, void* context) {
        (*static_cast<Plain*>(context))(begin, end);
      },
      &body);
}

/// Whether torch is loaded and exports its pool.
bool has_pool();

/// The number of threads in the pool; 1 without a pool.
int thread_count();

}  // namespace adalora
