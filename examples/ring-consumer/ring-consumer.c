// SPDX-License-Identifier: MIT
/*
 * Reads the events of btblock's kernel programs while the daemon is away, and prints JSON lines in the shape of
 * `btblock events -o json`. docs/ring-consumer.md explains it.
 *
 *     cc -O2 -I../../include ring-consumer.c $(pkg-config --cflags --libs libbpf) -o ring-consumer
 *     ring-consumer [-1] [INSTANCE]        -1: what waits now, then end; without it until SIGINT or SIGTERM
 *
 * Exit codes: 0 fine; 1 it failed; 2 usage; 5 the daemon runs, whose events these are.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "btblock/abi.h"

static const char* const evidence_names[] = {BT_EVIDENCE_NAMES};
_Static_assert(sizeof evidence_names / sizeof *evidence_names == BT_EV_COUNT, "one name for each code");

static const char* const hooks[] = {"xdp", "ingress", "egress", "queue", "output", "offline"};
static const char* const actions[] = {"pass", "drop", "punt"};

static volatile sig_atomic_t stopped;

static void stop(int signal_number) {
    (void)signal_number;
    stopped = 1;
}

static const char* name_of(const char* const* names, size_t count, unsigned number) {
    return number < count ? names[number] : "unknown";
}

/* Whether somebody answers on the control socket: then the daemon reads the ring, and two readers would each get a
 * part. */
static int daemon_runs(const char* instance) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int runs, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    snprintf(name.sun_path, sizeof name.sun_path, "/run/btblock/%s/control.sock", instance);
    runs = connect(fd, (struct sockaddr*)&name, sizeof name) == 0;
    close(fd);
    return runs;
}

static void print_text(const char* text) {
    putchar('"');
    for (; *text; ++text) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* IPv4 addresses are mapped into IPv6: ::ffff:a.b.c.d */
static const char* address_text(const struct bt_addr* a, char text[INET6_ADDRSTRLEN]) {
    struct in6_addr v6;

    memcpy(&v6, a->b, sizeof v6);
    if (IN6_IS_ADDR_V4MAPPED(&v6))
        inet_ntop(AF_INET, a->b + 12, text, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, &v6, text, INET6_ADDRSTRLEN);
    return text;
}

/* The records hold CLOCK_MONOTONIC; people and SIEMs want the time of day. */
static void print_time(bt_u64 monotonic_ns) {
    struct timespec wall, monotonic;
    char date[32], zone[8];
    struct tm broken_down;
    long long ns;
    time_t seconds;

    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    ns = (wall.tv_sec - monotonic.tv_sec) * 1000000000LL + wall.tv_nsec - monotonic.tv_nsec + (long long)monotonic_ns;
    seconds = (time_t)(ns / 1000000000LL);
    localtime_r(&seconds, &broken_down);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &broken_down);
    strftime(zone, sizeof zone, "%z", &broken_down);
    printf("\"%s.%06lld%s\"", date, ns % 1000000000LL / 1000, zone);
}

static int print_event(void* context, void* data, size_t size) {
    char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], device[IF_NAMESIZE] = "";
    const char* separator = "";
    struct bt_event e;
    unsigned code;

    (void)context;
    if (size != sizeof e)
        return 0; /* of another version */
    memcpy(&e, data, sizeof e);
    address_text(&e.tuple.src, src);
    address_text(&e.tuple.dst, dst);
    printf("{\"timestamp\":");
    print_time(e.time_ns);
    printf(
        ",\"event_type\":\"%s\",\"src_ip\":\"%s\",\"src_port\":%u,\"dest_ip\":\"%s\",\"dest_port\":%u,\"proto\":\"%s\"",
        e.kind == BT_K_CONDEMN ? "condemn" : "detection", src, e.tuple.sport, dst, e.tuple.dport,
        e.tuple.proto == IPPROTO_TCP ? "TCP" : "UDP");
    if (e.ifindex && if_indextoname(e.ifindex, device)) {
        printf(",\"in_iface\":");
        print_text(device);
    }
    printf(",\"btblock\":{\"evidence\":[");
    for (code = 0; code < BT_EV_COUNT; ++code) {
        if (e.evidence & BT_EV_BIT(code)) {
            printf("%s\"%s\"", separator, evidence_names[code]);
            separator = ",";
        }
    }
    printf("],\"action\":\"%s\"", name_of(actions, sizeof actions / sizeof *actions,
                                          e.monitor && e.action == BT_ACT_DROP ? BT_ACT_PASS : e.action));
    if (e.client_is)
        printf(",\"client\":\"%s\",\"peer\":\"%s\"", e.client_is == 1 ? src : dst, e.client_is == 1 ? dst : src);
    printf(",\"hook\":\"%s\",\"mode\":\"%s\",\"schema\":1}}\n", name_of(hooks, sizeof hooks / sizeof *hooks, e.hook),
           e.monitor ? "monitor" : "enforce");
    return fflush(stdout) == 0 ? 0 : -errno;
}

static int fail(const char* what, const char* name, const char* reason) {
    fprintf(stderr, "ring-consumer: %s%s: %s\n", what, name, reason);
    return 1;
}

int main(int argc, char** argv) {
    const struct sigaction on_stop = {.sa_handler = stop};
    const char* instance = "main";
    int once = 0, option, ring, got = 0;
    struct ring_buffer* events;
    char path[256];

    while ((option = getopt(argc, argv, "1h")) != -1) {
        if (option != '1') {
            fprintf(stderr, "usage: %s [-1] [INSTANCE]\n", argv[0]);
            return 2;
        }
        once = 1;
    }
    if (optind < argc)
        instance = argv[optind];
    if (optind + 1 < argc || strchr(instance, '/') || strlen(instance) > 32) {
        fprintf(stderr, "usage: %s [-1] [INSTANCE]\n", argv[0]);
        return 2;
    }
    if (daemon_runs(instance)) {
        fprintf(
            stderr,
            "ring-consumer: the daemon of '%s' runs and reads the ring; use `btblock --instance %s events --follow`\n",
            instance, instance);
        return 5;
    }
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);

    snprintf(path, sizeof path, "/sys/fs/bpf/btblock/%s/v%d/bt_events", instance, BT_ABI);
    ring = bpf_obj_get(path);
    if (ring < 0)
        return fail("", path, strerror(errno));
    events = ring_buffer__new(ring, print_event, NULL, NULL);
    if (!events)
        return fail("reading ", path, strerror(errno));
    if (once)
        got = ring_buffer__consume(events);
    while (!once && !stopped && got >= 0) {
        got = ring_buffer__poll(events, 500);
        if (got == -EINTR)
            got = 0;
        if (daemon_runs(instance)) {
            fprintf(stderr, "ring-consumer: the daemon has come back and reads the ring itself\n");
            break;
        }
    }
    ring_buffer__free(events);
    close(ring);
    return got < 0 ? fail("reading ", path, strerror(-got)) : 0;
}
