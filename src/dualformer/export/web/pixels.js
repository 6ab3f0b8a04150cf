// @ts-check
"use strict";
// From a picture to the network's input: the resize, crop and padding of `video/transforms.py`, to the last bit. The
// canvas's own scaling is another in every browser. The network normalises by itself.

/**
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray | Uint8Array} data RGBA.
 */

/**
 * Test views of a picture: bytes RGB of squares, the centre, or 3 along the longer side.
 * @param {Picture} picture
 * @param {Preprocessing} pre
 * @param {number} crops 1 or 3.
 * @returns {Uint8Array[]}
 */
function viewsOfPicture(picture, pre, crops) {
  const { bytes, width, height } = resizedPicture(cutLong(picture), pre);
  const down = height - pre.crop;
  const right = width - pre.crop;
  const middle = [Math.floor(down / 2), Math.floor(right / 2)];
  const along = (/** @type {number} */ room) => [0, Math.floor(room / 2), room];
  const corners =
    crops === 1
      ? [middle]
      : height <= width
        ? along(right).map((left) => [middle[0], left])
        : along(down).map((top) => [top, middle[1]]);
  return corners.map(([top, left]) => {
    const view = new Uint8Array(pre.crop * pre.crop * 3);
    for (let row = 0; row < pre.crop; row += 1) {
      const from = ((top + row) * width + left) * 3;
      view.set(bytes.subarray(from, from + pre.crop * 3), row * pre.crop * 3);
    }
    return view;
  });
}

/**
 * The middle of a picture that is longer than 16 times its short side, others as they are.
 * @param {Picture} picture
 * @returns {Picture}
 */
function cutLong({ width, height, data }) {
  const most = 16 * Math.min(width, height);
  const top = Math.floor(Math.max(0, height - most) / 2);
  const left = Math.floor(Math.max(0, width - most) / 2);
  if (top === 0 && left === 0) return { width, height, data };
  const [wide, high] = [Math.min(width, most), Math.min(height, most)];
  const cut = new Uint8Array(wide * high * 4);
  for (let row = 0; row < high; row += 1) {
    const from = ((top + row) * width + left) * 4;
    cut.set(data.subarray(from, from + wide * 4), row * wide * 4);
  }
  return { width: wide, height: high, data: cut };
}

/**
 * A picture in the size that views are cut from.
 * @param {Picture} picture
 * @param {Preprocessing} pre
 * @returns {{bytes: Uint8Array, width: number, height: number}} RGB.
 */
function resizedPicture(picture, pre) {
  const { width, height } = picture;
  if (pre.crop_mode === "center") {
    const short = Math.min(width, height);
    const [high, wide] = [height, width].map((side) => Math.max(pre.resize, roundEven((side * pre.resize) / short)));
    return { bytes: resize(picture, wide, high, pre.antialias), width: wide, height: high };
  }
  const scale = pre.resize / Math.max(width, height);
  const [high, wide] = [height, width].map((side) => Math.max(1, roundEven(side * scale)));
  const bytes = resize(picture, wide, high, pre.antialias);
  const size = Math.max(wide, high);
  if (wide === high) return { bytes, width: wide, height: high };
  const square = new Uint8Array(size * size * 3);
  const colour = pre.mean.map(roundEven);
  for (let i = 0; i < square.length; i += 1) square[i] = colour[i % 3];
  const [top, left] = [(size - high) >> 1, (size - wide) >> 1];
  for (let row = 0; row < high; row += 1) {
    square.set(bytes.subarray(row * wide * 3, (row + 1) * wide * 3), ((top + row) * size + left) * 3);
  }
  return { bytes: square, width: size, height: size };
}

/**
 * The nearest whole number, of two the even one, as Python rounds.
 * @param {number} value
 */
function roundEven(value) {
  const below = Math.floor(value);
  const over = value - below;
  return over < 0.5 || (over === 0.5 && below % 2 === 0) ? below : below + 1;
}

/**
 * Resizes RGBA to RGB, bilinear: across, then down, each rounded to bytes, with weights of 16 bits, as PyTorch
 * resizes pictures of bytes.
 * @param {Picture} picture
 * @param {number} width
 * @param {number} height
 * @param {boolean} antialias
 */
