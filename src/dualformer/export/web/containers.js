// @ts-check
"use strict";
// When the frames of a file are shown, by its container: MP4 and MOV, fragmented ones too, Matroska and WebM. A video
// element tells neither how many frames there are nor when.

/**
 * @typedef {object} FrameTimes
 * @property {number[]} times Seconds of every frame, increasing; only their differences count.
 * @property {[number, number] | null} size Width and height as they are stored.
 */

/**
 * Reads a file piece by piece.
 */
class Bytes {
  /** @param {Blob} file */
  constructor(file) {
    this.file = file;
    this.begin = 0;
    this.view = new DataView(new ArrayBuffer(0));
  }

  /**
   * The place of `at` in the view, with `count` bytes from there on; null at the file's end.
   * @param {number} at
   * @param {number} count
   */
  async have(at, count) {
    if (at + count > this.file.size) return null;
    if (at < this.begin || at + count > this.begin + this.view.byteLength) {
      this.begin = at;
      const end = Math.min(this.file.size, at + Math.max(count, 2 ** 20));
      this.view = new DataView(await this.file.slice(at, end).arrayBuffer());
    }
    return at - this.begin;
  }
}

/**
 * The times of a file's frames; null for a container that is not known here, or is damaged.
 * @param {Blob} file
 * @returns {Promise<FrameTimes | null>}
 */
async function frameTimes(file) {
  const bytes = new Bytes(file);
  const at = await bytes.have(0, 8);
  if (at === null) return null;
  try {
    const found =
      bytes.view.getUint32(0) === 0x1a45dfa3 ? await matroskaTimes(bytes) : await mp4Times(bytes);
    if (found === null || found.times.length === 0) return null;
    found.times.sort((one, other) => one - other);
    return found;
  } catch (error) {
    if (error instanceof RangeError) return null; // a length that points out of its box
    throw error;
  }
}

/** Elements of Matroska that are looked into; others are passed over. */
const MASTERS = new Set([0x18538067, 0x1549a966, 0x1654ae6b, 0xae, 0xe0, 0x1f43b675, 0xa0]);

/**
 * @param {Bytes} bytes
 * @returns {Promise<FrameTimes | null>}
 */
async function matroskaTimes(bytes) {
  /** @type {{number: number, video: boolean, width: number, height: number}[]} */
  const tracks = [];
  /** @type {Map<number, number[]>} */
  const times = new Map();
  let scale = 1e-3;
  let cluster = 0;
  for (let at = 0; ; ) {
    const header = await bytes.have(at, Math.min(12, bytes.file.size - at));
    if (header === null || bytes.file.size - at < 2) break;
    const id = variable(bytes.view, header, false);
    const size = variable(bytes.view, header + id.bytes, true);
    const body = at + id.bytes + size.bytes;
    if (id.value === 0xae) tracks.push({ number: 0, video: false, width: 0, height: 0 });
    if (MASTERS.has(id.value)) {
      at = body;
      continue;
    }
    const track = tracks[tracks.length - 1];
    const number = async () => whole(bytes.view, (await bytes.have(body, size.value)) ?? NaN, size.value);
    if (id.value === 0x2ad7b1) scale = (await number()) / 1e9;
    else if (id.value === 0xe7) cluster = await number();
    else if (track && id.value === 0xd7) track.number = await number();
    else if (track && id.value === 0x83) track.video = (await number()) === 1;
    else if (track && id.value === 0xb0) track.width = await number();
    else if (track && id.value === 0xba) track.height = await number();
    else if (id.value === 0xa3 || id.value === 0xa1) {
      const block = await bytes.have(body, Math.min(12, size.value));
      if (block === null) break;
      const { value, bytes: length } = variable(bytes.view, block, true);
      const isShown = (bytes.view.getUint8(block + length + 2) & 8) === 0;
      const shown = (cluster + bytes.view.getInt16(block + length)) * scale;
      if (isShown && !times.get(value)?.push(shown)) times.set(value, [shown]);
    }
    at = body + size.value;
  }
  const track = tracks.find((one) => one.video);
  return track ? { times: times.get(track.number) ?? [], size: [track.width, track.height] } : null;
}

/**
 * A number of variable length: a size without its marker, an identity with it.
 * @param {DataView} view
 * @param {number} at
 * @param {boolean} bare
 */
