// Makes the vectors with the JavaScript IPFS libraries, so that the Rust code is held against an implementation that
// is not ours. `vectors.json` says for each what it is; DAGs that are walked lie beside it as CAR files.
//
// Contents are not stored, the tests make them again: byte i*32.. of a file is sha256(seed, i as 32-bit big endian); after
// PERIOD bytes it starts over, so that the large ones are made quickly.

import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { unixfs } from '@helia/unixfs'
import { CarWriter } from '@ipld/car'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagPb from '@ipld/dag-pb'
import { MemoryBlockstore } from 'blockstore-core'
import { UnixFS } from 'ipfs-unixfs'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced, trickle } from 'ipfs-unixfs-importer/layout'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { identity } from 'multiformats/hashes/identity'
import { sha256, sha512 } from 'multiformats/hashes/sha2'

const vectors = []
const PERIOD = 1_000_003

function content (seed, size) {
  if (size > PERIOD) {
    const once = content(seed, PERIOD)
    return Buffer.concat(new Array(Math.ceil(size / PERIOD)).fill(once)).subarray(0, size)
  }
  const parts = []
  for (let i = 0; i * 32 < size; i++) {
    const number = Buffer.alloc(4)
    number.writeUInt32BE(i)
    parts.push(createHash('sha256').update(seed).update(number).digest())
  }
  return Buffer.concat(parts).subarray(0, size)
}

const hex = bytes => createHash('sha256').update(bytes).digest('hex')

async function car (name, root, blocks) {
  const { writer, out } = CarWriter.create([root])
  const parts = []
  const drained = (async () => { for await (const part of out) parts.push(part) })()
  for (const { cid, bytes } of blocks) await writer.put({ cid, bytes })
  await writer.close()
  await drained
  writeFileSync(new URL(`${name}.car`, import.meta.url), Buffer.concat(parts))
}

async function blocksOf (store) {
  const blocks = []
  for await (const { cid, bytes } of store.getAll()) {
    const parts = []
    if (bytes instanceof Uint8Array) parts.push(bytes)
    else for await (const part of bytes) parts.push(part)
    blocks.push({ cid, bytes: Buffer.concat(parts) })
  }
  return blocks
}

// A file as the importer makes it. `layout` true: the tests build it again from the content alone.
async function file (name, seed, size, options, { withCar = true, layout = false, bytes = content(seed, size) } = {}) {
  const store = new MemoryBlockstore()
  const cid = await unixfs({ blockstore: store }).addBytes(bytes, options)
  if (withCar) {
    // The store names its blocks by hash alone; the CIDs of the links are found by walking.
    const bytesBy = new Map((await blocksOf(store)).map(({ cid, bytes }) => [Buffer.from(cid.multihash.bytes).toString('hex'), bytes]))
    const blocks = []
    const seen = new Set()
    const visit = cid => {
      if (seen.has(cid.toString())) return
      seen.add(cid.toString())
      const bytes = bytesBy.get(Buffer.from(cid.multihash.bytes).toString('hex'))
      blocks.push({ cid, bytes })
      if (cid.code === dagPb.code) for (const link of dagPb.decode(bytes).Links) visit(link.Hash)
    }
    visit(cid)
    await car(name, cid, blocks)
  }
  vectors.push({ name, kind: 'file', cid: cid.toString(), seed, size: bytes.length, sha256: hex(bytes), car: withCar, layout })
}

const chunks = (chunkSize, width, make = balanced) => ({
  chunker: fixedSize({ chunkSize }),
  layout: make({ maxChildrenPerNode: width })
})
const v0 = { cidVersion: 0, rawLeaves: false }
const v1 = { cidVersion: 1, rawLeaves: true }

await file('raw-block', 'raw', 500, { ...v1, ...chunks(1024, 174) }, { withCar: false })
await file('v0-single', 'v0-single', 700, { ...v0, ...chunks(262144, 174) }, { layout: true })
await file('v0-levels', 'v0-levels', 60_000, { ...v0, ...chunks(1000, 4) })
await file('v1-levels', 'v1-levels', 60_000, { ...v1, ...chunks(1024, 8) })
await file('v1-pb-leaves', 'v1-pb', 20_000, { cidVersion: 1, rawLeaves: false, ...chunks(4096, 174) })
await file('v1-trickle', 'trickle', 40_000, { ...v1, ...chunks(512, 4, trickle) })
await file('v1-repeats', '', 65_536, { ...v1, ...chunks(4096, 4) }, { bytes: Buffer.alloc(65_536) })
await file('kubo-v0', 'kubo', 700_000, { ...v0, ...chunks(262144, 174) }, { withCar: false, layout: true })
await file('kubo-v1', 'kubo', 700_000, { ...v1, ...chunks(262144, 174) }, { withCar: false, layout: true })
await file('kubo-v1-pb', 'kubo', 700_000, { cidVersion: 1, rawLeaves: false, ...chunks(262144, 174) }, { withCar: false, layout: true })
await file('helia-default', 'helia', 3_000_000, {}, { withCar: false, layout: true })
await file('kubo-wide', 'wide', 47_000_000, { ...v1, ...chunks(262144, 174) }, { withCar: false, layout: true })