function resize(picture, width, height, antialias) {
  const { data, width: from, height: rows } = picture;
  /** @type {Uint8Array} */
  let across = new Uint8Array(rows * width * 3);
  if (width === from) {
    for (let i = 0, pixel = 0; i < across.length; i += 3, pixel += 4) {
      across[i] = data[pixel];
      across[i + 1] = data[pixel + 1];
      across[i + 2] = data[pixel + 2];
    }
  } else {
    const { starts, counts, weights, taps, bits } = plan(from, width, antialias);
    const half = 1 << (bits - 1);
    for (let row = 0, out = 0; row < rows; row += 1) {
      for (let x = 0; x < width; x += 1, out += 3) {
        let [red, green, blue] = [half, half, half];
        let pixel = (row * from + starts[x]) * 4;
        for (let tap = x * taps, end = tap + counts[x]; tap < end; tap += 1, pixel += 4) {
          const weight = weights[tap];
          red += data[pixel] * weight;
          green += data[pixel + 1] * weight;
          blue += data[pixel + 2] * weight;
        }
        across[out] = clampByte(red >> bits);
        across[out + 1] = clampByte(green >> bits);
        across[out + 2] = clampByte(blue >> bits);
      }
    }
  }
  if (height === rows) return across;
  const { starts, counts, weights, taps, bits } = plan(rows, height, antialias);
  const line = width * 3;
  const sums = new Int32Array(line);
  const made = new Uint8Array(height * line);
  for (let y = 0; y < height; y += 1) {
    sums.fill(1 << (bits - 1));
    for (let tap = 0; tap < counts[y]; tap += 1) {
      const weight = weights[y * taps + tap];
      for (let i = 0, at = (starts[y] + tap) * line; i < line; i += 1, at += 1) sums[i] += across[at] * weight;
    }
    for (let i = 0, at = y * line; i < line; i += 1, at += 1) made[at] = clampByte(sums[i] >> bits);
  }
  return made;
}

/** @param {number} value */
function clampByte(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/**
 * @typedef {object} Plan Which pixels along one side make each new one, with which weights of `bits` bits.
 * @property {Int32Array} starts
 * @property {Int32Array} counts
 * @property {Int32Array} weights
 * @property {number} taps
 * @property {number} bits
 */

/** @type {Map<string, Plan>} */
const plans = new Map();

/**
 * @param {number} from
 * @param {number} to
 * @param {boolean} antialias
 * @returns {Plan}
 */
function plan(from, to, antialias) {
  const key = `${from} ${to} ${antialias}`;
  const known = plans.get(key);
  if (known) return known;
  const scale = from / to;
  const reach = antialias ? Math.max(1, scale) : 1;
  const taps = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(to);
  const counts = new Int32Array(to);
  const exact = new Float64Array(to * taps);
  for (let i = 0; i < to; i += 1) {
    if (antialias) {
      const centre = scale * (i + 0.5);
      starts[i] = Math.max(0, Math.trunc(centre - reach + 0.5));
      counts[i] = Math.min(taps, Math.min(from, Math.trunc(centre + reach + 0.5)) - starts[i]);
      let total = 0;
      for (let j = 0; j < counts[i]; j += 1) {
        const away = Math.abs((j + starts[i] - centre + 0.5) / reach);
        const weight = away < 1 ? 1 - away : 0;
        exact[i * taps + j] = weight;
        total += weight;
      }
      for (let j = 0; j < counts[i]; j += 1) exact[i * taps + j] /= total;
    } else {
      const place = Math.max(0, scale * (i + 0.5) - 0.5);
      starts[i] = Math.min(from - 1, Math.floor(place));
      const over = Math.min(1, Math.max(0, place - starts[i]));
      counts[i] = Math.min(2, from - starts[i]);
      exact[i * taps] = counts[i] === 2 ? 1 - over : 1;
      if (counts[i] === 2) exact[i * taps + 1] = over;
    }
  }
  const largest = exact.reduce((most, weight) => Math.max(most, weight), 0);
  let bits = 0;
  while (bits < 22 && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < 2 ** 15) bits += 1;
  const made = { starts, counts, weights: Int32Array.from(exact, (w) => Math.trunc(0.5 + w * 2 ** bits)), taps, bits };
  plans.set(key, made);
  return made;
}
