// SPDX-License-Identifier: MIT
// Result<T>: a value or an Error. Recoverable failures are values, not exceptions.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

namespace btblock {

// The program's exit codes (README, "Exit codes").
enum class ExitCode : int {
    ok = 0,
    failure = 1,
    usage = 2,
    daemon_unreachable = 3,
    degraded = 4,
    refused = 5,
};

struct Error {
    std::string message;
    ExitCode exit_code = ExitCode::failure;
};

inline Error error(std::string message, ExitCode code = ExitCode::failure) {
    return Error{std::move(message), code};
}

// "WHAT: strerror(err)"
inline Error errno_error(const std::string& what, int err = errno) {
    return Error{what + ": " + std::generic_category().message(err), ExitCode::failure};
}

template <typename T> class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    explicit operator bool() const noexcept { return state_.index() == 0; }
    T& operator*() & { return std::get<0>(state_); }
    const T& operator*() const& { return std::get<0>(state_); }
    T operator*() && { return std::get<0>(std::move(state_)); } // by value: `for (x : *f())` must not dangle
    T* operator->() { return &std::get<0>(state_); }
    const T* operator->() const { return &std::get<0>(state_); }
    [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

private:
    std::variant<T, Error> state_;
};

template <> class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error failure) : failed_(true), failure_(std::move(failure)) {}

    explicit operator bool() const noexcept { return !failed_; }
    [[nodiscard]] const Error& error() const { return failure_; }

private:
    bool failed_ = false;
    Error failure_;
};

} // namespace btblock
