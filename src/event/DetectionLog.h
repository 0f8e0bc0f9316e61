// SPDX-License-Identifier: MIT
// DetectionLog: detections with the first bytes of the packet, in the blocks of btblocker's log, whose readers go on
// working. The only place where payload is written, and only on request.
#pragma once

#include "event/AppendFile.h"
#include "event/Sink.h"

#include <memory>
#include <string>

namespace btblock::event {

// One block: heading, hex dump, printable characters, and the blank line after it.
std::string detection_block(const Event& event, const PacketStart& packet);

class DetectionLog : public Sink {
public:
    // The file is readable for its owner only, and is never a symbolic link.
    static Result<std::unique_ptr<DetectionLog>> open(std::string path);

    void write(const Event& event) override { write_packet(event, {}); }
    void write_packet(const Event& event, const PacketStart& packet) override;
    void reopen() override { file_.reopen(); }
    [[nodiscard]] std::uint64_t failed() const noexcept override { return file_.failed(); }

private:
    explicit DetectionLog(AppendFile file) : file_(std::move(file)) {}

    AppendFile file_;
};

} // namespace btblock::event
