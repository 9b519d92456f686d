#include "memory.hpp"

#include <string>

#include "program.hpp"

namespace ptx {

namespace {

// Beside the indices of threads.
constexpr std::uint16_t kSeveral = 0xffff, kAtomic = 0xfffe;

std::string text_of(std::size_t bytes, std::uint64_t address) {
  return std::to_string(bytes) + " bytes at " + std::to_string(address);
}

}  // namespace

void Memory::add(std::uint64_t address, std::byte* data, std::size_t bytes) {
  regions_.insert_or_assign(
      address, Region{address, address + bytes, data, std::vector<Byte>(watched_ ? bytes : 0)});
  last_ = nullptr;
}

void Memory::remove(std::uint64_t address) {
  regions_.erase(address);
  last_ = nullptr;
}

Memory::Region& Memory::locate(std::uint64_t address, std::size_t bytes) {
  if (last_ == nullptr || address < last_->begin || address + bytes > last_->end) {
    auto next = regions_.upper_bound(address);
    if (next == regions_.begin()) throw Fault("outside of memory: " + text_of(bytes, address));
    Region& region = std::prev(next)->second;
    if (address + bytes > region.end) throw Fault("outside of memory: " + text_of(bytes, address));
    last_ = &region;
  }
  if (address % bytes != 0) throw Fault("misaligned: " + text_of(bytes, address));
  return *last_;
}

bool Memory::conflicts(const Use& use, unsigned thread) const {
  if (use.time < clock_.launch) return false;
  return use.by_other_block || use.time < clock_.block ||
         (use.time == clock_.now && use.thread != thread);
}

void Memory::note(Use& use, unsigned thread) const {
  const bool in_launch = use.time >= clock_.launch;
  use.by_other_block = in_launch && (use.by_other_block || use.time < clock_.block);
  const bool shared = use.time == clock_.now && use.thread != thread;
  use.thread = shared ? kSeveral : static_cast<std::uint16_t>(thread);
  use.time = clock_.now;
}

bool Memory::is_known(const Byte& byte) const {
  return byte.written.time >= (lifetime_ == Lifetime::kBlock ? clock_.block : 1);
}

const std::byte* Memory::read(std::uint64_t address, std::size_t bytes, unsigned thread) {
  Region& region = locate(address, bytes);
  const std::size_t at = address - region.begin;
  if (region.bytes.empty()) return region.data + at;
  for (std::size_t i = at; i < at + bytes; ++i) {
    Byte& byte = region.bytes[i];
    if (!is_known(byte)) throw Fault("reads what nobody wrote: " + text_of(bytes, address));
    if (conflicts(byte.written, thread)) {
      throw Fault("race: reads what another thread wrote: " + text_of(bytes, address));
    }
    note(byte.read, thread);
  }
  return region.data + at;
}

std::byte* Memory::write(std::uint64_t address, std::size_t bytes, unsigned thread) {
  Region& region = locate(address, bytes);
  const std::size_t at = address - region.begin;
  if (region.bytes.empty()) return region.data + at;
  for (std::size_t i = at; i < at + bytes; ++i) {
    Byte& byte = region.bytes[i];
    if (lifetime_ == Lifetime::kBlock && byte.written.time < clock_.block) byte = {};
    if (conflicts(byte.written, thread)) {
      throw Fault("race: writes what another thread wrote: " + text_of(bytes, address));
    }
    if (conflicts(byte.read, thread)) {
      throw Fault("race: writes what another thread read: " + text_of(bytes, address));
    }
    note(byte.written, thread);
  }
  return region.data + at;
}

std::byte* Memory::change_atomically(std::uint64_t address, std::size_t bytes) {
  Region& region = locate(address, bytes);
  const std::size_t at = address - region.begin;
  if (region.bytes.empty()) return region.data + at;
  for (std::size_t i = at; i < at + bytes; ++i) {
    Byte& byte = region.bytes[i];
    if (!is_known(byte)) throw Fault("changes what nobody wrote: " + text_of(bytes, address));
    const bool atomic = byte.written.thread == kAtomic;
    if ((!atomic && conflicts(byte.written, kAtomic)) || conflicts(byte.read, kAtomic)) {
      throw Fault("race: an atomic beside another access: " + text_of(bytes, address));
    }
    note(byte.written, kAtomic);
  }
  return region.data + at;
}

Memory::Region& Memory::host_locate(std::uint64_t address, std::size_t bytes) {
  const auto next = regions_.upper_bound(address);
  if (next == regions_.begin() || address + bytes > std::prev(next)->second.end) {
    throw Fault("the host is outside of memory: " + text_of(bytes, address));
  }
  return std::prev(next)->second;
}

std::byte* Memory::host_write(std::uint64_t address, std::size_t bytes) {
  Region& region = host_locate(address, bytes);
  const std::size_t at = address - region.begin;
  if (region.bytes.empty()) return region.data + at;
  for (std::size_t i = at; i < at + bytes; ++i) region.bytes[i].written = {1, 0, false};
  return region.data + at;
}

const std::byte* Memory::host_read(std::uint64_t address, std::size_t bytes) {
  const Region& region = host_locate(address, bytes);
  const std::size_t at = address - region.begin;
  if (region.bytes.empty()) return region.data + at;
  for (std::size_t i = at; i < at + bytes; ++i) {
    if (region.bytes[i].written.time == 0) throw Fault("the host reads what nobody wrote");
  }
  return region.data + at;
}

}  // namespace ptx
