// SPDX-License-Identifier: MIT
// The DHT's messages (KRPC): BEP 5, 32 (IPv6), 42 (ip), 43 (ro), 44 (get, put), 51 (sample_infohashes).
#pragma once

#include "detect/EndpointSink.h"
#include "detect/Finding.h"

namespace btblock::detect {

// Judges one whole datagram: exactly one dictionary with y, t and the parts that y demands. Unknown keys are allowed,
// an unknown query name only weighs. Adds the values (peers) and nodes of a response to `named`.
Finding inspect_dht(Bytes datagram, EndpointSink& named) noexcept;

} // namespace btblock::detect
