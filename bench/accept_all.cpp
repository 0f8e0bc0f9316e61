// SPDX-License-Identifier: MIT
// accept_all: the least that a consumer of an NFQUEUE can do: every packet is read and accepted, none is looked at.
//   accept_all QUEUE
#include "queue/NfQueue.h"

#include <cstdio>
#include <cstdlib>
#include <poll.h>

int main(int argc, char** argv) {
    using namespace btblock;
    if (argc != 2) {
        std::fputs("usage: accept_all QUEUE\n", stderr);
        return 2;
    }
    queue::QueueOptions options;
    options.number = static_cast<std::uint16_t>(std::atoi(argv[1]));
    auto queue = queue::NfQueue::open(options);
    if (!queue) {
        std::fprintf(stderr, "accept_all: %s\n", queue.error().message.c_str());
        return 1;
    }
    std::puts("ready");
    std::fflush(stdout);
    for (;;) {
        queue::Packet packet;
        const auto got = queue->receive(packet);
        if (!got) {
            std::fprintf(stderr, "accept_all: %s\n", got.error().message.c_str());
            return 1;
        }
        if (!*got) {
            pollfd readable{queue->fd(), POLLIN, 0};
            poll(&readable, 1, -1);
        } else if (**got == queue::Parsed::packet || **got == queue::Parsed::truncated) {
            (void)queue->verdict(packet.id, true, std::nullopt);
        }
    }
}
