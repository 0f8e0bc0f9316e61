// SPDX-License-Identifier: MIT
#include "queue/Worker.h"

#include "core/Clock.h"

#include <cerrno>
#include <csignal>
#include <limits>

#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

namespace btblock::queue {
namespace {

constexpr std::uint64_t stop_grace_ns = 500'000'000;
constexpr std::uint64_t forever = std::numeric_limits<std::uint64_t>::max();
constexpr int packets_per_turn = 64;    // then the stop event is looked at again
constexpr int packets_per_verdict = 16; // a packet waits for at most so many inspections of others

void count(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1) noexcept {
    counter.fetch_add(n, std::memory_order_relaxed);
}

} // namespace

Worker::Worker(NfQueue queue, Fd stop_event, std::uint32_t punt_mark, QueueHandler handler)
    : queue_(std::move(queue)), stop_event_(std::move(stop_event)), punt_mark_(punt_mark), handler_(std::move(handler)),
      number_(queue_->number()), heartbeat_(monotonic_ns()) {}

Result<std::unique_ptr<Worker>> Worker::start(NfQueue queue, std::uint32_t punt_mark, QueueHandler handler) {
    Fd stop_event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stop_event)
        return errno_error("eventfd");
    std::unique_ptr<Worker> worker(new Worker(std::move(queue), std::move(stop_event), punt_mark, std::move(handler)));
    // A thread inherits its creator's signal mask: with all blocked, signals go to the thread that waits for them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    try {
        worker->thread_ = std::thread([w = worker.get()] { w->run(); });
    } catch (const std::system_error& e) {
        failed = e.code().value();
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (failed)
        return errno_error("thread of NFQUEUE " + std::to_string(worker->number_), failed);
    return worker;
}

Worker::~Worker() {
    stop();
}

void Worker::stop() {
    if (!thread_.joinable())
        return;
    eventfd_write(stop_event_.get(), 1);
    thread_.join();
}

void Worker::beat() noexcept {
    heartbeat_.store(monotonic_ns(), std::memory_order_relaxed);
}

bool Worker::healthy(std::uint64_t now_ns) const noexcept {
    if (!running_.load(std::memory_order_relaxed))
        return false;
    const std::uint64_t last = heartbeat_ns();
    return now_ns <= last || now_ns - last < stall_ns;
}

WorkerCounters Worker::counters() const noexcept {
    constexpr auto order = std::memory_order_relaxed;
    return {received_.load(order), accepted_.load(order), dropped_.load(order), errors_.load(order),
            missed_.load(order)};
}

void Worker::run() noexcept {
    prctl(PR_SET_NAME, ("btblock-q" + std::to_string(number_)).c_str());
    // A packet may have come in before the first poll, see NfQueue::receive.
    bool usable = drain(forever), stopping = false;
    while (usable && !stopping) {
        beat();
        pollfd fds[2] = {{queue_->fd(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}};
        const int ready = poll(fds, 2, poll_ms);
        if (ready < 0 && errno != EINTR) {
            spdlog::error("NFQUEUE {}: poll: {}", number_, std::generic_category().message(errno));
            break;
        }
        if (ready <= 0)
            continue;
        stopping = fds[1].revents != 0;
        if (stopping) {
            usable = drain(monotonic_ns() + stop_grace_ns);
        } else if (fds[0].revents != 0) {
            usable = drain(forever);
        }
    }
    running_.store(false, std::memory_order_relaxed);
    queue_.reset(); // a queue that nobody answers must not stay bound: the rule's bypass takes over
}

// Answers what waits: one turn's worth, or with a deadline everything. False when the socket is unusable.
bool Worker::drain(std::uint64_t deadline_ns) noexcept {
    const bool usable = take(deadline_ns);
    release();
    return usable;
}

bool Worker::take(std::uint64_t deadline_ns) noexcept {
    const bool finish = deadline_ns != forever;
    for (int turn = 0; finish || turn < packets_per_turn; ++turn) {
        if (finish && turn % packets_per_turn == 0) {
            release();
            beat();
            if (heartbeat_ns() >= deadline_ns)
                return true;
        }
        Packet packet;
        auto got = queue_->receive(packet);
        if (!got) {
            spdlog::error("{}", got.error().message);
            return false;
        }
        if (!*got)
            return true;
        switch (**got) {
        case Parsed::packet: answer(packet, true); break;
        case Parsed::truncated:
            count(errors_);
            answer(packet, false);
            break;
        case Parsed::other: break; // the verdict came after the kernel had given the packet up (its device went away)
        case Parsed::malformed: count(errors_); break;
        }
    }
    return true;
}

void Worker::answer(const Packet& packet, bool inspect) noexcept {
    count(received_);
    // Ids are consecutive; a gap is packets that the kernel could not put into the socket.
    if (const std::uint32_t gap = packet.id - last_id_ - 1; last_id_ != 0 && gap < std::uint32_t{1} << 31)
        count(missed_, gap);
    last_id_ = packet.id;

    QueueVerdict verdict = QueueVerdict::accept;
    if (inspect) {
        try {
            verdict = handler_({packet.ip, packet.mark, packet.in_ifindex});
        } catch (const std::exception& e) {
            count(errors_);
            spdlog::debug("NFQUEUE {}: inspection failed: {}", number_, e.what());
        } catch (...) {
            count(errors_);
        }
    }
    const bool accept = verdict == QueueVerdict::accept;
    count(accept ? accepted_ : dropped_);
    if (!accept) {
        if (!queue_->verdict(packet.id, false, std::nullopt))
            count(errors_);
        return;
    }
    // Read-modify-write of our own bit; the other bits belong to others.
    std::optional<std::uint32_t> mark;
    if (packet.mark & punt_mark_)
        mark = packet.mark & ~punt_mark_;
    if (unsaid_ && (unsaid_->mark != mark || unsaid_->count == packets_per_verdict))
        release();
    unsaid_ = Accepted{packet.id, mark, unsaid_ ? unsaid_->count + 1 : 1};
}

void Worker::release() noexcept {
    if (unsaid_ && !queue_->accept_until(unsaid_->id, unsaid_->mark))
        count(errors_);
    unsaid_.reset();
}

} // namespace btblock::queue
