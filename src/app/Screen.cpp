// SPDX-License-Identifier: MIT
#include "app/Screen.h"

#include <cstdlib>
#include <string_view>

#include <sys/ioctl.h>
#include <unistd.h>

namespace btblock::app {

namespace {

std::string_view variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

} // namespace

Screen Screen::of(int fd) {
    Screen screen;
    screen.terminal = isatty(fd) == 1;
    if (!screen.terminal)
        return screen;
    screen.color = variable("NO_COLOR").empty() && variable("TERM") != "dumb";
    winsize size{};
    screen.width = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    return screen;
}

} // namespace btblock::app
