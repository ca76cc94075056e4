/* A worker of the fleet: does its work well until it is told to do it badly.
 *
 *   worker NAME TELL [-b] [-q] [-u UPSTREAM]
 *   worker --ask SOCKET                   exits with 0 if the worker there answers well: a probe
 *
 * Its main loop answers HTTP on $REGROW_STATE_DIR/http.sock: /health says 200, /ready too, but with -u only if the
 * worker whose socket UPSTREAM is answers. It beats four times a second through NOTIFY_SOCKET: from its main loop, or
 * with -b from a thread of its own, with -q never. What it is to do badly comes as a datagram to $REGROW_STATE_DIR/ctl:
 *
 *   crash     a signal ends it                      hang      its main loop stands still
 *   spin      the same, and it burns a processor     deaf      requests are taken and not answered
 *   slow N    answers take N ms more                 errors    every answer is 500
 *   leak N    holds N MiB more                       burst N   the next N answers are 500
 *
 * It tells the harness «NAME PID WORD NANOSECONDS» in a datagram to TELL: `up`, `fault` once it begins to be bad,
 * `missed` at the first look that it fails, `checked` at its first good answer to /health. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BEAT_MS = 250, HELD = 64 };

static const char *name, *upstream;
static struct sockaddr_un harness, notify;
static int tell_fd, notify_fd, door = -1;
static int quiet;
static volatile sig_atomic_t hangs, missed;

static struct sockaddr_un at(const char *path) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (path) strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Waits while the harness has no room; gives up if it is gone. */
static void tell(const char *word) {
    char line[160];
    int length = snprintf(line, sizeof line, "%s %d %s %lld", name, (int)getpid(), word, now_ns());
    while (sendto(tell_fd, line, (size_t)length, 0, (struct sockaddr *)&harness, sizeof harness) < 0 &&
           (errno == ENOBUFS || errno == EAGAIN || errno == EINTR))
        usleep(500);
}

static void say(const char *words) {
    if (notify.sun_path[0] && !(quiet && words[0] == 'W'))
        (void)!sendto(notify_fd, words, strlen(words), MSG_DONTWAIT, (struct sockaddr *)&notify, sizeof notify);
}

static int ready(int fd, int milliseconds) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, milliseconds) > 0;
}

/* Beats whatever the main loop does; who knocks while that stands still is a look that fails. */
static void *beats(void *unused) {
    (void)unused;
    for (;;) {
        say("WATCHDOG=1");
        if (hangs && !missed && ready(door, 0)) {
            missed = 1;
            tell("missed");
        }
        usleep(BEAT_MS * 1000 / (hangs ? 25 : 1));
    }
    return NULL;
}

static int asks_well(const char *path) {
    struct sockaddr_un there = at(path);
    char answer[16] = "";
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const char *request = "GET /health HTTP/1.1\r\nhost: up\r\n\r\n";
    int well = fd >= 0 && connect(fd, (struct sockaddr *)&there, sizeof there) == 0 &&
               send(fd, request, strlen(request), MSG_NOSIGNAL) > 0 && ready(fd, 500) &&
               read(fd, answer, sizeof answer - 1) > 0 && !strncmp(answer, "HTTP/1.1 200", 12);
    if (fd >= 0) close(fd);
    return well;
}

static void answer(int fd, int well) {
    const char *text = well ? "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nup\n"
                            : "HTTP/1.1 500 No\r\ncontent-length: 5\r\nconnection: close\r\n\r\nsick\n";
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (!strcmp(argv[1], "--ask")) return asks_well(argv[2]) ? 0 : 1;
    name = argv[1];
    harness = at(argv[2]);
    int threaded = 0;
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "-b")) threaded = 1;
        if (!strcmp(argv[i], "-q")) quiet = 1;
        if (!strcmp(argv[i], "-u") && i + 1 < argc) upstream = argv[++i];
    }
    const char *home = getenv("REGROW_STATE_DIR");
    if (!home || chdir(home)) return 2;
    tell_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    notify = at(getenv("NOTIFY_SOCKET"));
    struct sockaddr_un own = at("http.sock"), control = at("ctl");
    unlink(own.sun_path);
    unlink(control.sun_path);
    door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ctl = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(door, (struct sockaddr *)&own, sizeof own) || listen(door, 128)) return 2;
    if (bind(ctl, (struct sockaddr *)&control, sizeof control)) return 2;
    tell("up");
    say("READY=1");
    pthread_t thread;
    if (threaded && pthread_create(&thread, NULL, beats, NULL)) return 2;

    int deaf = 0, slow = 0, bad = 0, checked = 0;
    int held[HELD], holds = 0;
    for (;;) {
        struct pollfd both[2] = {{.fd = door, .events = POLLIN}, {.fd = ctl, .events = POLLIN}};
        if (poll(both, 2, threaded || quiet ? -1 : BEAT_MS) < 0 && errno != EINTR) return 2;
        if (!threaded) say("WATCHDOG=1");
        if (both[1].revents & POLLIN) {
            char order[64] = "";
            if (recv(ctl, order, sizeof order - 1, 0) <= 0) continue;
            int number = atoi(strchr(order, ' ') ? strchr(order, ' ') : "0");
            tell("fault");
            if (!strncmp(order, "crash", 5)) raise(SIGSEGV);
            if (!strncmp(order, "deaf", 4)) deaf = 1;
            if (!strncmp(order, "slow", 4)) slow = number;
            if (!strncmp(order, "errors", 6)) bad = -1;
            if (!strncmp(order, "burst", 5)) bad = number;
            if (!strncmp(order, "leak", 4)) {
                char *more = malloc((size_t)number << 20);
                if (more) memset(more, 1, (size_t)number << 20);
            }
            if (!strncmp(order, "hang", 4) || !strncmp(order, "spin", 4)) {
                hangs = 1;
                for (;;)
                    if (order[0] == 'h') pause();
            }
        }
        if (!(both[0].revents & POLLIN)) continue;
        int guest = accept4(door, NULL, NULL, SOCK_CLOEXEC);
        if (guest < 0) continue;
        char request[512] = "";
        if (!ready(guest, 1000) || read(guest, request, sizeof request - 1) <= 0) {
            close(guest);
            continue;
        }
        int is_health = !strncmp(request, "GET /health", 11);
        if (deaf || slow || bad) {
            if (!missed) tell("missed");
            missed = 1;
        }
        for (int spent = 0; spent < slow; spent += BEAT_MS) {
            if (!threaded) say("WATCHDOG=1");
            usleep(BEAT_MS * 1000);
        }
        if (deaf) {
            if (holds == HELD) close(held[--holds]);
            held[holds++] = guest;
            continue;
        }
        if (bad) {
            if (bad > 0) bad--;
            answer(guest, 0);
            continue;
        }
        int well = is_health || !upstream || asks_well(upstream);
        answer(guest, well);
        if (is_health && !checked) {
            checked = 1;
            tell("checked");
        }
    }
}
