// How a call runs. The caller takes the pool (busy_), describes the job, opens the gate, writes the job's number on the
// tickets of the first two workers, and starts on its own share. Each worker that sees a new ticket passes it on to two
// more (a tree, so that waking 63 threads costs the caller two wake-ups), enters through the gate, and takes chunks
// until none are left. The caller then closes the gate and waits for those inside. A worker that comes late finds the
// gate closed and goes back to sleep: nobody ever waits for it.
#include "pool.hpp"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <new>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastnn {
namespace {

// Long enough to catch the next layer of a network, short enough that an idle program does not burn a core.
constexpr auto kSpinTime = std::chrono::microseconds(30);

std::atomic<int> num_threads{1};
std::atomic<int> usable_cores{static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))};

void pause_core() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // "yield" is a no-op on most cores
#endif
}

bool may_spin() noexcept {
  return num_threads.load(std::memory_order_relaxed) <= usable_cores.load(std::memory_order_relaxed);
}

#if defined(__linux__)
int current_core() noexcept { return sched_getcpu(); }

// Moves the calling thread to another core than this one, if it may run on any. Some kernels, those of virtual machines
// above all, wake a thread on the core of the thread that wakes it, though others idle; there it only takes turns with
// the caller until the next balancing some milliseconds later. Taking the core out of the thread's affinity moves it at
// once, and putting it back leaves it there.
void move_from(int core) noexcept {
  cpu_set_t before;  // the kernel refuses it on machines with more than 1024 cores: then nothing is done
  if (core < 0 || core >= CPU_SETSIZE || pthread_getaffinity_np(pthread_self(), sizeof before, &before) != 0) return;
  cpu_set_t others = before;
  CPU_CLR(core, &others);
  if (CPU_COUNT(&others) == 0 || pthread_setaffinity_np(pthread_self(), sizeof others, &others) != 0) return;
  pthread_setaffinity_np(pthread_self(), sizeof before, &before);
}
#else
int current_core() noexcept { return -1; }
void move_from(int) noexcept {}
#endif