function variable(view, at, bare) {
  const first = view.getUint8(at);
  const bytes = Math.clz32(first) - 23;
  let value = bare ? first & (0xff >> bytes) : first;
  for (let i = 1; i < bytes; i += 1) value = value * 256 + view.getUint8(at + i);
  return { value, bytes };
}

/**
 * @param {DataView} view
 * @param {number} at
 * @param {number} bytes
 */
function whole(view, at, bytes) {
  let value = 0;
  for (let i = 0; i < bytes; i += 1) value = value * 256 + view.getUint8(at + i);
  return value;
}

/**
 * @typedef {object} Box Of MP4.
 * @property {string} kind
 * @property {number} begin Of what is in it.
 * @property {number} end
 */

/**
 * The boxes within a stretch of memory.
 * @param {DataView} view
 * @param {number} begin
 * @param {number} end
 * @returns {Box[]}
 */
function boxesIn(view, begin, end) {
  const found = [];
  for (let at = begin; at + 8 <= end; ) {
    const { kind, header, size } = boxAt(view, at, end - at);
    found.push({ kind, begin: at + header, end: Math.min(end, at + size) });
    at += size;
  }
  return found;
}

/**
 * @param {DataView} view
 * @param {number} at
 * @param {number} left Bytes to the end of what the box is in.
 */
function boxAt(view, at, left) {
  const kind = String.fromCharCode(...[4, 5, 6, 7].map((i) => view.getUint8(at + i)));
  const short = view.getUint32(at);
  if (short === 0) return { kind, header: 8, size: left };
  if (short !== 1) return { kind, header: 8, size: Math.max(8, short) };
  return { kind, header: 16, size: Math.max(16, view.getUint32(at + 8) * 2 ** 32 + view.getUint32(at + 12)) };
}

/**
 * @param {Bytes} bytes
 * @returns {Promise<FrameTimes | null>}
 */
async function mp4Times(bytes) {
  /** @type {ReturnType<typeof videoTrack> | null} */
  let track = null;
  for (let at = 0; at + 8 <= bytes.file.size; ) {
    const header = await bytes.have(at, Math.min(16, bytes.file.size - at));
    if (header === null) break;
    const box = boxAt(bytes.view, header, bytes.file.size - at);
    if (box.kind === "moov" || box.kind === "moof") {
      const place = await bytes.have(at, box.size);
      if (place === null) break; // cut off
      if (box.kind === "moov") track = videoTrack(bytes.view, place + box.header, place + box.size);
      else if (track) addFragment(bytes.view, place + box.header, place + box.size, track);
    }
    at += box.size;
  }
  if (!track) return null;
  const { begin, end, scale, size } = track;
  const shown = track.ticks.filter((tick) => tick >= begin && tick < end);
  return { times: shown.map((tick) => tick / scale), size };
}

/**
 * The first video track of a `moov`, with the times of the frames that are listed there.
 * @param {DataView} view
 * @param {number} begin
 * @param {number} end
 */
function videoTrack(view, begin, end) {
  const inside = boxesIn(view, begin, end);
  const movie = inside.find((box) => box.kind === "mvhd");
  for (const trak of inside.filter((box) => box.kind === "trak")) {
    const find = (/** @type {string} */ path) =>
      path
        .split(" ")
        .reduce(
          (/** @type {Box | undefined} */ box, kind) =>
            box && boxesIn(view, box.begin, box.end).find((one) => one.kind === kind),
          trak,
        );
    const handler = find("mdia hdlr");
    const header = find("mdia mdhd");
    const entry = find("mdia minf stbl stsd");
    const identity = find("tkhd");
    if (!handler || view.getUint32(handler.begin + 8) !== 0x76696465 || !header || !entry || !identity) continue;
    const scale = view.getUint32(header.begin + (view.getUint8(header.begin) === 1 ? 20 : 12));
    const movieScale = movie ? view.getUint32(movie.begin + (view.getUint8(movie.begin) === 1 ? 20 : 12)) : scale;
    const number = view.getUint32(identity.begin + (view.getUint8(identity.begin) === 1 ? 20 : 12));
    const shown = shownPart(view, find("edts elst"), scale / movieScale);
    const extends_ = inside.find((box) => box.kind === "mvex");
    const defaults = (extends_ ? boxesIn(view, extends_.begin, extends_.end) : []).find(
      (box) => box.kind === "trex" && view.getUint32(box.begin + 4) === number,
    );
    return {
      ...shown,
      number,
      scale,
      /** @type {[number, number]} */
      size: [view.getUint16(entry.begin + 40), view.getUint16(entry.begin + 42)],
      ticks: listedTicks(view, find("mdia minf stbl stts"), find("mdia minf stbl ctts")),
      /** Ticks of a frame of a fragment that does not say. */
      lasts: defaults ? view.getUint32(defaults.begin + 12) : 0,
      /** Where a fragment begins that does not say. */
      next: 0,
    };
  }
  return null;
}

