"use strict";

// Segments as a person corrects them, and the CSV file that they become. Nothing here knows the page.

/**
 * @typedef {{readonly start: number, readonly end: number, readonly label: string, readonly probability?: number}}
 *   Segment seconds from the first frame; one with new times is a new object
 * @typedef {"start" | "end"} Edge
 */

/** The shortest segment that can be drawn by hand, in seconds. */
const SHORTEST = 0.04;

/** @param {number} seconds */
const toMilliseconds = (seconds) => Math.round(seconds * 1000) / 1000;

/** The segments of one film, with all that they were before. */
class EditedSegments {
  /** @param {readonly Segment[]} segments those that it begins with, in any order */
  constructor(segments) {
    this.first = ordered(segments);
    this.segments = this.first;
    /** @type {(readonly Segment[])[]} */
    this.past = [];
    /** @type {(readonly Segment[])[]} */
    this.future = [];
  }

  get changed() {
    return this.segments !== this.first;
  }

  /** @param {readonly Segment[]} segments */
  change(segments) {
    this.past.push(this.segments);
    this.future = [];
    this.segments = ordered(segments);
  }

  undo() {
    const before = this.past.pop();
    if (!before) return;
    this.future.push(this.segments);
    this.segments = before;
  }

  redo() {
    const after = this.future.pop();
    if (!after) return;
    this.past.push(this.segments);
    this.segments = after;
  }
}

/** @param {readonly Segment[]} segments @returns {readonly Segment[]} */
function ordered(segments) {
  return [...segments].sort((one, other) => one.start - other.start || one.end - other.end);
}

/**
 * Returns the segments with one of them replaced, or removed for null.
 * @param {readonly Segment[]} segments @param {Segment} old @param {Segment | null} fresh
 */
function replaced(segments, old, fresh) {
  return segments.flatMap((each) => (each !== old ? [each] : fresh ? [fresh] : []));
}

/**
 * Returns the segments with an edge of one at another time, and that one. Those that touch it there come along, as far
 * as they have room, unless it moves `alone`.
 * @param {readonly Segment[]} segments @param {Segment} moved @param {Edge} edge @param {number} time
 * @param {boolean} alone
 * @returns {{segments: readonly Segment[], segment: Segment}}
 */
function withEdge(segments, moved, edge, time, alone) {
  const other = edge === "start" ? "end" : "start";
  const touching = segments.filter((each) => !alone && each !== moved && Math.abs(each[other] - moved[edge]) < 0.0015);
  const starting = edge === "start" ? [moved] : touching;
  const ending = edge === "start" ? touching : [moved];
  const latest = Math.min(...starting.map((each) => Math.max(each.end - SHORTEST, each.start)));
  const earliest = Math.max(0, ...ending.map((each) => Math.min(each.start + SHORTEST, each.end)));
  const at = toMilliseconds(Math.max(earliest, Math.min(latest, time)));
  const segment = { ...moved, [edge]: at };
  const all = segments.map((each) =>
    each === moved ? segment : touching.includes(each) ? { ...each, [other]: at } : each,
  );
  return { segments: all, segment };
}

/**
 * Returns what is wrong with the name of a class, or nothing.
 * @param {string} label
 */
function problemOfLabel(label) {
  if (!label) return "A label needs a name.";
  if (label.includes(";")) return "A label has no “;”, which separates labels.";
  if (/[\p{Cc}\p{Zl}\p{Zp}]/u.test(label)) return "A label has no line breaks or other control characters.";
  return "";
}

/**
 * Places segments in as few lanes as they do not overlap in; returns the lane of each.
 * @param {readonly Segment[]} segments in order
 */
function lanesOf(segments) {
  /** @type {number[]} */
  const ends = [];
  return segments.map((each) => {
    const free = ends.findIndex((end) => end <= each.start + 0.0005);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = each.end;
    return lane;
  });
}

/** Returns seconds as 1:02:03.4, hours only where there are any. @param {number} seconds @param {number} digits */
function timeText(seconds, digits) {
  const units = Math.round(Math.max(0, seconds) * 10 ** digits);
  const whole = Math.floor(units / 10 ** digits);
  const part = digits ? `.${String(units % 10 ** digits).padStart(digits, "0")}` : "";
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const start = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : String(minutes);
  return `${start}:${String(rest).padStart(2, "0")}${part}`;
}

/** Returns text as it is shown: with a replacement for what is no text. @param {string} text */
function shownText(text) {
  return text.replace(/\p{Cs}/gu, "\ufffd");
}

/**
 * Returns a CSV file with the columns path, start, end and label; a film without segments has a row of its path.
 * @param {readonly {path: string, segments: readonly Segment[]}[]} films
 */
function csvBytes(films) {
  const rows = [["path", "start", "end", "label"]];
  for (const { path, segments } of films) {
    if (!segments.length) rows.push([path, "", "", ""]);
    for (const each of segments) rows.push([path, each.start.toFixed(3), each.end.toFixed(3), each.label]);
  }
  const text = rows.map((row) => row.map(csvField).join(",")).join("\n");
  return encoded(`${text}\n`);
}

/** @param {string} text */
function csvField(text) {
  return /[",;\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Returns text in UTF-8. What Python's surrogateescape made of bytes that are no text is those bytes again.
 * @param {string} text
 */
function encoded(text) {
  const encoder = new TextEncoder();
  const parts = text.split(/(\p{Cs})/u).map((part) => {
    const code = part.charCodeAt(0);
    return part.length === 1 && code >= 0xdc80 && code <= 0xdcff ? Uint8Array.of(code - 0xdc00) : encoder.encode(part);
  });
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    bytes.set(part, place);
    place += part.length;
  }
  return bytes;
}
