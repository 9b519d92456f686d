#include "runtime.hpp"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

namespace ptx::runtime {

namespace {

/// A launch with a copy of its arguments, as a captured graph keeps it.
struct Launched {
  const Kernel* kernel;
  unsigned blocks, threads;
  std::vector<std::vector<std::byte>> arguments;
};

/// Made at the first registration, which is before main.
struct State {
  Device device;
  std::map<unsigned, std::string> texts;     // by architecture
  std::map<const void*, std::string> names;  // of the functions that a launch is given
  Program program;
  std::set<std::string> launched;
  int launches = 0;
  std::vector<std::string> calls;
  std::string fault;  // of the last launch or copy that failed
  int driver_version = CUDART_VERSION;
  bool captures = false;
  std::vector<Launched> captured;
  int (*holds_lock)() = nullptr;
};

State& state() {
  static State instance;
  return instance;
}

/// Runs `body`; a fault is the error that the call returns.
template <class Body>
cudaError_t guarded(const Body& body) {
  try {
    body();
    return cudaSuccess;
  } catch (const Fault& fault) {
    state().fault = fault.what();
    return cudaErrorLaunchFailure;
  }
}

void capture(const Kernel& kernel, unsigned blocks, unsigned threads, void* const* arguments) {
  Launched& launched = state().captured.emplace_back(Launched{&kernel, blocks, threads, {}});
  for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
    const auto* const bytes = static_cast<const std::byte*>(arguments[i]);
    launched.arguments.emplace_back(bytes, bytes + kernel.parameters[i].size);
  }
}

void note(std::string call) { state().calls.push_back(std::move(call)); }

std::uint64_t address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

/// The headers of what nvcc puts into an object: all codes of a file, and each of them.
struct FatHeader {
  std::uint32_t magic;
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;
};
struct CodeHeader {
  std::uint16_t kind, version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;
  std::uint32_t compressed_bytes, options;
  std::uint16_t minor, major;
  std::uint32_t architecture;
};
constexpr std::uint16_t kText = 1;

constexpr int kDevices = 2;

// The devices. A thread has a stack of contexts; one without any is on device 0, as this process
// is.
struct Context {
  int device;
};
thread_local std::vector<Context*> current;

int current_device() { return current.empty() ? 0 : current.back()->device; }

int retain(Context** context, int device) {
  note("cuDevicePrimaryCtxRetain " + std::to_string(device));
  if (device >= kDevices) return 101;
  static std::map<int, Context> contexts;
  *context = &contexts.try_emplace(device, Context{device}).first->second;
  return 0;
}

int release(int device) {
  note("cuDevicePrimaryCtxRelease_v2 " + std::to_string(device));
  return 0;
}

int push(Context* context) {
  note("cuCtxPushCurrent_v2");
  current.push_back(context);
  return 0;
}

int pop(Context** context) {
  note("cuCtxPopCurrent_v2");
  *context = current.back();
  current.pop_back();
  return 0;
}

void take_texts(const std::byte* fat) {
  FatHeader all;
  std::memcpy(&all, fat, sizeof all);
  const std::byte* const end = fat + all.header_bytes + all.bytes;
  for (const std::byte* at = fat + all.header_bytes; at < end;) {
    CodeHeader code;
    std::memcpy(&code, at, sizeof code);
    at += code.header_bytes;
    if (code.kind == kText) {
      const auto* text = reinterpret_cast<const char*>(at);
      if (code.compressed_bytes != 0 || std::strstr(text, ".version") == nullptr) {
        std::fputs("PTX: compressed text; nvcc needs -no-compress\n", stderr);
        std::exit(1);
      }
      state().texts[code.architecture] += text;
    }
    at += code.bytes;
  }
}

}  // namespace

Device& device() { return state().device; }

const std::string& embedded_text(unsigned architecture) { return state().texts[architecture]; }

void load(const std::string& text) { state().program = parse(text); }

const Program& program() { return state().program; }

const std::set<std::string>& launched_kernels() { return state().launched; }

int take_launch_count() { return std::exchange(state().launches, 0); }

std::vector<std::string> take_calls() { return std::exchange(state().calls, {}); }

void pretend_driver(int version) { state().driver_version = version; }

void begin_capture() {
  state().captured.clear();
  state().captures = true;
}

void end_capture() { state().captures = false; }

void replay() {
  for (Launched& launched : state().captured) {
    std::vector<void*> arguments;
    for (auto& bytes : launched.arguments) arguments.push_back(bytes.data());
    state().device.launch(*launched.kernel, launched.blocks, launched.threads, arguments.data());
  }
}

