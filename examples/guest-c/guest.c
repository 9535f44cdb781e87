/* An example guest in C that makes each of the gateway calls: `run(port)` counts its runs in the key-value store, fetches
 * http://127.0.0.1:PORT/greeting, keeps the first line of what it got, and emits what it saw. examples/README.md shows it at work.
 *
 * No C library: what a guest needs is void.h and a buffer. */

#include "../bindings/c/void.h"

#define NAMESPACE VOID_STR("examples")
#define TRY(call)               \
    do {                        \
        int32_t code = (call);  \
        if (code < 0) return code; \
    } while (0)

/* Text under construction. What does not fit is cut. */
struct text {
    char bytes[512];
    size_t len;
};

static void put(struct text *text, const char *bytes, size_t len) {
    for (size_t i = 0; i < len && text->len < sizeof text->bytes; i++) text->bytes[text->len++] = bytes[i];
}

static void put_number(struct text *text, uint32_t number) {
    char digits[10];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    put(text, digits + at, sizeof digits - at);
}

/* The decimal number in `bytes`. */
static uint32_t number_in(const char *bytes, size_t len) {
    uint32_t number = 0;
    for (size_t i = 0; i < len && bytes[i] >= '0' && bytes[i] <= '9'; i++) number = number * 10 + (uint32_t)(bytes[i] - '0');
    return number;
}

/* How often this ran, this time included: read, add one, write. */
static int32_t count_visit(uint32_t *visits) {
    char kept[10];
    int32_t len = void_kv_get(NAMESPACE, VOID_STR("visits"), kept, sizeof kept);
    if (len < 0 && len != VOID_NOT_FOUND) return len;
    if (len > (int32_t)sizeof kept) return VOID_TOO_LARGE;
    *visits = 1 + number_in(kept, len < 0 ? 0 : (size_t)len);
    struct text now = {.len = 0};
    put_number(&now, *visits);
    return void_kv_set(NAMESPACE, VOID_STR("visits"), now.bytes, now.len);
}

/* What was fetched: its length, its FNV-1a hash, and how long its first line is. */
struct seen {
    uint32_t bytes, hash, first_line;
    char start[256];
};

static int32_t read_body(struct seen *seen) {
    char piece[1024];
    *seen = (struct seen){.hash = 2166136261u};
    int ended = 0;
    for (;;) {
        int32_t got = void_http_body(seen->bytes, piece, sizeof piece);
        if (got <= 0) return got;
        for (int32_t i = 0; i < got; i++) {
            seen->hash = (seen->hash ^ (uint8_t)piece[i]) * 16777619u;
            ended |= piece[i] == '\n' || seen->first_line == sizeof seen->start;
            if (!ended) seen->start[seen->first_line++] = piece[i];
        }
        seen->bytes += (uint32_t)got;
    }
}

/* Puts the kept answer's content type into `text`. Names of headers are in lower case. */
static int32_t put_content_type(struct text *text) {
    static const char name[] = "content-type: ";
    char headers[2048];
    int32_t len = void_http_headers(headers, sizeof headers);
    if (len < 0) return len;
    if (len > (int32_t)sizeof headers) return VOID_TOO_LARGE;
    size_t matched = 0;
    for (int32_t i = 0; i < len; i++) {
        if (headers[i] == '\n') {
            if (matched == sizeof name - 1) return 0;
            matched = 0;
        } else if (matched == sizeof name - 1) {
            put(text, headers + i, 1);
        } else {
            /* Once a line differs, no more of it can match. */
            matched = matched != SIZE_MAX && headers[i] == name[matched] ? matched + 1 : SIZE_MAX;
        }
    }
    return 0;
}

/* Returns how often it ran, or the code of the call that did nothing. */
__attribute__((export_name("run"))) int32_t run(int32_t port) {
    uint32_t visits;
    TRY(count_visit(&visits));

    struct text url = {.len = 0};
    put(&url, VOID_STR("http://127.0.0.1:"));
    put_number(&url, (uint32_t)port);
    put(&url, VOID_STR("/greeting"));
    int32_t status = void_http_fetch(VOID_STR("GET"), url.bytes, url.len, VOID_STR("accept: text/plain\n"), NULL, 0);
    if (status < 0) return status;
    struct seen seen;
    TRY(read_body(&seen));

    TRY(void_kv_set(NAMESPACE, VOID_STR("greeting"), seen.start, seen.first_line));
    /* Something that is not to stay. */
    TRY(void_kv_set(NAMESPACE, VOID_STR("scratch"), VOID_STR("1")));
    TRY(void_kv_delete(NAMESPACE, VOID_STR("scratch")));

    struct text data = {.len = 0};
    put(&data, VOID_STR("{\"from\":\"c\",\"visits\":"));
    put_number(&data, visits);
    put(&data, VOID_STR(",\"status\":"));
    put_number(&data, (uint32_t)status);
    put(&data, VOID_STR(",\"type\":\""));
    TRY(put_content_type(&data));
    put(&data, VOID_STR("\",\"bytes\":"));
    put_number(&data, seen.bytes);
    put(&data, VOID_STR(",\"fnv1a\":"));
    put_number(&data, seen.hash);
    put(&data, VOID_STR("}"));
    TRY(void_emit(VOID_STR("example.visited"), data.bytes, data.len));
    return (int32_t)visits;
}

/* Emits the greeting that the last `run` kept, of whichever language it was. Returns its length. */
__attribute__((export_name("recall"))) int32_t recall(void) {
    char greeting[256];
    int32_t len = void_kv_get(NAMESPACE, VOID_STR("greeting"), greeting, sizeof greeting);
    if (len < 0) return len;
    if (len > (int32_t)sizeof greeting) return VOID_TOO_LARGE;
    TRY(void_emit(VOID_STR("example.recalled"), greeting, (size_t)len));
    return len;
}

/* Removes what `run` kept. Returns how many keys there were. */
__attribute__((export_name("forget"))) int32_t forget(void) {
    int32_t visits = void_kv_delete(NAMESPACE, VOID_STR("visits"));
    TRY(visits);
    int32_t greeting = void_kv_delete(NAMESPACE, VOID_STR("greeting"));
    TRY(greeting);
    return visits + greeting;
}
