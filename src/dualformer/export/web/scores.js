// @ts-check
"use strict";
// From logits to answers, as `scoring/view_scores.py` and `inference/view_classifier.py` have it.

/**
 * @param {Float32Array | number[]} logits
 * @param {boolean} multiLabel
 * @returns {number[]}
 */
function toProbabilities(logits, multiLabel) {
  const values = Array.from(logits);
  if (multiLabel) return values.map((value) => 1 / (1 + Math.exp(-value)));
  const most = values.reduce((one, other) => Math.max(one, other), -Infinity);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((value) => value / sum);
}

/**
 * What a stream says of a clip: all of it, or where the network answers at every step in time its newer half.
 * @param {{logits: Float32Array | number[], steps: Float32Array | number[] | null}} answer
 * @param {boolean} multiLabel
 * @returns {number[]}
 */
function newestProbabilities({ logits, steps }, multiLabel) {
  if (steps === null) return toProbabilities(logits, multiLabel);
  const classes = logits.length;
  const rows = Array.from({ length: steps.length / classes }, (_, i) => steps.slice(i * classes, (i + 1) * classes));
  return average(rows.slice(Math.floor(rows.length / 2)).map((row) => toProbabilities(row, multiLabel)));
}

/**
 * The mean of several lists of probabilities.
 * @param {number[][]} lists
 * @returns {number[]}
 */
function average(lists) {
  return lists[0].map((_, i) => lists.reduce((sum, list) => sum + list[i], 0) / lists.length);
}

/**
 * @typedef {object} Named A class with its probability.
 * @property {string} label
 * @property {number} probability
 * @property {boolean} counts Whether it is part of the answer: the likeliest, or where videos may be of several classes
 *   one that reaches its threshold.
 */

/**
 * The classes to show, best first: `count` of them, and all that count.
 * @param {number[]} probabilities
 * @param {{labels: string[], multi_label: boolean, thresholds: number[]}} card
 * @param {number} count
 * @returns {Named[]}
 */
function best(probabilities, card, count) {
  const order = [...probabilities.keys()].sort((one, other) => probabilities[other] - probabilities[one] || one - other);
  return order
    .map((at, place) => ({
      label: card.labels[at],
      probability: probabilities[at],
      counts: card.multi_label ? probabilities[at] >= (card.thresholds[at] ?? 0.5) : place === 0,
    }))
    .filter((one, place) => place < count || one.counts);
}
