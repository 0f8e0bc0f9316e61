// SPDX-License-Identifier: MIT
#include "app/Run.h"

#include "app/Daemon.h"
#include "core/Config.h"
#include "core/Log.h"

#include <iostream>

namespace btblock::app {

namespace {

int fail(const Error& failure) {
    std::cerr << "btblock: " << failure.message << "\n";
    return static_cast<int>(failure.exit_code);
}

} // namespace

int run_main(const RunOptions& options) {
    ConfigSources sources;
    if (!options.config_file.empty())
        sources.file = options.config_file;
    sources.environment = predecessor_environment();
    sources.set = options.set;
    sources.interfaces = options.interfaces;
    sources.monitor_only = options.monitor_only;
    auto loaded = load_config(sources);
    if (!loaded)
        return fail(loaded.error());
    setup_log(loaded->config.log_level);
    auto daemon = Daemon::start(loaded->config, sources, options.instance);
    if (!daemon)
        return fail(daemon.error());
    return (*daemon)->run();
}

} // namespace btblock::app
