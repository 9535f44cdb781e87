// A WASI command in AssemblyScript: counts the words of stdin, most frequent first, and those that argv names first of all.
// With @assemblyscript/wasi-shim, which puts WASI under `process`.

function read(): string {
  const chunks = new Array<u8>();
  const buffer = new ArrayBuffer(4096);
  while (true) {
    const got = process.stdin.read(buffer);
    if (got <= 0) break;
    const view = Uint8Array.wrap(buffer, 0, got as i32);
    for (let i = 0; i < view.length; i++) chunks.push(view[i]);
  }
  const all = Uint8Array.wrap(new ArrayBuffer(chunks.length));
  for (let i = 0; i < chunks.length; i++) all[i] = chunks[i];
  return String.UTF8.decode(all.buffer);
}

class Count {
  constructor(public word: string, public count: i32) {}
}

const counts = new Map<string, i32>();
const lines = read().split("\n");
for (let l = 0; l < lines.length; l++) {
  const words = lines[l].split(" ");
  for (let w = 0; w < words.length; w++) {
    if (words[w].length == 0) continue;
    counts.set(words[w], counts.has(words[w]) ? counts.get(words[w]) + 1 : 1);
  }
}

const asked = process.argv.slice(1);
for (let i = 0; i < asked.length; i++) {
  process.stdout.write(`${asked[i]}: ${counts.has(asked[i]) ? counts.get(asked[i]) : 0}\n`);
}

const sorted = new Array<Count>();
const keys = counts.keys();
for (let i = 0; i < keys.length; i++) sorted.push(new Count(keys[i], counts.get(keys[i])));
sorted.sort((a, b) => (a.count != b.count ? b.count - a.count : a.word < b.word ? -1 : 1));
for (let i = 0; i < sorted.length; i++) process.stdout.write(`${sorted[i].count} ${sorted[i].word}\n`);

if (process.env.has("LOUD")) process.stderr.write(`${counts.size} different words\n`);
if (sorted.length == 0) process.exit(4);
