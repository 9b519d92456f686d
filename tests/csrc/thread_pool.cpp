// Replaces torch's pool: every call runs on new threads, so that a sanitizer detects data races.

#include <cstdint>
#include <thread>
#include <vector>

namespace {
constexpr std::int64_t kThreads = 4;
}

extern "C" std::int32_t torch_get_num_threads(std::uint32_t* count) {
  *count = kThreads;
  return 0;
}

extern "C" std::int32_t torch_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t,
                                           void (*function)(std::int64_t, std::int64_t, void*),
                                           void* context) {
  std::vector<std::thread> threads;
  const std::int64_t step = (end - begin + kThreads - 1) / kThreads;
  for (std::int64_t first = begin; first < end; first += step) {
    const std::int64_t last = first + step < end ? first + step : end;
    threads.emplace_back([=] { function(first, last, context); });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}