// Spins until done() or until the time is up, and says which.
template <class Done>
bool spin_until(Done done) noexcept {
  if (done()) return true;
  if (!may_spin()) return false;
  const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 16; ++i) {
      pause_core();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

// One participant's place: slot 0 is the caller's, the others belong to one worker each. The halves are written by
// different threads, hence the cache lines of their own (128 bytes: x86 prefetches lines in pairs, Apple's cores have
// lines of that size).
struct Slot {
  // The share of the job: chunks [next, end), taken one at a time by anyone.
  alignas(128) std::atomic<std::int64_t> next{0};
  std::int64_t end = 0;
  // Where the worker waits: a ticket that differs from the last one it saw means work.
  alignas(128) std::atomic<std::uint64_t> ticket{0};
  std::atomic<bool> asleep{false};
  std::mutex mutex;
  std::condition_variable wake;
};

class Pool {
 public:
  bool try_take() noexcept {
    return !busy_.load(std::memory_order_relaxed) && !busy_.exchange(true, std::memory_order_acquire);
  }
  void give_back() noexcept { busy_.store(false, std::memory_order_release); }

  // The caller has taken the pool. Returns false, with nothing done, if it is the only participant that can be had.
  bool run(std::int64_t n, std::int64_t grain, std::int64_t chunks, int threads, chunk_body body,
           void* context) noexcept;

  int started() const noexcept { return started_.load(std::memory_order_relaxed); }

 private:
  struct Start {  // what a new thread needs to know, freed by it
    Pool* pool;
    int index;
  };

  // The gate: whether workers may enter, whether the caller sleeps until they have left, and how many are inside.
  static constexpr unsigned kOpen = 1u << 31;
  static constexpr unsigned kCallerSleeps = 1u << 30;
  static constexpr unsigned kInside = kCallerSleeps - 1;

  bool start_workers(int wanted) noexcept;
  static void* worker_main(void* start) noexcept;
  void serve(int index) noexcept;
  std::uint64_t wait_for_ticket(Slot& slot, std::uint64_t seen) noexcept;
  void wake_children(int index) noexcept;
  bool enter() noexcept;
  void leave() noexcept;
  void close_and_wait() noexcept;
  void take_chunks(int index) noexcept;

  // The job, written by the caller while the gate is closed and nobody is inside.
  chunk_body body_ = nullptr;
  void* context_ = nullptr;
  std::int64_t n_ = 0;
  std::int64_t grain_ = 1;
  std::uint64_t job_ = 0;
  int core_ = -1;  // where the caller runs, if known
  int team_ = 1;   // participants, the caller included
  Slot* slots_[kMaxThreads] = {};

  std::atomic<int> started_{0};
  alignas(128) std::atomic<bool> busy_{false};
  alignas(128) std::atomic<unsigned> gate_{0};
  std::mutex all_left_mutex_;
  std::condition_variable all_left_;
};

bool Pool::run(std::int64_t n, std::int64_t grain, std::int64_t chunks, int threads, chunk_body body,
               void* context) noexcept {
  const int wanted = static_cast<int>(std::min<std::int64_t>({chunks, threads, kMaxThreads}));
  if (!start_workers(wanted - 1)) return false;
  team_ = std::min(wanted, started() + 1);
  body_ = body;
  context_ = context;
  n_ = n;
  grain_ = grain;
  ++job_;
  core_ = current_core();
  // Spread the remainder over the first shares; chunks * team_ could overflow.
  const std::int64_t each = chunks / team_, extra = chunks % team_;
  std::int64_t begin = 0;
  for (int i = 0; i < team_; ++i) {
    slots_[i]->next.store(begin, std::memory_order_relaxed);
    begin += each + (i < extra ? 1 : 0);
    slots_[i]->end = begin;
  }
  gate_.store(kOpen, std::memory_order_release);
  wake_children(0);
  take_chunks(0);
  close_and_wait();
  return true;
}

// Starts what is missing of the wanted number. Fewer may be had (limits on threads or memory); false if there is not
// even one.
bool Pool::start_workers(int wanted) noexcept {
  int have = started();
  if (have >= wanted) return have > 0;
  if (slots_[0] == nullptr && (slots_[0] = new (std::nothrow) Slot) == nullptr) return false;
  // Signals are for the program's own threads: a handler must not run, nor a system call be interrupted, on one of
  // these.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (; have < wanted; ++have) {
    const int index = have + 1;
    if (slots_[index] == nullptr && (slots_[index] = new (std::nothrow) Slot) == nullptr) break;
    auto* start = new (std::nothrow) Start{this, index};
    if (start == nullptr) break;
    pthread_t thread;
    if (pthread_create(&thread, nullptr, &Pool::worker_main, start) != 0) {
      delete start;
      break;
    }
#if defined(__linux__)
    pthread_setname_np(thread, "fastnn");  // from here, so that it has its name before anyone can look for it
#endif
    pthread_detach(thread);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  started_.store(have, std::memory_order_relaxed);
  return have > 0;
}

void* Pool::worker_main(void* argument) noexcept {
  auto* start = static_cast<Start*>(argument);
  Pool* pool = start->pool;
  const int index = start->index;
  delete start;
#if defined(__APPLE__)
  pthread_setname_np("fastnn");  // there a thread can only name itself
#endif
  pool->serve(index);
  return nullptr;
}

void Pool::serve(int index) noexcept {
  std::uint64_t seen = 0;
  for (;;) {
    seen = wait_for_ticket(*slots_[index], seen);
    if (!enter()) continue;
    // Now the job stays what it is until leave(). It may be a later one than the ticket's, and one that does without
    // this worker.
    if (index < team_) {
      wake_children(index);
      if (core_ >= 0 && current_core() == core_ && may_spin()) move_from(core_);
      take_chunks(index);
    }
    leave();
  }
}

std::uint64_t Pool::wait_for_ticket(Slot& slot, std::uint64_t seen) noexcept {
  const auto new_ticket = [&] { return slot.ticket.load(std::memory_order_seq_cst) != seen; };
  if (!spin_until(new_ticket)) {
    std::unique_lock<std::mutex> lock(slot.mutex);
    slot.asleep.store(true, std::memory_order_seq_cst);
    slot.wake.wait(lock, new_ticket);
    slot.asleep.store(false, std::memory_order_relaxed);
  }
  return slot.ticket.load(std::memory_order_relaxed);
}

void Pool::wake_children(int index) noexcept {
  for (int child = 2 * index + 1; child <= 2 * index + 2 && child < team_; ++child) {
    Slot& slot = *slots_[child];
    // Ticket, then asleep here; asleep, then ticket over there; both sequentially consistent: one of the two sees the
    // other.
    slot.ticket.store(job_, std::memory_order_seq_cst);
    if (slot.asleep.load(std::memory_order_seq_cst)) {
      {
        std::lock_guard<std::mutex> wait_until_it_sleeps(slot.mutex);
      }
      slot.wake.notify_one();
    }
  }
}

bool Pool::enter() noexcept {
  unsigned gate = gate_.load(std::memory_order_relaxed);
  while (gate & kOpen) {
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed)) return true;
  }
  return false;
}

