// SPDX-License-Identifier: MIT
// RouteSocket: dumps of rtnetlink objects from the calling thread's network namespace.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"
#include "net/Address.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

struct nlattr;
struct nlmsghdr;

namespace btblock::net {

class RouteSocket {
public:
    static Result<RouteSocket> open();

    // Calls `each` for every message of a dump of `type` (RTM_GETLINK, RTM_GETADDR, ...) in `family` (AF_*).
    // The kernel may say that objects changed underneath; then `restart` is called (forget what was collected) and the
    // dump begins again. Where changes never pause, the last of a few attempts counts: it can lack, or hold twice, what
    // changed meanwhile. A kernel without this kind of object has none of them: that is no error.
    Result<void> dump(std::uint16_t type, unsigned char family, const std::function<void()>& restart,
                      const std::function<void(const nlmsghdr*)>& each);
    // The same with the whole header of the request (ifinfomsg, tcmsg, ...; at most 64 bytes), which narrows the dump.
    Result<void> dump(std::uint16_t type, std::span<const std::byte> header, const std::function<void()>& restart,
                      const std::function<void(const nlmsghdr*)>& each);

private:
    explicit RouteSocket(Fd fd) noexcept : fd_(std::move(fd)) {}

    Fd fd_;
    std::uint32_t sequence_ = 0;
};

using AttributeVisitor = std::function<void(unsigned type, const nlattr* attribute)>;

// The attributes that follow a message's own header of `header_size` bytes, and those inside an attribute.
void for_each_attribute(const nlmsghdr* message, std::size_t header_size, const AttributeVisitor& visit);
void for_each_nested(const nlattr* attribute, const AttributeVisitor& visit);

// The text of an attribute, with or without a terminating NUL.
std::string attribute_string(const nlattr* attribute);
// A 32-bit number in host byte order; none if the attribute has another size.
std::optional<std::uint32_t> attribute_u32(const nlattr* attribute);
// The address in an attribute of a message of `family` (AF_INET, AF_INET6); none if the size does not fit.
std::optional<Address> attribute_address(const nlattr* attribute, unsigned char family);

} // namespace btblock::net
