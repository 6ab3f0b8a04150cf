// @ts-check
"use strict";
// Which frames make a clip, by their times alone, and which frames of a camera: the numbers that the package's own
// `video/sampling.py` and `inference/sliding_windows.py` give.

/**
 * How frames become the network's input: `Preprocessing` of the package.
 * @typedef {object} Preprocessing
 * @property {number} frames Frames of a clip.
 * @property {number} stride Frames of the file between two of a clip; with fps, ticks of a clock.
 * @property {number | null} fps Ticks of that clock in a second.
 * @property {number} resize Pixels of the short side, or of the long side where pictures are padded.
 * @property {number} crop Pixels of the side of the input.
 * @property {number[]} mean Of R, G, B.
 * @property {"stride" | "segments"} sampling
 * @property {"center" | "pad"} crop_mode
 * @property {"ends" | "middles"} placement
 * @property {"repeat" | "loop"} short_video
 * @property {boolean} antialias
 */

/** Seconds within which a frame counts as shown: containers round times to a millisecond. */
const TOLERANCE = 1e-3;

/**
 * A sentence for a video that is shorter than a clip, nothing for others.
 * @param {number[]} times
 * @param {Preprocessing} pre
 */
function shortNote(times, pre) {
  const { frames, stride, fps } = pre;
  const lasts = times[times.length - 1] - times[0];
  const wanted = ((frames - 1) * stride) / (fps ?? 1);
  const isLong = fps === null ? times.length - 1 >= wanted : lasts - wanted >= -TOLERANCE;
  if (isLong || isShownWhole(times, pre)) return "";
  const filled = pre.short_video === "repeat" ? "its last frame is repeated" : "it is looped";
  const [clip, one] = [`${frames} frames × stride ${stride}`, times.length === 1];
  const count = `${times.length} ${one ? "frame" : "frames"}`;
  if (fps === null) return `${count} ${one ? "is" : "are"} shorter than a clip of ${clip}: ${filled}`;
  const seconds = (/** @type {number} */ value) => `${Number(value.toPrecision(3))} s`;
  const rate = Number(fps.toPrecision(6));
  return `${seconds(lasts)} (${count}) are shorter than a clip of ${seconds(wanted)} (${clip} at ${rate} fps): ${filled}`;
}

/**
 * The numbers of the frames of evenly spread clips, clips x frames.
 * @param {number[]} times Seconds of every frame, increasing.
 * @param {Preprocessing} pre
 * @param {number} clips
 * @returns {number[][]}
 */
function evenClips(times, pre, clips) {
  const all = [...Array(clips).keys()];
  if (isShownWhole(times, pre)) return all.map((i) => framesOfSegments(times, pre, (i + 0.5) / clips));
  if (pre.placement === "middles") {
    const span = pre.frames * pre.stride;
    const places = Math.max(0, pre.fps === null ? times.length - span + 1 : lengthOf(times) - span / pre.fps);
    return all.map((i) => framesFrom(times, pre, ((i + 0.5) * places) / clips));
  }
  const steps = (pre.frames - 1) * pre.stride;
  if (pre.fps === null) {
    const room = Math.max(0, times.length - 1 - steps);
    const start = (/** @type {number} */ i) =>
      clips === 1 ? Math.floor(room / 2) : Math.floor((2 * i * room + clips - 1) / (2 * (clips - 1)));
    return all.map((i) => framesFrom(times, pre, start(i)));
  }
  const left = times[times.length - 1] - times[0] - steps / pre.fps;
  const room = left <= TOLERANCE ? 0 : left;
  return all.map((i) => framesFrom(times, pre, clips === 1 ? room / 2 : (i * room) / (clips - 1)));
}

/**
 * Whether a clip has a frame of each part of the video.
 * @param {number[]} times
 * @param {Preprocessing} pre
 */
function isShownWhole(times, pre) {
  if (pre.sampling !== "segments") return false;
  const longest = 2 * pre.frames * pre.stride;
  return pre.fps === null ? times.length <= longest : lengthOf(times) <= longest / pre.fps + TOLERANCE;
}

