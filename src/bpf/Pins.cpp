// SPDX-License-Identifier: MIT
#include "bpf/Pins.h"

#include "btblock/abi.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace btblock::bpf {

namespace {

const std::string product_dir = std::string(bpffs_root) + "/btblock";

// Children of a directory, sorted; empty when it cannot be read.
std::vector<fs::path> children(const fs::path& dir) {
    std::vector<fs::path> found;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(dir, ignored))
        found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
}

} // namespace

std::string Pins::instance_dir() const {
    return product_dir + "/" + instance;
}

std::string Pins::abi_dir() const {
    return instance_dir() + "/v" + std::to_string(BT_ABI);
}

std::string Pins::link_dir() const {
    return abi_dir() + "/links";
}

std::string Pins::link(const std::string& interface, const std::string& hook) const {
    std::string name = hook + "-" + interface;
    std::replace(name.begin(), name.end(), '.', ':');
    return link_dir() + "/" + name;
}

std::string Pins::run_dir() const {
    return "/run/btblock/" + instance;
}

std::string Pins::state_dir() const {
    return "/var/lib/btblock/" + instance;
}

Result<void> ensure_bpffs() {
    struct statfs info {};
    if (statfs(bpffs_root, &info) == 0 && static_cast<unsigned long>(info.f_type) == BPF_FS_MAGIC)
        return {};
    std::error_code ignored;
    fs::create_directories(bpffs_root, ignored); // sysfs provides the directory; a bare container may not
    if (mount("bpf", bpffs_root, "bpf", 0, "mode=0700") < 0)
        return errno_error(std::string("mounting the BPF file system at ") + bpffs_root);
    return {};
}

Result<void> make_pin_dirs(const Pins& pins) {
    for (const std::string& dir : {product_dir, pins.instance_dir(), pins.abi_dir(), pins.link_dir()})
        if (mkdir(dir.c_str(), 0700) < 0 && errno != EEXIST)
            return errno_error(dir);
    return {};
}

std::vector<PinnedLink> pinned_links(const Pins& pins) {
    std::vector<PinnedLink> links;
    for (const fs::path& path : children(pins.link_dir())) {
        std::string name = path.filename();
        std::replace(name.begin(), name.end(), ':', '.');
        if (const auto dash = name.find('-'); dash != std::string::npos)
            links.push_back({path, name.substr(dash + 1), name.substr(0, dash)});
    }
    return links;
}

std::vector<std::string> pinned_instances() {
    std::vector<std::string> names;
    for (const fs::path& path : children(product_dir))
        names.push_back(path.filename());
    return names;
}

bool maps_pinned(const Pins& pins) {
    std::error_code ignored;
    return fs::exists(pins.map("bt_config"), ignored);
}

std::vector<std::string> other_abi_dirs(const Pins& pins) {
    std::vector<std::pair<int, std::string>> found;
    for (const fs::path& path : children(pins.instance_dir())) {
        const std::string name = path.filename();
        if (name.size() > 1 && name[0] == 'v' && path.string() != pins.abi_dir())
            found.emplace_back(std::atoi(name.c_str() + 1), path);
    }
    std::sort(found.rbegin(), found.rend());
    std::vector<std::string> dirs;
    for (auto& [version, path] : found)
        dirs.push_back(std::move(path));
    return dirs;
}

Result<void> adopt_links(const Pins& pins) {
    for (const std::string& dir : other_abi_dirs(pins))
        for (const fs::path& link : children(fs::path(dir) / "links")) {
            const std::string ours = pins.link_dir() + "/" + link.filename().string();
            std::error_code ignored;
            if (fs::exists(ours, ignored))
                continue; // left for remove_other_abis: one of ours is in force
            if (rename(link.c_str(), ours.c_str()) < 0)
                return errno_error("taking over " + link.string());
        }
    return {};
}

namespace {

Result<int> remove_version(const fs::path& version) {
    std::vector<fs::path> files = children(version / "links");
    for (const fs::path& map : children(version))
        if (map.filename() != "links")
            files.push_back(map);
    for (const fs::path& file : files)
        if (unlink(file.c_str()) < 0 && errno != ENOENT)
            return errno_error(file);
    for (const fs::path& dir : {version / "links", version})
        if (rmdir(dir.c_str()) < 0 && errno != ENOENT)
            return errno_error(dir);
    return static_cast<int>(files.size());
}

} // namespace

Result<void> remove_other_abis(const Pins& pins) {
    for (const std::string& dir : other_abi_dirs(pins))
        if (auto removed = remove_version(dir); !removed)
            return removed.error();
    return {};
}

Result<int> remove_pins(const Pins& pins) {
    int removed = 0;
    for (const fs::path& version : children(pins.instance_dir())) {
        auto gone = remove_version(version);
        if (!gone)
            return gone;
        removed += *gone;
    }
    // The last stays while another instance has pins, and in a sandbox that may only write below it.
    for (const std::string& dir : {pins.instance_dir(), product_dir})
        if (rmdir(dir.c_str()) < 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EROFS)
            return errno_error(dir);
    return removed;
}

} // namespace btblock::bpf
