/* SPDX-License-Identifier: MIT */
/*
 * ndpi_run: a capture of plain IP packets through libndpi in one thread, as its applications use it: a flow by its
 * 5-tuple, packets handed to the library until it has decided or the usual number of packets is reached.
 *   ndpi_run CAPTURE
 * Prints packets, flows, flows taken for BitTorrent, and the seconds from the first packet to the last.
 */
#include <ndpi_api.h>
#include <pcap/pcap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TCP_PACKETS = 80, UDP_PACKETS = 24 }; /* what ndpiReader gives a flow */

struct key {
    uint8_t low[16], high[16]; /* the two addresses in order, IPv4 in the first four bytes */
    uint16_t low_port, high_port;
    uint8_t proto, version, pad[2];
};

struct flow {
    struct key key;
    struct flow* next;
    struct ndpi_flow_struct* state; /* NULL: decided */
    uint32_t packets;
    uint8_t is_bittorrent;
};

static struct flow** buckets;
static size_t bucket_count = 1 << 16, flow_count;

static void fail(const char* what) {
    fprintf(stderr, "ndpi_run: %s\n", what);
    exit(1);
}

static uint64_t hash(const struct key* k) {
    uint64_t words[sizeof(*k) / 8], h = 1;
    size_t i;

    memcpy(words, k, sizeof(words));
    for (i = 0; i < sizeof(words) / 8; i++) {
        h = (h ^ words[i]) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 29;
    }
    return h;
}

static void grow(void) {
    size_t old = bucket_count, i;
    struct flow** fresh = calloc(bucket_count *= 2, sizeof(*fresh));

    if (!fresh)
        fail("out of memory");
    for (i = 0; i < old; i++)
        while (buckets[i]) {
            struct flow *f = buckets[i], **to = &fresh[hash(&f->key) & (bucket_count - 1)];

            buckets[i] = f->next;
            f->next = *to;
            *to = f;
        }
    free(buckets);
    buckets = fresh;
}

static struct flow* flow_of(const struct key* key) {
    struct flow **at = &buckets[hash(key) & (bucket_count - 1)], *f;

    for (f = *at; f; f = f->next)
        if (!memcmp(&f->key, key, sizeof(*key)))
            return f;
    if (flow_count++ > bucket_count) {
        grow();
        at = &buckets[hash(key) & (bucket_count - 1)];
    }
    f = calloc(1, sizeof(*f));
    if (!f || !(f->state = ndpi_flow_malloc(SIZEOF_FLOW_STRUCT)))
        fail("out of memory");
    memset(f->state, 0, SIZEOF_FLOW_STRUCT);
    f->key = *key;
    f->next = *at;
    *at = f;
    return f;
}

/* 0: neither TCP nor UDP, or cut before the ports. */
static int key_of(const uint8_t* p, uint32_t len, struct key* k) {
    uint32_t at, size;
    const uint8_t *src, *dst;
    uint16_t sport, dport;
    int order;

    memset(k, 0, sizeof(*k));
    if (len >= 20 && p[0] >> 4 == 4) {
        at = (p[0] & 15) * 4u;
        k->proto = p[9];
        src = p + 12;
        size = 4;
    } else if (len >= 40 && p[0] >> 4 == 6) {
        at = 40;
        k->proto = p[6];
        src = p + 8;
        size = 16;
    } else {
        return 0;
    }
    if ((k->proto != 6 && k->proto != 17) || len < at + 8)
        return 0;
    dst = src + size;
    k->version = p[0] >> 4;
    sport = (uint16_t)(p[at] << 8 | p[at + 1]);
    dport = (uint16_t)(p[at + 2] << 8 | p[at + 3]);
    order = memcmp(src, dst, size);
    if (order > 0 || (!order && sport > dport)) {
        const uint8_t* other = src;
        uint16_t port = sport;

        src = dst;
        dst = other;
        sport = dport;
        dport = port;
    }
    memcpy(k->low, src, size);
    memcpy(k->high, dst, size);
    k->low_port = sport;
    k->high_port = dport;
    return 1;
}

static int is_bittorrent(ndpi_protocol p) {
    return p.master_protocol == NDPI_PROTOCOL_BITTORRENT || p.app_protocol == NDPI_PROTOCOL_BITTORRENT;
}

static void finish(struct ndpi_detection_module_struct* module, struct flow* f) {
    u_int8_t guessed = 0;

    f->is_bittorrent |= is_bittorrent(ndpi_detection_giveup(module, f->state, 1, &guessed));
    ndpi_free_flow(f->state);
    f->state = NULL;
}

int main(int argc, char** argv) {
    struct ndpi_detection_module_struct* module = ndpi_init_detection_module(ndpi_no_prefs);
    NDPI_PROTOCOL_BITMASK wanted;
    char reason[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr* header;
    const u_char* bytes;
    struct timespec from, to;
    unsigned long packets = 0, bittorrent = 0;
    pcap_t* capture;
    size_t i;
    int got;

    if (argc != 2 || !module)
        fail("usage: ndpi_run CAPTURE");
    NDPI_BITMASK_SET_ALL(wanted);
    ndpi_set_protocol_detection_bitmask2(module, &wanted);
    ndpi_finalize_initialization(module);
    capture = pcap_open_offline(argv[1], reason);
    if (!capture)
        fail(reason);
    if (pcap_datalink(capture) != DLT_RAW)
        fail("not a capture of plain IP packets");
    buckets = calloc(bucket_count, sizeof(*buckets));
    if (!buckets)
        fail("out of memory");

    clock_gettime(CLOCK_MONOTONIC, &from);
    while ((got = pcap_next_ex(capture, &header, &bytes)) == 1) {
        struct key key;
        struct flow* f;
        ndpi_protocol found;

        packets++;
        if (!key_of(bytes, header->caplen, &key))
            continue;
        f = flow_of(&key);
        f->packets++;
        if (!f->state)
            continue;
        found =
            ndpi_detection_process_packet(module, f->state, bytes, (unsigned short)header->caplen,
                                          (u_int64_t)header->ts.tv_sec * 1000 + (u_int64_t)header->ts.tv_usec / 1000);
        f->is_bittorrent |= is_bittorrent(found);
        if ((found.app_protocol != NDPI_PROTOCOL_UNKNOWN && !ndpi_extra_dissection_possible(module, f->state)) ||
            f->packets >= (key.proto == 6 ? TCP_PACKETS : UDP_PACKETS))
            finish(module, f);
    }
    if (got == PCAP_ERROR)
        fail(pcap_geterr(capture));
    for (i = 0; i < bucket_count; i++) {
        struct flow* f;

        for (f = buckets[i]; f; f = f->next) {
            if (f->state)
                finish(module, f);
            bittorrent += f->is_bittorrent;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("{\"packets\": %lu, \"flows\": %zu, \"bittorrent\": %lu, \"seconds\": %.6f, \"version\": \"%s\"}\n", packets,
           flow_count, bittorrent, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
           ndpi_revision());
    return 0;
}