/**
 * @param {number[]} times
 * @param {Preprocessing} pre
 * @param {number} position From 0 to 1 in each part.
 */
function framesOfSegments(times, pre, position) {
  const part = lengthOf(times) / pre.frames;
  return [...Array(pre.frames).keys()].map((i) => shownAt(times, times[0] + (i + position) * part + TOLERANCE));
}

/**
 * @param {number[]} times
 * @param {Preprocessing} pre
 * @param {number} start In frames, or in seconds with a clock.
 */
function framesFrom(times, pre, start) {
  const length = lengthOf(times);
  return [...Array(pre.frames).keys()].map((i) => {
    if (pre.fps === null) {
      const number = Math.floor(start) + i * pre.stride;
      return pre.short_video === "loop" ? number % times.length : Math.min(number, times.length - 1);
    }
    let tick = start + (i * pre.stride) / pre.fps + TOLERANCE;
    if (pre.short_video === "loop" && length > 0) tick %= length;
    return shownAt(times, times[0] + tick);
  });
}

/**
 * The number of the frame that is on the screen.
 * @param {number[]} times
 * @param {number} seconds
 */
function shownAt(times, seconds) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= seconds) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

/**
 * Seconds from the first frame to the end of the last.
 * @param {number[]} times
 */
function lengthOf(times) {
  const lasts = times[times.length - 1] - times[0];
  return times.length > 1 ? lasts + lasts / (times.length - 1) : 0;
}

/** Clips that are due while the frames of one go by. */
const ANSWERS_PER_CLIP = 8;

/**
 * The newest clip of a camera or of a video that plays: every `stride`-th frame, or the frame that is shown at every
 * `stride`-th tick of a clock. A clip is due when it is full, and then `ANSWERS_PER_CLIP` times while its frames go by.
 * @template T
 */
class NewestClip {
  /**
   * @param {Preprocessing} pre
   * @param {(picture: T) => Uint8Array} cut Turns a picture into the network's input; called for frames of clips only.
   */
  constructor(pre, cut) {
    this.pre = pre;
    this.cut = cut;
    /** @type {Uint8Array[]} */
    this.frames = [];
    this.seen = 0;
    this.taken = 0;
    this.fresh = 0;
    /** The part of a clip by which the newest clip that was taken is newer than the one before. */
    this.passed = 1;
    /** @type {T | null} */
    this.waiting = null;
    this.first = 0;
    this.ticks = 0;
  }

  /**
   * @param {number} seconds
   * @param {T} picture
   */
  add(seconds, picture) {
    this.seen += 1;
    if (this.pre.fps === null) {
      if ((this.seen - 1) % this.pre.stride === 0) this.keep(this.cut(picture));
      return;
    }
    if (this.waiting === null) this.first = seconds;
    else {
      const step = this.pre.stride / this.pre.fps;
      /** @type {Uint8Array | null} */
      let view = null;
      for (; this.first + this.ticks * step < seconds - TOLERANCE; this.ticks += 1) {
        view ??= this.cut(this.waiting);
        this.keep(view);
      }
    }
    this.waiting = picture;
  }

  /** @param {Uint8Array} view */
  keep(view) {
    this.frames.push(view);
    if (this.frames.length > this.pre.frames) this.frames.shift();
    this.fresh += 1;
  }

  /** Notes how much of a clip is new, and that none is from here on. */
  pass() {
    this.passed = this.fresh / this.pre.frames;
    this.fresh = 0;
  }

  /** The frames of a clip that is due, or null. */
  take() {
    const due = this.taken === 0 ? this.pre.frames : Math.ceil(this.pre.frames / ANSWERS_PER_CLIP);
    if (this.frames.length < this.pre.frames || this.fresh < due) return null;
    this.taken += 1;
    this.pass();
    return [...this.frames];
  }

  /** The last clip of a video that has ended, if it was not taken: its last frame fills what is missing. */
  finish() {
    if (this.waiting !== null) this.keep(this.cut(this.waiting));
    const { frames } = this;
    if (frames.length === 0 || this.fresh === 0) return null;
    this.pass();
    return [...frames, ...Array(this.pre.frames - frames.length).fill(frames[frames.length - 1])];
  }
}