void forbid_lock(int (*holds_lock)()) { state().holds_lock = holds_lock; }

cudaStream_t stream_of(int device, int number) {
  return reinterpret_cast<cudaStream_t>(std::uintptr_t(device + 1) << 8 | unsigned(number));
}

}  // namespace ptx::runtime

using ptx::runtime::note;
using ptx::runtime::state;

// What nvcc's code calls before main, once for each file and each kernel.

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    int magic, version;
    const std::byte* fat;
  };
  ptx::runtime::take_texts(static_cast<const Wrapper*>(wrapper)->fat);
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, void*,
                            void*, void*, void*, int*) {
  state().names[function] = ptx::plain_name(name);
}

cudaError_t __cudaGetKernel(const void** kernel, const void* function) {
  *kernel = function;
  return cudaSuccess;
}

// Launches that C++ writes as kernel<<<...>>>: nvcc compiles some for each kernel, and none is
// used.
unsigned __cudaPushCallConfiguration(dim3, dim3, std::size_t, void*) { std::abort(); }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, std::size_t*, void*) { std::abort(); }
cudaError_t __cudaLaunchKernel(const void*, dim3, dim3, void**, std::size_t, cudaStream_t) {
  std::abort();
}

}  // extern "C"

// The functions that the ops and their tests call.

cudaError_t cudaLaunchKernel(const void* function, dim3 blocks, dim3 threads, void** arguments,
                             std::size_t shared_bytes, cudaStream_t stream) {
  return ptx::runtime::guarded([&] {
    const std::string& name = state().names[function];
    const auto place = reinterpret_cast<std::uintptr_t>(stream);
    note("cudaLaunchKernel " + name + " on stream " + std::to_string(place & 255));
    if (place != 0 && place >> 8 != std::uintptr_t(ptx::runtime::current_device() + 1)) {
      throw ptx::Fault("a stream of another device than the current one");
    }
    if (state().holds_lock != nullptr && state().holds_lock() != 0) {
      throw ptx::Fault("a launch that holds the lock of Python's interpreter");
    }
    const auto kernel = state().program.find(name);
    if (kernel == state().program.end()) throw ptx::Fault("no kernel " + name);
    if (blocks.y * blocks.z * threads.y * threads.z != 1 || shared_bytes != 0) {
      throw ptx::Fault("a grid of more than one dimension, or shared memory of the launch");
    }
    if (state().captures) {
      return ptx::runtime::capture(kernel->second, blocks.x, threads.x, arguments);
    }
    ++state().launches;
    state().launched.insert(name);
    state().device.launch(kernel->second, blocks.x, threads.x, arguments);
  });
}

/// Blocks of exactly the size asked for, whose bytes nobody has written.
cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  note("cudaMalloc");
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  void* const block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  state().device.memory().add(ptx::runtime::address_of(block), static_cast<std::byte*>(block),
                              bytes);
  *memory = block;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  note("cudaFree");
  state().device.memory().remove(ptx::runtime::address_of(memory));
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  note("cudaMemcpy");
  return ptx::runtime::guarded([&] {
    ptx::Memory& memory = state().device.memory();
    if (kind == cudaMemcpyHostToDevice) {
      std::memcpy(memory.host_write(ptx::runtime::address_of(to), bytes), from, bytes);
    } else {
      std::memcpy(to, memory.host_read(ptx::runtime::address_of(from), bytes), bytes);
    }
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void* function) {
  note("cudaFuncGetAttributes");
  return state().names.contains(function) ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

cudaError_t cudaGetDevice(int* device) {
  note("cudaGetDevice");
  *device = ptx::runtime::current_device();
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  note("cudaDriverGetVersion");
  *version = state().driver_version;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  note("cudaGetLastError");
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return state().fault.c_str(); }

// The driver: the linker lets dlopen and dlsym lead here where a test needs one.

extern "C" {

void* __wrap_dlopen(const char*, int) { return &state(); }

void* __wrap_dlsym(void*, const char* name) {
  const std::string_view wanted = name;
  if (wanted == "cuDevicePrimaryCtxRetain") return reinterpret_cast<void*>(ptx::runtime::retain);
  if (wanted == "cuDevicePrimaryCtxRelease_v2") {
    return reinterpret_cast<void*>(ptx::runtime::release);
  }
  if (wanted == "cuCtxPushCurrent_v2") return reinterpret_cast<void*>(ptx::runtime::push);
  if (wanted == "cuCtxPopCurrent_v2") return reinterpret_cast<void*>(ptx::runtime::pop);
  return nullptr;
}

}  // extern "C"
