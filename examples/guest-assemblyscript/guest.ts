/**
 * An example guest in AssemblyScript that makes each of the gateway calls: `run(port)` counts its runs in the key-value
 * store, fetches http://127.0.0.1:PORT/greeting, keeps the first line of what it got, and emits what it saw.
 * examples/README.md shows it at work.
 */

import { Code, emit, http, kv, utf8 } from "../bindings/assemblyscript/void";

const NAMESPACE = "examples";

/** The value of a header of the answer; names are in lower case. */
function header(name: string): string {
  const lines = http.headers().text().split("\n");
  for (let i = 0; i < lines.length; i++) {
    if (lines[i].startsWith(name + ": ")) return lines[i].substring(name.length + 2);
  }
  return "";
}

/** FNV-1a, 32 bits. */
function fnv1a(bytes: ArrayBuffer): u32 {
  const view = Uint8Array.wrap(bytes);
  let hash: u32 = 2166136261;
  for (let i = 0; i < view.length; i++) hash = (hash ^ view[i]) * 16777619;
  return hash;
}

/** Returns how often it ran, or the code of the call that did nothing. */
export function run(port: i32): i32 {
  const before = kv.get(NAMESPACE, "visits");
  if (before.code != 0 && before.code != Code.NotFound) return before.code;
  const visits = before.code == 0 ? i32.parse(before.text()) + 1 : 1;
  const counted = kv.set(NAMESPACE, "visits", utf8(visits.toString()));
  if (counted < 0) return counted;

  const status = http.fetch("GET", `http://127.0.0.1:${port}/greeting`, "accept: text/plain\n");
  if (status < 0) return status;
  const body = http.body();
  if (body.code != 0) return body.code;

  const kept = kv.set(NAMESPACE, "greeting", utf8(body.text().split("\n")[0]));
  if (kept < 0) return kept;
  // Something that is not to stay.
  const written = kv.set(NAMESPACE, "scratch", utf8("1"));
  if (written < 0) return written;
  const removed = kv.remove(NAMESPACE, "scratch");
  if (removed < 0) return removed;

  const emitted = emit("example.visited", utf8(
    `{"from":"assemblyscript","visits":${visits},"status":${status},"type":"${header("content-type")}",` +
    `"bytes":${body.data.byteLength},"fnv1a":${fnv1a(body.data)}}`));
  return emitted < 0 ? emitted : visits;
}

/** Emits the greeting that the last `run` kept, of whichever language it was. Returns its length. */
export function recall(): i32 {
  const greeting = kv.get(NAMESPACE, "greeting");
  if (greeting.code != 0) return greeting.code;
  const emitted = emit("example.recalled", greeting.data);
  return emitted < 0 ? emitted : greeting.data.byteLength;
}

/** Removes what `run` kept. Returns how many keys there were. */
export function forget(): i32 {
  const visits = kv.remove(NAMESPACE, "visits");
  if (visits < 0) return visits;
  const greeting = kv.remove(NAMESPACE, "greeting");
  return greeting < 0 ? greeting : visits + greeting;
}
