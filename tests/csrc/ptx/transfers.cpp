// Instructions that move values: loads and stores, atomics, exchanges between the lanes of a warp,
// and registers that are made of others. And those that end a group's turn, which have no action.

#include <cstring>

#include "opcodes.hpp"
#include "warp.hpp"

namespace ptx {

namespace {

enum class Space { kParameter, kShared, kGlobal };

std::uint64_t read_bits(const std::byte* from, std::size_t bytes) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, from, bytes);
  return bits;
}

/// The addresses of the lanes, counted if the launch is.
template <Space kSpace>
Lanes addresses(Warp& warp, const Instruction& instruction, bool store, std::size_t bytes) {
  const Lanes& base = warp.value(instruction.sources[0]);
  Lanes result{};
  for_lanes(warp.active(), [&](unsigned lane) {
    result[lane] = base[lane] + static_cast<std::uint64_t>(instruction.offset);
  });
  if (warp.launch().counts != nullptr && kSpace != Space::kParameter) {
    warp.launch().counts->add_access(kSpace == Space::kShared, store, result, warp.active(), bytes);
  }
  return result;
}

const std::byte* parameter(const Launch& launch, std::uint64_t address, std::size_t bytes) {
  if (address > launch.parameters.size() || bytes > launch.parameters.size() - address) {
    throw Fault("outside of the parameters: byte " + std::to_string(address));
  }
  if (address % bytes != 0) throw Fault("misaligned: parameter " + std::to_string(address));
  return launch.parameters.data() + address;
}

/// Loads one value, or a vector of them, of `kBytes` bytes each.
template <Space kSpace, std::size_t kBytes>
void load(Warp& warp, const Instruction& instruction) {
  const std::size_t count = instruction.target_count, bytes = count * kBytes;
  const Lanes at = addresses<kSpace>(warp, instruction, false, bytes);
  std::array<Lanes*, 4> results{};
  for (std::size_t i = 0; i < count; ++i) results[i] = &warp.result(instruction.targets[i]);
  const Launch& launch = warp.launch();
  warp.for_each_lane([&](unsigned lane) {
    const std::byte* from;
    if constexpr (kSpace == Space::kParameter) {
      from = parameter(launch, at[lane], bytes);
    } else {
      Memory& memory = kSpace == Space::kShared ? launch.shared : launch.global;
      from = memory.read(at[lane], bytes, warp.thread(lane));
    }
    for (std::size_t i = 0; i < count; ++i) {
      (*results[i])[lane] = read_bits(from + i * kBytes, kBytes);
    }
  });
}

template <Space kSpace, std::size_t kBytes>
void store(Warp& warp, const Instruction& instruction) {
  const std::size_t count = instruction.source_count - 1u, bytes = count * kBytes;
  const Lanes at = addresses<kSpace>(warp, instruction, true, bytes);
  std::array<const Lanes*, 4> values{};
  for (std::size_t i = 0; i < count; ++i) values[i] = &warp.value(instruction.sources[i + 1]);
  Memory& memory = kSpace == Space::kShared ? warp.launch().shared : warp.launch().global;
  warp.for_each_lane([&](unsigned lane) {
    std::byte* to = memory.write(at[lane], bytes, warp.thread(lane));
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(to + i * kBytes, &(*values[i])[lane], kBytes);
    }
  });
}

template <Space kSpace, std::size_t kBytes>
void add_atomically(Warp& warp, const Instruction& instruction) {
  const Lanes at = addresses<kSpace>(warp, instruction, true, kBytes);
  const Lanes& values = warp.value(instruction.sources[1]);
  Lanes& before = warp.result(instruction.targets[0]);
  Memory& memory = kSpace == Space::kShared ? warp.launch().shared : warp.launch().global;
  warp.for_each_lane([&](unsigned lane) {
    std::byte* place = memory.change_atomically(at[lane], kBytes);
    const std::uint64_t own = values[lane];  // may be the register of the result
    before[lane] = read_bits(place, kBytes);
    const std::uint64_t sum = before[lane] + own;
    std::memcpy(place, &sum, kBytes);
  });
}

/// The lane that `lane` reads, or itself where the distance leads out of its segment.
enum class Way { kDown, kUp, kButterfly, kIndex };
template <Way kWay>
std::pair<unsigned, bool> partner(unsigned lane, unsigned distance, unsigned limits) {
  const unsigned segment = limits >> 8 & 31u, clamp = limits & 31u;
  const unsigned first = lane & segment, bound = first | (clamp & ~segment);
  const int found = kWay == Way::kUp     ? static_cast<int>(lane) - static_cast<int>(distance)
                    : kWay == Way::kDown ? static_cast<int>(lane + distance)
                    : kWay == Way::kButterfly
                        ? static_cast<int>(lane ^ distance)
                        : static_cast<int>(first | (distance & ~segment & 31u));
  const int edge = static_cast<int>(bound);
  const bool inside = kWay == Way::kUp ? found >= edge : found <= edge;
  return {inside ? static_cast<unsigned>(found) : lane, inside};
}

