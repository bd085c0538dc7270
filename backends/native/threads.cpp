// The threads of all kernels, and what the processor can do.
//
// The calling thread works too, and waits only for parts that a thread has started: a thread that
// the system does not schedule delays nobody. A second caller meanwhile, or a part that asks for
// threads itself, computes alone.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "common.h"

namespace {

constexpr int SPINS = 4000;  // about 50 microseconds: shorter than most pauses between two kernels

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Job {
    void (*work)(void*, int64_t);
    void* context;
    int64_t parts;
    std::atomic<int64_t> next{0};
    std::atomic<bool> threw{false};

    void run() {
        try {
            for (int64_t part; (part = next.fetch_add(1)) < parts;) work(context, part);
        } catch (...) {  // no memory: the caller throws it again
            threw.store(true);
            next.store(parts);
        }
    }
};

struct Pool {
    std::mutex mutex;
    std::condition_variable wake, idle;
    std::atomic<bool> busy{false};
    std::atomic<uint64_t> jobs{0};  // that have been started
    Job* job = nullptr;             // guarded by the mutex, as all below
    int64_t wanted = 0, working = 0, threads = 0;

    void help() {
        uint64_t seen = 0;
        for (;;) {
            for (int i = 0; i < SPINS && jobs.load() == seen; ++i) pause();
            std::unique_lock<std::mutex> lock(mutex);
            wake.wait(lock, [&] { return jobs.load() != seen; });
            seen = jobs.load();
            if (!job || working >= wanted) continue;
            Job* mine = job;
            ++working;
            lock.unlock();
            mine->run();
            lock.lock();
            if (--working == 0) idle.notify_one();
        }
    }

    void run(int64_t count, Job& mine) {
        {
            std::lock_guard<std::mutex> lock(mutex);
            try {
                for (; threads < count - 1; ++threads) std::thread(&Pool::help, this).detach();
            } catch (const std::system_error&) {  // no more threads: those there are will do
            }
            job = &mine;
            wanted = smaller(count, mine.parts) - 1;
            jobs.fetch_add(1);
        }
        wake.notify_all();
        mine.run();
        std::unique_lock<std::mutex> lock(mutex);
        job = nullptr;
        idle.wait(lock, [&] { return working == 0; });
    }
};

Pool* pool = nullptr;  // never freed: its threads may outlive main()

void renew() { pool = new Pool; }  // a forked process has none of the threads

struct Start {
    Start() {
        renew();
#if defined(__unix__) || defined(__APPLE__)
        pthread_atfork(nullptr, nullptr, renew);
#endif
    }
} start;

}  // namespace

EXPORT bool xcnn_parallel(int64_t threads, int64_t parts, void (*work)(void*, int64_t), void* context) {
    Job job{work, context, parts};
    Pool* mine = pool;
    if (threads < 2 || parts < 2 || mine->busy.exchange(true)) {
        job.run();
    } else {
        mine->run(threads, job);
        mine->busy.store(false);
    }
    return !job.threw.load();
}

// A checksum of the signatures that library.py expects.
EXPORT int xcnn_signatures() { return XCNN_SIGNATURES; }

// Whether this processor and system have the instructions of a variant.
EXPORT int xcnn_has_avx2() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}
EXPORT int xcnn_has_avx512() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return xcnn_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
    return 0;
#endif
}
EXPORT int xcnn_has_baseline() { return 1; }
