#pragma once
/// Memory whose every byte knows who read and who wrote it last, so that accesses outside, bytes
/// that nobody wrote and races are found whatever the order of the threads was.

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace ptx {

/// Counts barriers: what happened at different times in one block is in order. Blocks of a launch
/// are in no order, and launches are.
struct Clock {
  std::uint32_t now = 2;  // 1 is the time of the host
  std::uint32_t block = 2;
  std::uint32_t launch = 2;

  void start_launch() { launch = block = ++now; }
  void start_block() { block = ++now; }
};

/// How long memory lives, and therefore whose writes make a byte known.
enum class Lifetime { kDevice, kBlock };

/// One kind of memory. The thread is its index in the block.
class Memory {
 public:
  Memory(const Clock& clock, Lifetime lifetime) : clock_(clock), lifetime_(lifetime) {}

  /// Makes `bytes` bytes at `data` known under `address`.
  void add(std::uint64_t address, std::byte* data, std::size_t bytes);
  void remove(std::uint64_t address);

  /// Checks bounds and alignment alone, in memory that is added from now on.
  void stop_watching() { watched_ = false; }

  /// Where the bytes are; each function throws a Fault if the access is not allowed.
  const std::byte* read(std::uint64_t address, std::size_t bytes, unsigned thread);
  std::byte* write(std::uint64_t address, std::size_t bytes, unsigned thread);
  std::byte* change_atomically(std::uint64_t address, std::size_t bytes);

  /// The host writes or reads.
  std::byte* host_write(std::uint64_t address, std::size_t bytes);
  const std::byte* host_read(std::uint64_t address, std::size_t bytes);

 private:
  /// The last use of one kind: when, by whom, and whether another block made one in this launch.
  struct Use {
    std::uint32_t time = 0;
    std::uint16_t thread = 0;
    bool by_other_block = false;
  };
  struct Byte {
    Use written, read;
  };
  struct Region {
    std::uint64_t begin, end;
    std::byte* data;
    std::vector<Byte> bytes;  // none where nobody watches
  };

  Region& locate(std::uint64_t address, std::size_t bytes);
  Region& host_locate(std::uint64_t address, std::size_t bytes);
  bool conflicts(const Use& use, unsigned thread) const;
  void note(Use& use, unsigned thread) const;
  bool is_known(const Byte& byte) const;

  const Clock& clock_;
  Lifetime lifetime_;
  bool watched_ = true;
  std::map<std::uint64_t, Region> regions_;
  Region* last_ = nullptr;
};

}  // namespace ptx