template <Way kWay>
void shuffle(Warp& warp, const Instruction& instruction) {
  const Lanes values = warp.value(instruction.sources[0]);
  const Lanes& distances = warp.value(instruction.sources[1]);
  const Lanes& limits = warp.value(instruction.sources[2]);
  Lanes found{};
  Mask flags = 0;
  for_lanes(warp.active(), [&](unsigned lane) {
    const auto [from, inside] = partner<kWay>(lane, static_cast<unsigned>(distances[lane]),
                                              static_cast<unsigned>(limits[lane]));
    if (from >= kLanes || (warp.active() >> from & 1u) == 0) {
      throw Fault("a shuffle from a lane that takes no part", lane);
    }
    found[lane] = values[from];
    flags |= Mask{inside} << lane;
  });
  Lanes& result = warp.result(instruction.targets[0]);
  for_lanes(warp.active(), [&](unsigned lane) { result[lane] = found[lane]; });
  if (instruction.target_count > 1) warp.set_flags(instruction.targets[1], flags);
}

void ballot(Warp& warp, const Instruction& instruction) {
  const Mask flags = warp.flags(instruction.sources[0]) & warp.active();
  Lanes& result = warp.result(instruction.targets[0]);
  for_lanes(warp.active(), [&](unsigned lane) { result[lane] = flags; });
}

/// Several registers in one, the first in its lowest bits.
template <unsigned kBits>
void pack(Warp& warp, const Instruction& instruction) {
  Lanes packed{};
  const unsigned count = instruction.source_count, width = kBits / count;
  for (unsigned i = 0; i < count; ++i) {
    const Lanes& part = warp.value(instruction.sources[i]);
    for_lanes(warp.active(), [&](unsigned lane) {
      packed[lane] |= (part[lane] & ((std::uint64_t{1} << width) - 1)) << width * i;
    });
  }
  Lanes& result = warp.result(instruction.targets[0]);
  for_lanes(warp.active(), [&](unsigned lane) { result[lane] = packed[lane]; });
}

template <unsigned kBits>
void unpack(Warp& warp, const Instruction& instruction) {
  const Lanes packed = warp.value(instruction.sources[0]);
  const unsigned count = instruction.target_count, width = kBits / count;
  for (unsigned i = 0; i < count; ++i) {
    Lanes& part = warp.result(instruction.targets[i]);
    for_lanes(warp.active(), [&](unsigned lane) {
      part[lane] = packed[lane] >> width * i & ((std::uint64_t{1} << width) - 1);
    });
  }
}

template <std::size_t kBytes>
void add_accesses(Table& table, std::initializer_list<const char*> types) {
  const auto add = [&](const std::string& name, Action action) {
    table[name] = {action, Class::kMemory, Flow::kNext};
  };
  for (const std::string type : types) {
    for (const std::string count : {".", ".v2.", ".v4."}) {
      add("ld.param" + count + type, load<Space::kParameter, kBytes>);
      add("ld.shared" + count + type, load<Space::kShared, kBytes>);
      add("ld.global" + count + type, load<Space::kGlobal, kBytes>);
      add("st.shared" + count + type, store<Space::kShared, kBytes>);
      add("st.global" + count + type, store<Space::kGlobal, kBytes>);
    }
  }
}

}  // namespace

void add_transfers(Table& table) {
  add_accesses<1>(table, {"b8", "u8"});
  add_accesses<2>(table, {"b16", "u16"});
  add_accesses<4>(table, {"b32", "u32", "f32"});
  add_accesses<8>(table, {"b64", "u64", "f64"});
  table["atom.shared.add.u32"] = {add_atomically<Space::kShared, 4>, Class::kMemory};
  table["atom.global.add.u64"] = {add_atomically<Space::kGlobal, 8>, Class::kMemory};
  table["pack.b32"] = {pack<32>, Class::kMove};
  table["pack.b64"] = {pack<64>, Class::kMove};
  table["unpack.b32"] = {unpack<32>, Class::kMove};
  table["unpack.b64"] = {unpack<64>, Class::kMove};
  table["shfl.sync.bfly.b32"] = {shuffle<Way::kButterfly>, Class::kMemory, Flow::kExchange};
  table["shfl.sync.up.b32"] = {shuffle<Way::kUp>, Class::kMemory, Flow::kExchange};
  table["shfl.sync.down.b32"] = {shuffle<Way::kDown>, Class::kMemory, Flow::kExchange};
  table["shfl.sync.idx.b32"] = {shuffle<Way::kIndex>, Class::kMemory, Flow::kExchange};
  table["vote.sync.ballot.b32"] = {ballot, Class::kMemory, Flow::kExchange};
  table["bar.sync"] = {nullptr, Class::kControl, Flow::kBarrier};
  table["bra"] = table["bra.uni"] = {nullptr, Class::kControl, Flow::kBranch};
  table["ret"] = {nullptr, Class::kControl, Flow::kReturn};
}

Opcode opcode(const std::string& name) {
  static const Table table = [] {
    Table result;
    add_arithmetic(result);
    add_transfers(result);
    return result;
  }();
  const auto found = table.find(name);
  if (found == table.end()) throw Fault("no instruction " + name);
  return found->second;
}

}  // namespace ptx
