/**
 * The gateway calls of a guest, for AssemblyScript. docs/abi.md is the reference.
 *
 * Strings cross as UTF-8; values and bodies are `ArrayBuffer`s. Nothing is kept of what a call was given, so the garbage
 * collector may have it afterwards. Results are codes: not negative is a success, negative is one of `Code`.
 *
 * Compile with `--use abort=`: the service has no module `env`, and refuses a guest that imports from it.
 */

// @ts-ignore: decorator
@external("void", "emit")
declare function void_emit(event: usize, event_len: usize, data: usize, data_len: usize): i32;
// @ts-ignore: decorator
@external("void", "kv_get")
declare function void_kv_get(
  ns: usize, ns_len: usize, key: usize, key_len: usize, value: usize, value_cap: usize): i32;
// @ts-ignore: decorator
@external("void", "kv_set")
declare function void_kv_set(
  ns: usize, ns_len: usize, key: usize, key_len: usize, value: usize, value_len: usize): i32;
// @ts-ignore: decorator
@external("void", "kv_delete")
declare function void_kv_delete(ns: usize, ns_len: usize, key: usize, key_len: usize): i32;
// @ts-ignore: decorator
@external("void", "http_fetch")
declare function void_http_fetch(
  method: usize, method_len: usize, url: usize, url_len: usize,
  headers: usize, headers_len: usize, body: usize, body_len: usize): i32;
// @ts-ignore: decorator
@external("void", "http_headers")
declare function void_http_headers(out: usize, out_cap: usize): i32;
// @ts-ignore: decorator
@external("void", "http_body_len")
declare function void_http_body_len(): i32;
// @ts-ignore: decorator
@external("void", "http_body")
declare function void_http_body(offset: usize, out: usize, out_cap: usize): i32;

/** Why a call did nothing. */
export enum Code {
  /** Policy does not allow it; the run's record says which rule, and what would allow it. */
  Denied = -1,
  /** Too many in too short a time; later it may be allowed. */
  RateLimited = -2,
  /** What was sent, or would be answered, is larger than allowed. */
  TooLarge = -3,
  /** Not UTF-8, or a name, URL, method or header that is none. */
  Invalid = -4,
  /** No such key; or, of `http`, nothing was fetched. */
  NotFound = -5,
  /** The namespace has as many keys as it may. */
  Full = -6,
  /** The time ran out. */
  TimedOut = -7,
  /** The host could not be reached, or broke off. */
  Unreachable = -8,
  /** The service cannot do it now. */
  Unavailable = -9,
}

/** Bytes, or the code that says why there are none. */
export class Bytes {
  constructor(
    /** A `Code`, or 0. */
    public code: i32,
    /** What was read; empty where `code` is not 0. */
    public data: ArrayBuffer,
  ) {}

  /** The bytes as text. */
  text(): string {
    return String.UTF8.decode(this.data);
  }
}

/** The bytes of a text. */
export function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

// @ts-ignore: decorator
@inline
function at(buffer: ArrayBuffer): usize {
  return changetype<usize>(buffer);
}

function failed(code: i32): Bytes {
  return new Bytes(code, new ArrayBuffer(0));
}

/** Publishes an event of this name with this data, at most 64 KiB. Returns 0. */
export function emit(event: string, data: ArrayBuffer): i32 {
  const name = utf8(event);
  return void_emit(at(name), name.byteLength, at(data), data.byteLength);
}

/** The tenant's keys and values. The empty namespace is the unnamed one. */
export namespace kv {
  /** A key's value. */
  export function get(namespace: string, key: string): Bytes {
    const ns = utf8(namespace);
    const name = utf8(key);
    let value = new ArrayBuffer(256);
    while (true) {
      const len = void_kv_get(at(ns), ns.byteLength, at(name), name.byteLength, at(value), value.byteLength);
      if (len < 0) return failed(len);
      if (len <= value.byteLength) return new Bytes(0, value.slice(0, len));
      value = new ArrayBuffer(len);
    }
  }

  /** Writes a key. Returns 0. */
  export function set(namespace: string, key: string, value: ArrayBuffer): i32 {
    const ns = utf8(namespace);
    const name = utf8(key);
    return void_kv_set(at(ns), ns.byteLength, at(name), name.byteLength, at(value), value.byteLength);
  }

  /** Removes a key. Returns 1, or 0 where there was nothing. */
  export function remove(namespace: string, key: string): i32 {
    const ns = utf8(namespace);
    const name = utf8(key);
    return void_kv_delete(at(ns), ns.byteLength, at(name), name.byteLength);
  }
}

/** One request at a time: the answer is kept by the service until the next `fetch`. */
export namespace http {
  /** Fetches. `headers` is lines of `name: value`, each ended by a line feed. Returns the status code, 100 to 599. */
  export function fetch(
    method: string, url: string, headers: string = "", body: ArrayBuffer = new ArrayBuffer(0)): i32 {
    const verb = utf8(method);
    const address = utf8(url);
    const lines = utf8(headers);
    return void_http_fetch(
      at(verb), verb.byteLength, at(address), address.byteLength,
      at(lines), lines.byteLength, at(body), body.byteLength);
  }

  /** The kept answer's headers: lines of `name: value`, each ended by a line feed. */
  export function headers(): Bytes {
    let out = new ArrayBuffer(1024);
    while (true) {
      const len = void_http_headers(at(out), out.byteLength);
      if (len < 0) return failed(len);
      if (len <= out.byteLength) return new Bytes(0, out.slice(0, len));
      out = new ArrayBuffer(len);
    }
  }

  /** The kept answer's body, whole. */
  export function body(): Bytes {
    const len = void_http_body_len();
    if (len < 0) return failed(len);
    const out = new ArrayBuffer(len);
    let offset = 0;
    while (offset < len) {
      const got = void_http_body(offset, at(out) + offset, len - offset);
      if (got < 0) return failed(got);
      if (got == 0) break;
      offset += got;
    }
    return new Bytes(0, out);
  }
}
