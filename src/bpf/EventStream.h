// SPDX-License-Identifier: MIT
// EventStream: reads bt_event records from the ring buffer.
#pragma once

#include "btblock/abi.h"
#include "core/Fd.h"
#include "core/Result.h"

#include <functional>
#include <memory>

struct ring_buffer;

namespace btblock::bpf {

class EventStream {
public:
    using Handler = std::function<void(const bt_event&)>;

    // ring: descriptor of bt_events; not owned, must stay open.
    static Result<std::unique_ptr<EventStream>> open(int ring, Handler handler);
    EventStream(const EventStream&) = delete;
    EventStream& operator=(const EventStream&) = delete;
    ~EventStream();

    [[nodiscard]] int fd() const noexcept; // readable when there are records
    // Hands every waiting record to the handler; never blocks. Records of another size (another version) are skipped.
    void drain();
    // Also reads the ring buffer bt_rejects, under the same descriptor.
    using RejectHandler = std::function<void(const bt_reject&)>;
    Result<void> add_rejects(int ring, RejectHandler handler);

private:
    explicit EventStream(Handler handler) : handler_(std::move(handler)) {}
    static int receive(void* self, void* data, std::size_t size);

    static int receive_reject(void* self, void* data, std::size_t size);

    Handler handler_;
    RejectHandler reject_handler_;
    ring_buffer* ring_ = nullptr;
};

} // namespace btblock::bpf
