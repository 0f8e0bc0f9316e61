// SPDX-License-Identifier: MIT
#include "bpf/EventStream.h"

#include <bpf/libbpf.h>
#include <cstring>

namespace btblock::bpf {

Result<std::unique_ptr<EventStream>> EventStream::open(int ring, Handler handler) {
    std::unique_ptr<EventStream> stream(new EventStream(std::move(handler)));
    stream->ring_ = ring_buffer__new(ring, receive, stream.get(), nullptr);
    if (!stream->ring_)
        return errno_error("opening the ring buffer of events");
    return stream;
}

Result<void> EventStream::add_rejects(int ring, RejectHandler handler) {
    reject_handler_ = std::move(handler);
    if (ring_buffer__add(ring_, ring, receive_reject, this) < 0)
        return errno_error("opening the ring buffer of rejected packets");
    return {};
}

int EventStream::receive_reject(void* self, void* data, std::size_t size) {
    if (size != sizeof(bt_reject))
        return 0;
    bt_reject record;
    std::memcpy(&record, data, sizeof record);
    static_cast<EventStream*>(self)->reject_handler_(record);
    return 0;
}

EventStream::~EventStream() {
    ring_buffer__free(ring_);
}

int EventStream::fd() const noexcept {
    return ring_buffer__epoll_fd(ring_);
}

void EventStream::drain() {
    ring_buffer__consume(ring_);
}

int EventStream::receive(void* self, void* data, std::size_t size) {
    if (size != sizeof(bt_event))
        return 0;
    bt_event record;
    std::memcpy(&record, data, sizeof record);
    static_cast<EventStream*>(self)->handler_(record);
    return 0;
}

} // namespace btblock::bpf
