/* The gateway calls of a guest, for C and C++. docs/abi.md is the reference; this file declares what stands there.
 *
 * Needs wasm32 and a compiler that knows the import attributes (clang, zig cc, wasi-sdk). Needs no C library.
 *
 * Memory: all of it is the guest's. Nothing is kept of what a call was given, and nothing is written beyond a capacity.
 * A pointer and a length that reach beyond the memory end the run. Text is UTF-8, without a terminating zero.
 *
 * Results: not negative is a success, negative is one of `enum void_code`.
 */
#ifndef VOID_H
#define VOID_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a call did nothing. */
enum void_code {
    VOID_DENIED = -1,       /* policy does not allow it; the run's record says which rule, and what would allow it */
    VOID_RATE_LIMITED = -2, /* too many in too short a time; later it may be allowed */
    VOID_TOO_LARGE = -3,    /* what was sent, or would be answered, is larger than allowed */
    VOID_INVALID = -4,      /* not UTF-8, or a name, URL, method or header that is none */
    VOID_NOT_FOUND = -5,    /* void_kv_get: no such key; void_http_*: nothing was fetched */
    VOID_FULL = -6,         /* the namespace has as many keys as it may */
    VOID_TIMED_OUT = -7,    /* the time ran out */
    VOID_UNREACHABLE = -8,  /* the host could not be reached, or broke off */
    VOID_UNAVAILABLE = -9   /* the service cannot do it now */
};

#define VOID_IMPORT(name) __attribute__((import_module("void"), import_name(name)))

/* Publishes an event of this name with this data (at most 64 KiB). Returns 0. */
VOID_IMPORT("emit")
int32_t void_emit(const char *event, size_t event_len, const void *data, size_t data_len);

/* Reads a key of a namespace; the empty namespace is the tenant's own, unnamed one. Returns the value's length. The value
 * is written only if it is not longer than `value_cap`: where the result is more, ask again with that much room. */
VOID_IMPORT("kv_get")
int32_t void_kv_get(const char *ns, size_t ns_len, const char *key, size_t key_len, void *value, size_t value_cap);

/* Writes a key. Returns 0. */
VOID_IMPORT("kv_set")
int32_t void_kv_set(const char *ns, size_t ns_len, const char *key, size_t key_len, const void *value, size_t value_len);

/* Removes a key. Returns 1, or 0 where there was nothing. */
VOID_IMPORT("kv_delete")
int32_t void_kv_delete(const char *ns, size_t ns_len, const char *key, size_t key_len);

/* Fetches. `headers` is lines of `name: value`, each ended by a line feed; it may be empty. Returns the status code, 100 to 599,
 * whatever the server meant by it. The answer is kept on the service's side until the next fetch. */
VOID_IMPORT("http_fetch")
int32_t void_http_fetch(const char *method, size_t method_len, const char *url, size_t url_len, const char *headers,
                        size_t headers_len, const void *body, size_t body_len);

/* The kept answer's headers, as lines of `name: value`. Returns their length; they are written only if that is not more
 * than `out_cap`. Not a gateway call: it counts against nothing. */
VOID_IMPORT("http_headers") int32_t void_http_headers(char *out, size_t out_cap);

/* The length of the kept answer's body. Not a gateway call. */
VOID_IMPORT("http_body_len") int32_t void_http_body_len(void);

/* Copies the kept answer's body from `offset` on, at most `out_cap` bytes. Returns how many were written; 0 is the end. Not a
 * gateway call. */
VOID_IMPORT("http_body") int32_t void_http_body(size_t offset, void *out, size_t out_cap);

/* A string literal as pointer and length: void_emit(VOID_STR("greeting"), VOID_STR("hello")). */
#define VOID_STR(literal) ("" literal), (sizeof(literal) - 1)

#ifdef __cplusplus
}
static_assert(sizeof(size_t) == 4, "void.h is for wasm32");
#else
_Static_assert(sizeof(size_t) == 4, "void.h is for wasm32");
#endif

#endif
