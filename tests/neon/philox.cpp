// Writes the random halves of runs of elements to stdout, as for_each_run of one instruction set hands them out, for
// lines "seed offset first n head" from stdin. Ranges that are not as promised end the program with status 1.
#include <cstdio>
#include <cstdlib>

#include "../../kernels/include/philox.hpp"

using namespace fastnn;

int main() {
  unsigned long long seed, offset, first;
  long long n, head;
  while (std::scanf("%llu %llu %llu %lld %lld", &seed, &offset, &first, &n, &head) == 5) {
    long long expected = 0;
    const philox<vwords> generator(seed, offset);
    for_each_run(generator, first, n, head, [&](long long begin, long long end, const u16* halves) {
      const bool aligned = end == n || (end - head) % run_step == 0;
      if (begin != expected || end <= begin || end > n || !aligned || (begin == 0 && end < head && end < n))
        std::exit(1);
      expected = end;
      std::fwrite(halves, sizeof(u16), static_cast<std::size_t>(end - begin), stdout);
    });
    if (expected != n) return 1;
  }
}
