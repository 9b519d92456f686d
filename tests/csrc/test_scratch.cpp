#include <algorithm>
#include <thread>
#include <vector>

#include "core_test.hpp"
#include "cpu/scratch.hpp"

namespace core_test {

namespace {

/// Pieces that are there at once, some more than a thread's reserve, keep what is written to them.
void fill_pieces(std::int64_t number) {
  constexpr std::int64_t kEntries[] = {0, 1, 9, 4097, adalora::kReserveBytes / 8, 33};
  for (int round = 0; round < 20; ++round) {
    std::vector<adalora::Scratch<std::int64_t>> pieces;
    for (const std::int64_t count : kEntries) {
      pieces.emplace_back(count);
      CHECK(reinterpret_cast<std::uintptr_t>(pieces.back().data()) % 64 == 0);
      std::fill_n(pieces.back().data(), count, 10 * number + static_cast<int>(pieces.size()));
    }
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const std::int64_t* const begin = pieces[i].data();
      const std::int64_t value = 10 * number + static_cast<int>(i) + 1;
      CHECK(std::count(begin, begin + kEntries[i], value) == kEntries[i]);
    }
  }
}

}  // namespace

void test_scratch() {
  std::vector<std::thread> threads;
  for (int number = 0; number < 4; ++number) threads.emplace_back(fill_pieces, number);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace core_test
