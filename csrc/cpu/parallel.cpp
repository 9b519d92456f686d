#include "adalora/parallel.hpp"

#include <atomic>

#if __has_include(<dlfcn.h>)
#include <dlfcn.h>
#include <pthread.h>
#define ADALORA_HAS_DLFCN 1
#endif

namespace adalora {

namespace {

// The C symbols that torch exports for extensions (its stable shim); 0 means success.
using TorchParallelFor = std::int32_t (*)(std::int64_t begin, std::int64_t end,
                                          std::int64_t grain_size, RangeFunction function,
                                          void* context);
using TorchThreadCount = std::int32_t (*)(std::uint32_t* count);

struct Pool {
  TorchParallelFor parallel_for = nullptr;
  TorchThreadCount thread_count = nullptr;

  bool complete() const { return parallel_for != nullptr && thread_count != nullptr; }
};

// A forked child cannot start an OpenMP thread team of its own: it would hang.
std::atomic<bool> forked{false};

Pool find_pool() {
  Pool pool;
#ifdef ADALORA_HAS_DLFCN
#ifdef __APPLE__
  void* library = dlopen("libtorch_cpu.dylib", RTLD_LAZY | RTLD_NOLOAD);
#else
  void* library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
#endif
  if (library == nullptr) return pool;
  pool.parallel_for = reinterpret_cast<TorchParallelFor>(dlsym(library, "torch_parallel_for"));
  pool.thread_count = reinterpret_cast<TorchThreadCount>(dlsym(library, "torch_get_num_threads"));
  pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
#endif
  return pool;
}

const Pool& pool() {
  static const Pool found = find_pool();
  return found;
}

}  // namespace

bool has_pool() { return pool().complete(); }

int thread_count() {
  if (forked.load(std::memory_order_relaxed) || !has_pool()) return 1;
  std::uint32_t count = 1;
  return pool().thread_count(&count) == 0 ? static_cast<int>(count) : 1;
}

void run_on_pool(std::int64_t count, RangeFunction function, void* context) {
  if (thread_count() <= 1 || pool().parallel_for(0, count, 1, function, context) != 0) {
    function(0, count, context);
  }
}

}  // namespace adalora
