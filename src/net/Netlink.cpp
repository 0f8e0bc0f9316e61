// SPDX-License-Identifier: MIT
#include "net/Netlink.h"

#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <memory>
#include <sys/socket.h>
#include <sys/time.h>

namespace btblock::net {

namespace {

constexpr std::size_t buffer_size = 64 * 1024; // the kernel fills at most 32 KiB of a dump at once
constexpr int attempts = 4;                    // of a dump that changes keep interrupting
constexpr std::size_t longest_request = 64;    // of what follows the message header

enum class DumpEnd { complete, interrupted, unsupported };

// The error number that an NLMSG_ERROR or NLMSG_DONE message carries, 0 for none.
int message_error(const nlmsghdr* message) {
    if (mnl_nlmsg_get_payload_len(message) < sizeof(int))
        return 0;
    int code = 0;
    std::memcpy(&code, mnl_nlmsg_get_payload(message), sizeof code);
    return -code;
}

// Reads one whole dump, also when it was interrupted, so that the socket is clean for the next.
Result<DumpEnd> receive_dump(int fd, std::uint32_t sequence, const std::function<void(const nlmsghdr*)>& each) {
    const std::unique_ptr<char[]> buffer(new char[buffer_size]);
    bool interrupted = false;
    for (;;) {
        const ssize_t received = recv(fd, buffer.get(), buffer_size, MSG_TRUNC);
        if (received < 0 && errno == EINTR)
            continue;
        if (received < 0)
            return errno_error("reading from rtnetlink");
        if (static_cast<std::size_t>(received) > buffer_size)
            return error("reading from rtnetlink: a message of " + std::to_string(received) + " bytes");
        int left = static_cast<int>(received);
        for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer.get()); mnl_nlmsg_ok(message, left);
             message = mnl_nlmsg_next(message, &left)) {
            if (message->nlmsg_seq != sequence)
                continue;
            interrupted |= (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            const bool failed = message->nlmsg_type == NLMSG_ERROR;
            if (failed || message->nlmsg_type == NLMSG_DONE) {
                const int code = message_error(message);
                if (code == EOPNOTSUPP || code == EAFNOSUPPORT)
                    return DumpEnd::unsupported;
                if (code > 0)
                    return errno_error("rtnetlink dump", code);
                return interrupted ? DumpEnd::interrupted : DumpEnd::complete;
            }
            each(message);
        }
    }
}

} // namespace

Result<RouteSocket> RouteSocket::open() {
    Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!fd)
        return errno_error("opening an rtnetlink socket");
    const timeval patience{.tv_sec = 5, .tv_usec = 0}; // rather an error than a daemon that hangs
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return RouteSocket(std::move(fd));
}

Result<void> RouteSocket::dump(std::uint16_t type, unsigned char family, const std::function<void()>& restart,
                               const std::function<void(const nlmsghdr*)>& each) {
    const rtgenmsg general{.rtgen_family = family};
    return dump(type, std::as_bytes(std::span(&general, 1)), restart, each);
}

Result<void> RouteSocket::dump(std::uint16_t type, std::span<const std::byte> body,
                               const std::function<void()>& restart, const std::function<void(const nlmsghdr*)>& each) {
    if (body.size() > longest_request)
        return error("asking rtnetlink: a header of " + std::to_string(body.size()) + " bytes");
    for (int attempt = 0; attempt < attempts; ++attempt) {
        if (attempt > 0)
            restart();
        alignas(nlmsghdr) char request[MNL_ALIGN(sizeof(nlmsghdr)) + longest_request] = {};
        auto* header = mnl_nlmsg_put_header(request);
        header->nlmsg_type = type;
        header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        header->nlmsg_seq = ++sequence_;
        std::memcpy(mnl_nlmsg_put_extra_header(header, body.size()), body.data(), body.size());

        const sockaddr_nl kernel{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
        if (sendto(fd_.get(), request, header->nlmsg_len, 0, reinterpret_cast<const sockaddr*>(&kernel),
                   sizeof kernel) < 0)
            return errno_error("asking rtnetlink");
        auto end = receive_dump(fd_.get(), sequence_, each);
        if (!end)
            return end.error();
        if (*end != DumpEnd::interrupted)
            break;
    }
    return {};
}

namespace {

int visit_attribute(const nlattr* attribute, void* context) {
    (*static_cast<const AttributeVisitor*>(context))(mnl_attr_get_type(attribute), attribute);
    return MNL_CB_OK;
}

} // namespace

void for_each_attribute(const nlmsghdr* message, std::size_t header_size, const AttributeVisitor& visit) {
    mnl_attr_parse(message, static_cast<unsigned>(header_size), visit_attribute, const_cast<AttributeVisitor*>(&visit));
}

void for_each_nested(const nlattr* attribute, const AttributeVisitor& visit) {
    mnl_attr_parse_nested(attribute, visit_attribute, const_cast<AttributeVisitor*>(&visit));
}

std::string attribute_string(const nlattr* attribute) {
    const auto* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
    return {text, strnlen(text, mnl_attr_get_payload_len(attribute))};
}

std::optional<std::uint32_t> attribute_u32(const nlattr* attribute) {
    if (mnl_attr_get_payload_len(attribute) != sizeof(std::uint32_t))
        return std::nullopt;
    return mnl_attr_get_u32(attribute);
}

std::optional<Address> attribute_address(const nlattr* attribute, unsigned char family) {
    const std::size_t size = mnl_attr_get_payload_len(attribute);
    const void* bytes = mnl_attr_get_payload(attribute);
    if (family == AF_INET && size == 4)
        return Address::from_v4(bytes);
    if (family == AF_INET6 && size == 16)
        return Address::from_v6(bytes);
    return std::nullopt;
}

} // namespace btblock::net