/**
 * From which tick to which the edit list shows the track.
 * @param {DataView} view
 * @param {Box | undefined} list
 * @param {number} ratio Ticks of the track in one of the movie.
 */
function shownPart(view, list, ratio) {
  if (!list) return { begin: -Infinity, end: Infinity };
  const long = view.getUint8(list.begin) === 1;
  const count = view.getUint32(list.begin + 4);
  for (let i = 0, at = list.begin + 8; i < count; i += 1, at += long ? 20 : 12) {
    const lasts = long ? Number(view.getBigUint64(at)) : view.getUint32(at);
    const begin = long ? Number(view.getBigInt64(at + 8)) : view.getInt32(at + 4);
    // A tick of the movie may be longer than a frame's time is exact.
    if (begin >= 0) return { begin, end: lasts ? begin + (lasts + 1) * ratio : Infinity };
  }
  return { begin: -Infinity, end: Infinity };
}

/**
 * @param {DataView} view
 * @param {Box | undefined} durations
 * @param {Box | undefined} offsets
 */
function listedTicks(view, durations, offsets) {
  /** @type {number[]} */
  const ticks = [];
  if (!durations) return ticks;
  let tick = 0;
  for (let i = 0, at = durations.begin + 8; i < view.getUint32(durations.begin + 4); i += 1, at += 8) {
    const lasts = view.getUint32(at + 4);
    for (let left = view.getUint32(at); left > 0; left -= 1, tick += lasts) ticks.push(tick);
  }
  if (!offsets) return ticks;
  let frame = 0;
  for (let i = 0, at = offsets.begin + 8; i < view.getUint32(offsets.begin + 4); i += 1, at += 8) {
    const offset = view.getInt32(at + 4);
    for (let left = view.getUint32(at); left > 0 && frame < ticks.length; left -= 1, frame += 1) ticks[frame] += offset;
  }
  return ticks;
}

/**
 * Adds the frames of a `moof`.
 * @param {DataView} view
 * @param {number} begin
 * @param {number} end
 * @param {NonNullable<ReturnType<typeof videoTrack>>} track
 */
function addFragment(view, begin, end, track) {
  for (const part of boxesIn(view, begin, end).filter((box) => box.kind === "traf")) {
    const inside = boxesIn(view, part.begin, part.end);
    const header = inside.find((box) => box.kind === "tfhd");
    if (!header || view.getUint32(header.begin + 4) !== track.number) continue;
    const flags = view.getUint32(header.begin) & 0xffffff;
    const before = (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0);
    const usual = flags & 8 ? view.getUint32(header.begin + 8 + before) : track.lasts;
    const start = inside.find((box) => box.kind === "tfdt");
    if (start) {
      const long = view.getUint8(start.begin) === 1;
      track.next = long ? Number(view.getBigUint64(start.begin + 4)) : view.getUint32(start.begin + 4);
    }
    for (const run of inside.filter((box) => box.kind === "trun")) {
      const has = view.getUint32(run.begin) & 0xffffff;
      let at = run.begin + 8 + (has & 1 ? 4 : 0) + (has & 4 ? 4 : 0);
      for (let left = view.getUint32(run.begin + 4); left > 0; left -= 1) {
        const lasts = has & 0x100 ? view.getUint32(at) : usual;
        at += (has & 0x100 ? 4 : 0) + (has & 0x200 ? 4 : 0) + (has & 0x400 ? 4 : 0);
        track.ticks.push(track.next + (has & 0x800 ? view.getInt32(at) : 0));
        at += has & 0x800 ? 4 : 0;
        track.next += lasts;
      }
    }
  }
}
