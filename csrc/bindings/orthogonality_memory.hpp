#pragma once
/// Memory for all gradients of the penalty, which is used again from step to step.

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "bindings/orthogonality_arguments.hpp"

namespace adalora::bindings {

/// Keeps the block that torch freed last.
///
/// A block of many megabytes goes back to the system when it is freed, and the next one pays for
/// each of its pages anew. Torch calls the deleter of a block where the last tensor on it is gone,
/// whoever held it, and only then is the block at hand again: no reference is counted here. An
/// exchange of one pointer is all that threads share, so a forked child finds no lock.
class KeptMemory {
 public:
  struct Block {
    explicit Block(std::size_t size) : size(size), data(::operator new(size, kAlignment)) {}
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block() { ::operator delete(data, kAlignment); }

    static constexpr std::align_val_t kAlignment{64};
    std::size_t size;
    void* data;
  };

  KeptMemory() = default;
  KeptMemory(const KeptMemory&) = delete;
  KeptMemory& operator=(const KeptMemory&) = delete;
  ~KeptMemory() { delete kept_.load(); }

  /// The kept block if it has this size, else a new one.
  std::unique_ptr<Block> take(std::size_t size) {
    std::unique_ptr<Block> block(kept_.exchange(nullptr));
    if (block && block->size == size) return block;
    block.reset();  // before the new one: both together may not fit
    return std::make_unique<Block>(size);
  }

  void give_back(std::unique_ptr<Block> block) { delete kept_.exchange(block.release()); }

 private:
  std::atomic<Block*> kept_{nullptr};
};

/// The memory in Python: a capsule, and every tensor on a block, share it.
using SharedMemory = std::shared_ptr<KeptMemory>;

inline constexpr const char* kMemoryName = "adalora_core.orthogonality_memory";

inline py::capsule new_memory() {
  auto memory = std::make_unique<SharedMemory>(std::make_shared<KeptMemory>());
  py::capsule capsule(memory.get(), kMemoryName, [](PyObject* object) {
    delete static_cast<SharedMemory*>(PyCapsule_GetPointer(object, kMemoryName));
  });
  memory.release();
  return capsule;
}

inline SharedMemory read_memory(py::handle object, const Argument& argument) {
  if (PyCapsule_IsValid(object.ptr(), kMemoryName) == 0) {
    throw_type_error(argument, "of orthogonality_memory()", Py_TYPE(object.ptr())->tp_name);
  }
  return *static_cast<SharedMemory*>(PyCapsule_GetPointer(object.ptr(), kMemoryName));
}

/// Makes a flat tensor of `entries` values that are not set, on a block of `memory`.
inline py::object new_tensor(const SharedMemory& memory, std::int64_t entries, DType dtype) {
  struct Use {
    SharedMemory memory;
    std::unique_ptr<KeptMemory::Block> block;
    std::int64_t size;
    std::int64_t stride = 1;
    dlpack::ManagedTensor managed{};
  };
  const Argument argument{kOrthogonality, "entries"};
  if (entries < 1 || entries > (INT64_MAX >> 8)) {
    throw_value_error(argument, "a positive number that fits in memory", std::to_string(entries));
  }
  auto use = std::make_unique<Use>(Use{memory, nullptr, entries});
  try {
    use->block = memory->take(static_cast<std::size_t>(entries) * item_size(dtype));
  } catch (const std::bad_alloc&) {
    throw_value_error(argument, "a number that fits in memory", std::to_string(entries));
  }
  use->managed = {
      .version = {dlpack::kMajorVersion, 0},
      .context = use.get(),
      .deleter =
          [](dlpack::ManagedTensor* self) {
            const std::unique_ptr<Use> done(static_cast<Use*>(self->context));
            done->memory->give_back(std::move(done->block));
          },
      .flags = 0,
      .tensor = {
          use->block->data, {dlpack::kCpu, 0}, 1, dlpack_type(dtype), &use->size, &use->stride, 0}};
  return tensor_of(&use.release()->managed);
}

}  // namespace adalora::bindings
