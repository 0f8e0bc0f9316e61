// SPDX-License-Identifier: MIT
// LinkWatcher: tells when interfaces appear, go, or change their addresses, in the network namespace it was opened in.
#pragma once

#include "core/Fd.h"
#include "core/Result.h"
#include "net/Address.h"

#include <compare>
#include <map>
#include <set>
#include <string>
#include <vector>

struct nlmsghdr;

namespace btblock::net {

struct LinkEvent {
    enum class Kind {
        appeared,          // a new interface; also one that was renamed to this name
        gone,              // deleted, moved to another namespace, or renamed from this name
        addresses_changed, // of this interface, IPv4 or IPv6
        resync,            // messages were lost: look at everything again; no name, no ifindex
    };
    Kind kind = Kind::resync;
    std::string name;
    unsigned ifindex = 0;

    friend bool operator==(const LinkEvent&, const LinkEvent&) = default;
};

class LinkWatcher {
public:
    // What exists at this moment yields no events.
    static Result<LinkWatcher> open();

    // Readable when read() may have something to tell; belongs to the watcher.
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

    // Never blocks; empty when nothing changed. Changes of state only (carrier, up, lifetimes) are no events.
    std::vector<LinkEvent> read();

private:
    struct Assigned {
        unsigned ifindex;
        Address address;
        unsigned length;
        friend auto operator<=>(const Assigned&, const Assigned&) = default; // NOLINT(modernize-use-nullptr): not ours
    };

    explicit LinkWatcher(Fd fd) noexcept : fd_(std::move(fd)) {}

    Result<void> load();
    void link_message(const nlmsghdr* message, std::vector<LinkEvent>& events);
    void address_message(const nlmsghdr* message, std::vector<LinkEvent>& events);

    Fd fd_;
    std::map<unsigned, std::string> names_;
    std::set<Assigned> addresses_;
};

} // namespace btblock::net
