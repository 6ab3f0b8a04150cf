// @ts-check
"use strict";
// From decoded planes to RGB, by the whole numbers with which FFmpeg converts them on x86: browsers round where it cuts
// off, and are brighter by one level.

/** Red of V, blue of U, green of U and of V, in 65536ths, by the matrix of a video. */
const MATRICES = new Map([
  ["bt709", [117489, 138438, -13975, -34925]],
  ["smpte170m", [104597, 132201, -25675, -53279]],
  ["bt470bg", [104597, 132201, -25675, -53279]],
]);

/**
 * @typedef {object} Planes Of 4:2:0 in limited range.
 * @property {Uint8Array} bytes
 * @property {"I420" | "NV12"} format
 * @property {{offset: number, stride: number}[]} layout
 * @property {number} width
 * @property {number} height
 * @property {string} matrix One of `MATRICES`.
 * @property {number} rotation Degrees by which it is turned clockwise to be upright.
 */

/**
 * The upright picture of planes.
 * @param {Planes} planes
 * @returns {Picture}
 */
function pictureOfPlanes({ bytes, format, layout, width, height, matrix, rotation }) {
  const table = (/** @type {number} */ factor, /** @type {number} */ zero) => {
    const scaled = (factor + 4) >> 3;
    return Int32Array.from({ length: 256 }, (_, value) => ((value - zero) * 8 * scaled) >> 16);
  };
  const light = table(Math.floor((65536 * 255) / 219), 16);
  const [redOfV, blueOfU, greenOfU, greenOfV] = (MATRICES.get(matrix) ?? []).map((factor) =>
    table(factor, 128),
  );
  const [y, u] = layout;
  const v = format === "I420" ? layout[2] : { offset: u.offset + 1, stride: u.stride };
  const step = format === "I420" ? 1 : 2;
  const isTurned = rotation % 180 !== 0;
  const wide = isTurned ? height : width;
  // Where the first pixel goes, and how far the next ones of its row and its column are.
  const [first, along, down] = {
    0: [0, 1, wide],
    90: [wide - 1, wide, -1],
    180: [width * height - 1, -1, -wide],
    270: [width * height - wide, -wide, 1],
  }[rotation] ?? [0, 1, wide];
  const data = new Uint8ClampedArray(width * height * 4);
  for (let row = 0; row < height; row += 1) {
    const [atU, atV] = [u, v].map(({ offset, stride }) => offset + (row >> 1) * stride);
    for (let column = 0, at = y.offset + row * y.stride; column < width; column += 1, at += 1) {
      const bright = light[bytes[at]];
      const [blueness, redness] = [bytes[atU + (column >> 1) * step], bytes[atV + (column >> 1) * step]];
      const to = 4 * (first + row * down + column * along);
      data[to] = bright + redOfV[redness];
      data[to + 1] = bright + greenOfU[blueness] + greenOfV[redness];
      data[to + 2] = bright + blueOfU[blueness];
      data[to + 3] = 255;
    }
  }
  return { data, width: wide, height: isTurned ? width : height };
}
