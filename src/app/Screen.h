// SPDX-License-Identifier: MIT
// Screen: what standard output is written to, and what people like there.
#pragma once

#include <cstddef>
#include <string>

namespace btblock::app {

struct Screen {
    bool terminal = false;
    bool color = false;
    std::size_t width = 0; // columns; 0: as wide as it gets

    // Of a file descriptor. Colour only on a terminal that is not "dumb", and not with NO_COLOR (https://no-color.org).
    static Screen of(int fd);

    [[nodiscard]] std::string bold(const std::string& text) const { return painted("1", text); }
    [[nodiscard]] std::string red(const std::string& text) const { return painted("31", text); }
    [[nodiscard]] std::string green(const std::string& text) const { return painted("32", text); }
    [[nodiscard]] std::string yellow(const std::string& text) const { return painted("33", text); }

private:
    [[nodiscard]] std::string painted(const char* attribute, const std::string& text) const {
        return color ? std::string("\x1b[") + attribute + "m" + text + "\x1b[0m" : text;
    }
};

} // namespace btblock::app
