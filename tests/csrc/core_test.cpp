#include "core_test.hpp"

#include <stdexcept>

#include "adalora/isa.hpp"
#include "adalora/parallel.hpp"

int main() {
  constexpr int kSkipped = 77;
  try {
    std::printf("%s, %d threads\n", adalora::isa_name(), adalora::thread_count());
  } catch (const std::invalid_argument& reason) {
    std::printf("%s\n", reason.what());
    return kSkipped;
  }
  CHECK(adalora::thread_count() == 4);
  core_test::test_importance();
  core_test::test_orthogonality();
  core_test::test_scratch();
  core_test::test_selection();
  core_test::test_svd_linear();
  std::puts("passed");
  return 0;
}
