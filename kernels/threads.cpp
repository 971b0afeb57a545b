#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() { std::this_thread::yield(); }
#endif

namespace triform {
namespace {

constexpr int kSpins = 2000;  // some tens of microseconds: as long as Python takes between two kernels

// Of the thread that called `run`: whether it was asked to stop.
class Patience {
public:
    bool is_over() {
        auto now = std::chrono::steady_clock::now();
        if (now < next_) return false;
        next_ = now + kPause;
        return asked_to_stop();
    }

private:
    static constexpr std::chrono::milliseconds kPause{100};
    std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kPause;
};

class Pool {
public:
    explicit Pool(int threads) : threads_(threads) {
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    }

    ~Pool() {
        {
            std::lock_guard lock(mutex_);
            over_ = true;
            ++job_;
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    int threads() const { return threads_; }

    void run(int64_t count, const std::function<void(int64_t)>& task) {
        Patience patience;
        std::unique_lock turn(turn_, std::try_to_lock);
        if (!turn || threads_ == 1 || count < 2) {
            for (int64_t i = 0; i < count; ++i) {
                task(i);
                if (patience.is_over()) throw Stopped();
            }
            return;
        }
        task_ = &task;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        is_open_.store(true, std::memory_order_seq_cst);
        {
            std::lock_guard lock(mutex_);
            job_.fetch_add(1, std::memory_order_release);
        }
        if (parked_.load(std::memory_order_seq_cst) > 0) wake_.notify_all();
        bool stopped = false;
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
            task(i);
            if ((stopped = patience.is_over())) next_.store(count_, std::memory_order_relaxed);
        }
        // Whoever has not begun need not: it may be long until it has a core. Whoever has may wait for this very one.
        is_open_.store(false, std::memory_order_seq_cst);
        for (int spin = 0; inside_.load(std::memory_order_seq_cst) > 0; ++spin)
            spin < kSpins ? relax() : std::this_thread::yield();
        if (stopped) throw Stopped();
    }

private:
    void work() {
        for (int64_t seen = 0;;) {
            for (int spin = 0; spin < kSpins && job_.load(std::memory_order_acquire) == seen; ++spin) relax();
            if (job_.load(std::memory_order_acquire) == seen) {
                std::unique_lock lock(mutex_);
                parked_.fetch_add(1, std::memory_order_seq_cst);
                wake_.wait(lock, [&] { return job_.load(std::memory_order_acquire) != seen; });
                parked_.fetch_sub(1, std::memory_order_seq_cst);
            }
            seen = job_.load(std::memory_order_acquire);
            if (over_) return;
            inside_.fetch_add(1, std::memory_order_seq_cst);
            if (is_open_.load(std::memory_order_seq_cst))
                for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*task_)(i);
            inside_.fetch_sub(1, std::memory_order_seq_cst);
        }
    }

    const int threads_;
    std::vector<std::thread> workers_;
    std::mutex turn_, mutex_;
    std::condition_variable wake_;
    std::atomic<int64_t> job_{0}, next_{0};
    std::atomic<int> inside_{0}, parked_{0};
    std::atomic<bool> is_open_{false};  // whether there may be tasks for whoever comes
    const std::function<void(int64_t)>* task_ = nullptr;
    int64_t count_ = 0;
    bool over_ = false;
};

std::mutex making;
std::shared_ptr<Pool> the_pool;
int wanted = 1;

// A child process has none of the workers: it makes a pool of its own, and leaves this one as it lies.
void make_ready_to_fork() {
    pthread_atfork([] { making.lock(); }, [] { making.unlock(); },
                   [] {
                       new (&the_pool) std::shared_ptr<Pool>();
                       making.unlock();
                   });
}

std::shared_ptr<Pool> pool() {
    static std::once_flag once;
    std::call_once(once, make_ready_to_fork);
    std::lock_guard lock(making);
    if (!the_pool) the_pool = std::make_shared<Pool>(wanted);
    return the_pool;
}

}  // namespace

bool (*asked_to_stop)() = [] { return false; };

int num_threads() { return pool()->threads(); }

void set_num_threads(int count) {
    std::shared_ptr<Pool> old;  // whose workers are waited for when others may have a pool again
    std::lock_guard lock(making);
    wanted = count;
    old.swap(the_pool);
}

void run(int64_t count, const std::function<void(int64_t)>& task) { pool()->run(count, task); }

}  // namespace triform
