#include "schedule/threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() { std::this_thread::yield(); }
#endif

namespace triform {
namespace {

// Iterations of a spin before a worker parks: some tens of microseconds, as long as Python takes between two kernels. A
// spinning worker begins the next job at once. A parked one waits until the operating system wakes it, through the
// futex of the condition variable.
constexpr int kSpins = 2000;

// Limits the calls of `asked_to_stop`, which takes the GIL, to ten a second.
class StopPoll {
public:
    bool should_stop() {
        auto now = std::chrono::steady_clock::now();
        if (now < next_) return false;
        next_ = now + kInterval;
        return asked_to_stop();
    }

private:
    static constexpr std::chrono::milliseconds kInterval{100};
    std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kInterval;
};

// Workers that run one job at a time together with the caller.
//
// The caller writes the job (task_, count_, next_), opens it and raises job_. Workers that see job_ change enter the
// job and take tasks from next_ until none are left. The caller works as well, then closes the job and waits for the
// workers inside. It does not wait for workers that have not entered: it may take long until they get a core.
//
// A task that throws ends the job. The first exception is kept, and the caller throws it again once no worker is inside
// the job any more.
//
// Memory orders:
// - Closing is Dekker's pattern. The caller stores is_open_ and then loads inside_; a worker adds to inside_ and then
//   loads is_open_. Only sequential consistency rules out that both read the old value, in which case a worker would
//   run tasks of a job whose caller has returned. Weaker orders let a load pass an earlier store.
// - The same operations publish data. A worker that reads is_open_ as true sees the job; a caller that reads inside_ as
//   zero sees all that the tasks wrote.
// - job_ is released and acquired, so that a worker that sees the last number also sees over_.
// - next_ is relaxed: it only hands each number to one thread, and nothing is read through it.
// - parked_ is relaxed: workers change it under mutex_, and the caller reads it after it held mutex_ itself.
class Pool {
public:
    // Throws std::system_error if the system cannot start so many threads.
    explicit Pool(int threads) : threads_(threads) {
        try {
            for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
        } catch (...) {
            end();
            throw;
        }
    }

    ~Pool() { end(); }

    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }

    void run(int64_t count, const std::function<void(int64_t)>& task) {
        StopPoll poll;
        std::unique_lock turn(turn_, std::try_to_lock);
        if (!turn || threads_ == 1 || count < 2) {
            for (int64_t i = 0; i < count; ++i) {
                task(i);
                if (poll.should_stop()) throw Stopped();
            }
            return;
        }
        open(count, task);
        try {
            for (int64_t i; (i = take()) < count_;) {
                task(i);
                if (poll.should_stop()) throw Stopped();
            }
        } catch (...) {
            fail();
        }
        close();
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    void end() {
        {
            std::scoped_lock lock(mutex_);
            over_ = true;
            job_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    void open(int64_t count, const std::function<void(int64_t)>& task) {
        task_ = &task;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        is_open_.store(true, std::memory_order_seq_cst);
        {
            // Under the mutex, so that no worker misses the change between its last look at job_ and its wait.
            std::scoped_lock lock(mutex_);
            job_.fetch_add(1, std::memory_order_release);
        }
        // While all workers spin, the system call is saved.
        if (parked_.load(std::memory_order_relaxed) > 0) wake_.notify_all();
    }

    void close() {
        is_open_.store(false, std::memory_order_seq_cst);
        // After some spinning the caller yields: a worker that is still inside may be waiting for this very core.
        for (int spin = 0; inside_.load(std::memory_order_seq_cst) > 0; ++spin)
            spin < kSpins ? relax() : std::this_thread::yield();
    }

    int64_t take() { return next_.fetch_add(1, std::memory_order_relaxed); }

    // Ends the job with the exception that is being handled.
    void fail() {
        std::scoped_lock lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        next_.store(count_, std::memory_order_relaxed);
    }

    void run_tasks() {
        try {
            for (int64_t i; (i = take()) < count_;) (*task_)(i);
        } catch (...) {
            fail();
        }
    }

    void work() {
        for (int64_t seen = 0;;) {
            seen = wait_for_job_after(seen);
            if (over_) return;
            inside_.fetch_add(1, std::memory_order_seq_cst);
            if (is_open_.load(std::memory_order_seq_cst)) run_tasks();
            inside_.fetch_sub(1, std::memory_order_seq_cst);
        }
    }

    int64_t wait_for_job_after(int64_t seen) {
        for (int spin = 0; spin < kSpins && job_.load(std::memory_order_acquire) == seen; ++spin) relax();
        if (job_.load(std::memory_order_acquire) == seen) {
            std::unique_lock lock(mutex_);
            parked_.fetch_add(1, std::memory_order_relaxed);
            wake_.wait(lock, [&] { return job_.load(std::memory_order_acquire) != seen; });
            parked_.fetch_sub(1, std::memory_order_relaxed);
        }
        return job_.load(std::memory_order_acquire);
    }

    const int threads_;  // with the caller
    std::vector<std::thread> workers_;
    std::mutex turn_;  // held by the caller of the current job
    std::mutex mutex_;  // of wake_; guards over_, failure_ and changes of job_ and parked_
    std::condition_variable wake_;
    // Shared by all threads. On cache lines of their own they were no faster.
    std::atomic<int64_t> job_{0};  // number of the latest job
    std::atomic<int64_t> next_{0};  // the next task to be taken
    std::atomic<int> inside_{0};  // workers that may run tasks of the current job
    std::atomic<int> parked_{0};  // workers that wait for wake_
    std::atomic<bool> is_open_{false};  // true while workers may enter the current job
    const std::function<void(int64_t)>* task_ = nullptr;
    int64_t count_ = 0;
    std::exception_ptr failure_;  // of the current job
    bool over_ = false;  // the pool is being destroyed
};

std::mutex pool_mutex;  // guards the_pool() and wanted_threads

// Never destroyed: a thread may be in a kernel while the process ends.
std::shared_ptr<Pool>& the_pool() {
    static auto* pool = new std::shared_ptr<Pool>;
    return *pool;
}

int wanted_threads = 1;

// A forked child has none of the workers. It forgets the pool without destroying it, and makes one of its own.
void handle_forks() {
    pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                   [] {
                       new (&the_pool()) std::shared_ptr<Pool>();
                       pool_mutex.unlock();
                   });
}

std::shared_ptr<Pool> pool() {
    static std::once_flag once;
    std::call_once(once, handle_forks);
    std::scoped_lock lock(pool_mutex);
    // Where the system starts no more threads, half as many leave some to other programs. One thread needs no worker.
    for (int threads = wanted_threads; !the_pool();) {
        try {
            the_pool() = std::make_shared<Pool>(threads);
        } catch (const std::system_error&) {
            threads /= 2;
        }
    }
    return the_pool();
}

}  // namespace

bool (*asked_to_stop)() = [] { return false; };

int num_threads() { return pool()->threads(); }

int num_missing_threads() {
    int started = num_threads();
    std::scoped_lock lock(pool_mutex);
    return std::max(0, wanted_threads - started);
}

void set_num_threads(int count) {
    std::shared_ptr<Pool> old;  // destroyed, and its workers joined, after the lock is released
    std::scoped_lock lock(pool_mutex);
    wanted_threads = count;
    old.swap(the_pool());
}

void parallel_for(int64_t count, const std::function<void(int64_t)>& task) { pool()->run(count, task); }

}  // namespace triform