void Pool::leave() noexcept {
  if (gate_.fetch_sub(1, std::memory_order_acq_rel) == (kCallerSleeps | 1u)) {
    {
      std::lock_guard<std::mutex> wait_until_it_sleeps(all_left_mutex_);
    }
    all_left_.notify_one();
  }
}

void Pool::close_and_wait() noexcept {
  const auto all_left = [&] { return (gate_.load(std::memory_order_acquire) & kInside) == 0; };
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  if (spin_until(all_left)) return;
  std::unique_lock<std::mutex> lock(all_left_mutex_);
  gate_.fetch_or(kCallerSleeps, std::memory_order_acq_rel);
  all_left_.wait(lock, all_left);
}

void Pool::take_chunks(int index) noexcept {
  for (int i = 0; i < team_; ++i) {
    Slot& share = *slots_[(index + i) % team_];
    // The plain load keeps those who pass by an exhausted share from fighting over its cache line.
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const std::int64_t chunk = share.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= share.end) break;
      const std::int64_t begin = chunk * grain_;
      body_(context_, begin, n_ - begin > grain_ ? begin + grain_ : n_);
    }
  }
}

// The pool is never destroyed: at exit its threads sleep or work until the process is gone, and no destructor waits for
// them.
std::atomic<Pool*> the_pool{nullptr};

// A forked child has none of the parent's threads, and the old pool's locks may be held for ever: it starts afresh.
void abandon_pool() noexcept { the_pool.store(nullptr, std::memory_order_relaxed); }

const bool fork_is_safe = pthread_atfork(nullptr, nullptr, [] { abandon_pool(); }) == 0;

Pool* get_pool() noexcept {
  Pool* pool = the_pool.load(std::memory_order_acquire);
  if (pool != nullptr || !fork_is_safe) return pool;
  auto* fresh = new (std::nothrow) Pool;
  if (fresh == nullptr || the_pool.compare_exchange_strong(pool, fresh, std::memory_order_acq_rel)) return fresh;
  delete fresh;  // another thread was faster, and its pool is in `pool` now
  return pool;
}

}  // namespace

void parallel_for(std::int64_t n, std::int64_t grain, chunk_body body, void* context) noexcept {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  if (n <= grain) return body(context, 0, n);
  const int threads = get_num_threads();
  if (threads > 1) {
    Pool* pool = get_pool();
    if (pool != nullptr && pool->try_take()) {
      const std::int64_t chunks = n / grain + (n % grain != 0);
      const bool done = pool->run(n, grain, chunks, threads, body, context);
      pool->give_back();
      if (done) return;
    }
  }
  std::int64_t begin = 0;
  for (; n - begin > grain; begin += grain) body(context, begin, begin + grain);
  body(context, begin, n);
}

int get_num_threads() noexcept { return num_threads.load(std::memory_order_relaxed); }

void set_num_threads(int count) noexcept { num_threads.store(std::max(count, 1), std::memory_order_relaxed); }

void set_usable_cores(int count) noexcept { usable_cores.store(std::max(count, 1), std::memory_order_relaxed); }

int started_threads() noexcept {
  const Pool* pool = the_pool.load(std::memory_order_acquire);
  return pool == nullptr ? 0 : pool->started();
}

}  // namespace fastnn

extern "C" {
int fastnn_get_num_threads() { return fastnn::get_num_threads(); }
void fastnn_set_num_threads(int count) { fastnn::set_num_threads(count); }
}
