#pragma once
/// Factors as the kernels of orthogonality take them: a table of many, and tiles of one, 16 vectors
/// at 64 positions of the long side, which pass through shared memory.

#include "cuda/device.hpp"

namespace adalora::cuda {

inline constexpr std::uint32_t kTile = 16;           // vectors of a tile
inline constexpr std::uint32_t kPart = 4;            // of them, those of one thread
inline constexpr std::uint32_t kDepth = 64;          // positions of a tile
inline constexpr std::uint32_t kPadded = kTile + 4;  // spreads the positions over the banks

static_assert(kDepth * kTile == kThreads * kPart);

/// One launch's share of the factors.
struct FactorTable {
  static constexpr unsigned kBytesPerFactor =
      2 * sizeof(void*) + 2 * sizeof(std::uint64_t) + 3 * sizeof(std::uint32_t) + 1;
  static constexpr unsigned kFactors = (kArgumentBytes - 256) / kBytesPerFactor;

  const void* data[kFactors];
  void* gradients[kFactors];
  std::uint64_t first_gram[kFactors];
  std::uint64_t first_partial[kFactors];
  std::uint32_t rank[kFactors];
  std::uint32_t length[kFactors];  ///< of the long side
  std::uint32_t first_block[kFactors];
  std::uint8_t vectors_are_rows[kFactors];
  std::uint32_t count = 0;
  std::uint32_t first_factor = 0;  ///< among all factors
};

/// A factor as the threads of a block read and write its tiles: each has four vectors at one
/// position, so that threads beside each other have what lies beside each other in memory.
template <class P>
class Tiled {
 public:
  using T = Compute<P>;

  __device__ Tiled(const FactorTable& table, unsigned factor)
      : rank_(table.rank[factor]), length_(table.length[factor]) {
    const bool by_rows = table.vectors_are_rows[factor] != 0;
    parts_ = parts_of(smaller(rank_, kTile), kPart);
    vector_ = kPart * (by_rows ? threadIdx.x / kDepth : threadIdx.x % parts_);
    position_ = by_rows ? threadIdx.x % kDepth : threadIdx.x / parts_;
    vector_step_ = by_rows ? length_ : 1;
    position_step_ = by_rows ? 1 : rank_;
  }

  /// Parts of a tile: fewer than there are threads for, where the rank is small.
  __device__ unsigned parts() const { return parts_; }
  __device__ bool is_used() const { return threadIdx.x < parts_ * kDepth; }
  /// Of this thread in a tile.
  __device__ unsigned vector() const { return vector_; }
  __device__ unsigned position() const { return position_; }

  /// Loads kDepth positions from `position` on of 16 vectors from `vector` on; zero where there are
  /// none.
  __device__ void load(const P* data, std::uint32_t vector, std::uint32_t position,
                       T (&tile)[kDepth][kPadded]) const {
    if (!is_used()) return;
    Pack<T, kPart> values{};
    if (position + position_ < length_) {
      const P* const from = data + place(vector, position);
      Pack<P, kPart> part{};
      if (is_packed(data, vector)) {
        part = read_pack<kPart>(from, true);
      } else {
#pragma unroll
        for (unsigned i = 0; i < kPart; ++i) {
          if (vector + vector_ + i < rank_) part.values[i] = from[std::uint64_t{i} * vector_step_];
        }
      }
#pragma unroll
      for (unsigned i = 0; i < kPart; ++i)
        values.values[i] = static_cast<T>(to_float(part.values[i]));
    }
    write_pack<kPart>(&tile[position_][vector_], values, true);
  }

  /// Writes this thread's entries of such a tile.
  __device__ void store(P* data, std::uint32_t vector, std::uint32_t position,
                        const Pack<T, kPart>& values) const {
    if (!is_used() || position + position_ >= length_) return;
    P* const to = data + place(vector, position);
    Pack<P, kPart> part;
#pragma unroll
    for (unsigned i = 0; i < kPart; ++i) part.values[i] = to_format<P>(values.values[i]);
    if (is_packed(data, vector)) {
      write_pack<kPart>(to, part, true);
    } else {
#pragma unroll
      for (unsigned i = 0; i < kPart; ++i) {
        if (vector + vector_ + i < rank_) to[std::uint64_t{i} * vector_step_] = part.values[i];
      }
    }
  }

 private:
  /// Where this thread's first entry of a tile is.
  __device__ std::uint64_t place(std::uint32_t vector, std::uint32_t position) const {
    return std::uint64_t{vector + vector_} * vector_step_ +
           std::uint64_t{position + position_} * position_step_;
  }

  /// Whether this thread's entries of a tile can be accessed at a time.
  __device__ bool is_packed(const P* data, std::uint32_t vector) const {
    return vector_step_ == 1 && is_divided<kPart>(data, rank_) && vector + vector_ < rank_;
  }

  std::uint32_t rank_, length_;
  std::uint32_t vector_step_, position_step_;  ///< from one to the next in memory
  unsigned parts_, vector_, position_;
};

}  // namespace adalora::cuda