// DAGs that are refused, each for its own reason: `refused` is a word of it. Their blocks have the right hashes.
async function pb (data, links) {
  const bytes = dagPb.encode(dagPb.prepare({ Data: data.marshal(), Links: links.map(cid => ({ Hash: cid, Name: '', Tsize: 0 })) }))
  return { cid: CID.createV1(dagPb.code, await sha256.digest(bytes)), bytes }
}

async function refused (name, refusal, root, blocks) {
  await car(name, root.cid, blocks)
  vectors.push({ name, kind: 'refused', cid: root.cid.toString(), refused: refusal, car: true })
}

const sized = sizes => new UnixFS({ type: 'file', blockSizes: sizes })
const leafBytes = content('leaf', 100)
const leaf = { cid: CID.createV1(raw.code, await sha256.digest(leafBytes)), bytes: leafBytes }

const directory = await pb(new UnixFS({ type: 'directory' }), [])
await refused('directory', 'directory', directory, [directory])
const symlink = await pb(new UnixFS({ type: 'symlink', data: Buffer.from('/etc/passwd') }), [])
await refused('symlink', 'symbolic link', symlink, [symlink])
const shard = await pb(new UnixFS({ type: 'hamt-sharded-directory', hashType: 0x22n, fanout: 256n }), [])
await refused('shard', 'sharded', shard, [shard])

const wrongSize = await pb(sized([99n]), [leaf.cid])
await refused('wrong-size', 'another size', wrongSize, [wrongSize, leaf])
const fewerSizes = await pb(sized([]), [leaf.cid])
await refused('fewer-sizes', 'other sizes than links', fewerSizes, [fewerSizes, leaf])
const huge = await pb(sized([1n << 60n, 1n << 60n]), [leaf.cid, leaf.cid])
await refused('huge-claim', 'allowed', huge, [huge, leaf])

let deep = leaf
const chain = [leaf]
for (let i = 0; i < 60; i++) {
  deep = await pb(sized([100n]), [deep.cid])
  chain.push(deep)
}
await refused('deep', 'deeper', deep, chain)

// 200 links to one node, five times over: 3.2e11 empty leaves out of 6 blocks.
let wide = { cid: CID.createV1(raw.code, await sha256.digest(new Uint8Array())), bytes: new Uint8Array() }
const pyramid = [wide]
for (let i = 0; i < 5; i++) {
  wide = await pb(sized(new Array(200).fill(0n)), new Array(200).fill(wide.cid))
  pyramid.push(wide)
}
await refused('many-empty', 'blocks', wide, pyramid)

// The same with a byte in the leaf, the sizes told truly.
wide = { cid: CID.createV1(raw.code, await sha256.digest(new Uint8Array(1))), bytes: new Uint8Array(1) }
const bomb = [wide]
let total = 1n
for (let i = 0; i < 5; i++) {
  wide = await pb(sized(new Array(200).fill(total)), new Array(200).fill(wide.cid))
  total *= 200n
  bomb.push(wide)
}
await refused('bomb', 'allowed', wide, bomb)

const inline = CID.createV1(raw.code, identity.digest(leafBytes.subarray(0, 20)))
const withInline = await pb(sized([20n]), [inline])
await refused('identity-link', 'identity', withInline, [withInline])
const otherHash = CID.createV1(raw.code, await sha512.digest(leafBytes))
const withOtherHash = await pb(sized([100n]), [otherHash])
await refused('sha512-link', 'sha2-512', withOtherHash, [withOtherHash, { cid: otherHash, bytes: leafBytes }])
const cborBytes = dagCbor.encode({ hello: 'world' })
const cbor = { cid: CID.createV1(dagCbor.code, await sha256.digest(cborBytes)), bytes: cborBytes }
const withCbor = await pb(sized([BigInt(cborBytes.length)]), [cbor.cid])
await refused('cbor-link', 'dag-cbor', withCbor, [withCbor, cbor])

const lines = vectors.map(vector => '  ' + JSON.stringify(vector)).join(',\n')
writeFileSync(new URL('vectors.json', import.meta.url), `[\n${lines}\n]\n`)
