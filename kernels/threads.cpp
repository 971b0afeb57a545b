#include "threads.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() { std::this_thread::yield(); }
#endif

namespace triform {
namespace {

constexpr std::chrono::seconds kIdle(1);  // after which memory that is kept for the next arrays goes back
constexpr int kSpins = 2000;  // some tens of microseconds: as long as Python takes between two kernels

int usable_cores() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    int count = static_cast<int>(std::thread::hardware_concurrency());
    return count > 0 ? count : 1;
}

class Pool {
public:
    explicit Pool(int threads) : threads_(threads), process_(getpid()) {
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    }

    ~Pool() {
        // In a child process the workers do not exist, though their handles do.
        if (process_ != getpid()) {
            for (auto& worker : workers_) worker.detach();
            return;
        }
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
        std::unique_lock turn(turn_, std::try_to_lock);
        if (!turn || threads_ == 1 || count < 2 || process_ != getpid()) {
            for (int64_t i = 0; i < count; ++i) task(i);
            return;
        }
        task_ = &task;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(threads_ - 1, std::memory_order_relaxed);
        {
            std::lock_guard lock(mutex_);
            job_.fetch_add(1, std::memory_order_release);
        }
        if (parked_.load(std::memory_order_seq_cst) > 0) wake_.notify_all();
        take_tasks();
        // Whoever still works may wait for this very core.
        for (int spin = 0; busy_.load(std::memory_order_acquire) > 0; ++spin)
            spin < kSpins ? relax() : std::this_thread::yield();
    }

private:
    void take_tasks() {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*task_)(i);
    }

    void work() {
        for (int64_t seen = 0;;) {
            for (int spin = 0; spin < kSpins && job_.load(std::memory_order_acquire) == seen; ++spin) relax();
            if (job_.load(std::memory_order_acquire) == seen) {
                std::unique_lock lock(mutex_);
                parked_.fetch_add(1, std::memory_order_seq_cst);
                auto is_there = [&] { return job_.load(std::memory_order_acquire) != seen; };
                if (!wake_.wait_for(lock, kIdle, is_there)) {
                    lock.unlock();
                    release_memory();
                    lock.lock();
                    wake_.wait(lock, is_there);
                }
                parked_.fetch_sub(1, std::memory_order_seq_cst);
            }
            seen = job_.load(std::memory_order_acquire);
            if (over_) return;
            take_tasks();
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    const int threads_;
    const pid_t process_;
    std::vector<std::thread> workers_;
    std::mutex turn_, mutex_;
    std::condition_variable wake_;
    std::atomic<int64_t> job_{0}, next_{0};
    std::atomic<int> busy_{0}, parked_{0};
    const std::function<void(int64_t)>* task_ = nullptr;
    int64_t count_ = 0;
    bool over_ = false;
};

std::mutex making;
std::shared_ptr<Pool> the_pool;

std::shared_ptr<Pool> pool() {
    std::lock_guard lock(making);
    if (!the_pool) the_pool = std::make_shared<Pool>(usable_cores());
    return the_pool;
}

}  // namespace

int num_threads() { return pool()->threads(); }

void set_num_threads(int count) {
    auto made = std::make_shared<Pool>(count);
    std::lock_guard lock(making);
    the_pool.swap(made);
}

void run(int64_t count, const std::function<void(int64_t)>& task) { pool()->run(count, task); }

}  // namespace triform
