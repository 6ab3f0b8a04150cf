"use strict";

// Rows of segments on one axis of time, with a playhead, zoom, and a row that is edited with the mouse.

/**
 * @typedef {{name: string, segments: readonly Segment[], editable: boolean}} Row
 * @typedef {{kind: "seek" | "add" | "move" | Edge, from: number, x: number, row: number,
 *   segment: Segment | null, playhead: number, moved: boolean}} Drag
 */

const LANE = 30;
const GAP = 6;
const AXIS = 24;
const EDGE = 7;
/** Of segments that have their label written in them. */
const WIDE = 20;
/** How far the mouse goes, in pixels, before it drags, and how near it is drawn to other times. */
const STILL = 4;
const MOST_SCALE = 400;
const COLOURS = 6;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

class SegmentTrack {
  /**
   * @param {HTMLElement} root
   * @param {{seek: (time: number) => void, play: (row: number, segment: Segment) => void,
   *   pick: (row: number, segment: Segment | null) => void, change: (segments: readonly Segment[]) => void,
   *   draw: (start: number, end: number) => Segment, name: () => void}} tell
   */
  constructor(root, tell) {
    this.tell = tell;
    this.names = /** @type {HTMLElement} */ (root.querySelector(".names"));
    this.scroller = /** @type {HTMLElement} */ (root.querySelector(".scroller"));
    this.canvas = /** @type {HTMLElement} */ (root.querySelector(".canvas"));
    this.content = this.canvas.appendChild(document.createElement("div"));
    this.playhead = this.canvas.appendChild(document.createElement("div"));
    this.playhead.className = "playhead";
    /** @type {readonly Row[]} */
    this.rows = [];
    this.seconds = 1;
    this.frame = 0;
    this.time = 0;
    this.scale = 0;
    this.fits = true;
    /** @type {{row: number, segment: Segment} | null} */
    this.chosen = null;
    /** @type {Drag | null} */
    this.drag = null;
    /** What the edited row is while it is dragged in. @type {readonly Segment[] | null} */
    this.draft = null;
    /** @type {Map<string, number>} */
    this.colours = new Map();
    this.waiting = 0;
    /** What the elements stand for. @type {WeakMap<Element, Segment>} */
    this.boxes = new WeakMap();
    /** The rows as they are drawn, and of what. @type {{state: unknown[], ground: HTMLElement}[]} */
    this.grounds = [];
    /** Where each row begins, in pixels. @type {number[]} */
    this.tops = [];
    /** What is drawn of the canvas, in pixels. */
    this.within = { from: 0, to: 0 };
    this.scroller.addEventListener("scroll", () => {
      const { scrollLeft, clientWidth } = this.scroller;
      if (scrollLeft < this.within.from || scrollLeft + clientWidth > this.within.to) this.later();
    });
    this.scroller.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    new ResizeObserver(() => this.zoom(this.fits ? 0 : this.scale)).observe(this.scroller);
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.pull(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("pointerover", (event) => {
      const box = /** @type {HTMLElement} */ (event.target);
      const segment = this.boxes.get(box);
      if (segment) box.title = aboutSegment(segment);
    });
    this.canvas.addEventListener("pointercancel", () => this.cancel());
    this.canvas.addEventListener("dblclick", () => this.chosen && tell.name());
  }

  /**
   * Shows other rows.
   * @param {readonly Row[]} rows @param {number} seconds @param {number} frame seconds that a frame lasts; 0: unknown
   */
  show(rows, seconds, frame) {
    [this.rows, this.seconds, this.frame, this.chosen] = [rows, Math.max(seconds, 0.1), frame, null];
    this.grounds = [];
    this.time = this.scroller.scrollLeft = 0;
    // Half of the segments shall have room for a word.
    const lengths = rows.flatMap((row) => row.segments.map((each) => each.end - each.start)).sort((a, b) => a - b);
    const median = lengths[Math.floor(lengths.length / 2)] || seconds;
    this.fits = median * this.fitting() >= 24;
    this.zoom(this.fits ? 0 : 48 / median);
  }

  /** Shows what has changed in the rows, at the same place. @param {readonly Row[]} rows */
  update(rows) {
    this.rows = rows;
    this.later();
  }

  /** @param {number} seconds the length of the film, once it is known */
  lengthen(seconds) {
    if (seconds <= this.seconds) return;
    this.seconds = seconds;
    this.zoom(this.fits ? 0 : this.scale);
  }

  fitting() {
    return Math.max(1, this.scroller.clientWidth - 2) / this.seconds;
  }

  /**
   * @param {number} scale pixels a second; 0 shows the whole film
   * @param {number} [around] a time that stays in its place
   */
  zoom(scale, around) {
    const [least, width] = [this.fitting(), this.scroller.clientWidth];
    const seen = this.time * this.scale - this.scroller.scrollLeft;
    const middle = (this.scroller.scrollLeft + width / 2) / this.scale;
    const still = around ?? (seen >= 0 && seen <= width ? this.time : middle);
    const place = this.scale ? still * this.scale - this.scroller.scrollLeft : 0;
    this.fits = scale <= least;
    this.scale = Math.max(least, Math.min(scale, Math.max(MOST_SCALE, least)));
    this.canvas.style.width = `${this.fits ? width : Math.ceil(this.seconds * this.scale)}px`;
    if (Number.isFinite(place)) this.scroller.scrollLeft = still * this.scale - place;
    this.later();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.zoom(this.scale * 1.0025 ** -event.deltaY, this.timeAt(event.clientX));
  }

  /** @param {number} time @param {boolean} follow whether the axis is scrolled so that it is seen */
  moveTo(time, follow) {
    this.time = time;
    const x = time * this.scale;
    this.playhead.style.transform = `translateX(${x}px)`;
    const { scrollLeft, clientWidth } = this.scroller;
    if (follow && (x < scrollLeft || x > scrollLeft + clientWidth)) this.scroller.scrollLeft = x - 0.1 * clientWidth;
  }

  /** @param {number} row @param {Segment | null} segment */
  choose(row, segment) {
    this.chosen = segment && { row, segment };
    if (segment) {
      const { scrollLeft, clientWidth } = this.scroller;
      const [left, right] = [segment.start * this.scale, segment.end * this.scale];
      if (right < scrollLeft || left > scrollLeft + clientWidth) this.scroller.scrollLeft = left - 0.1 * clientWidth;
    }
    this.later();
  }

  later() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.redraw();
    });
  }

  /** @param {Row} row */
  segmentsOf(row) {
    return row.editable && this.draft ? this.draft : row.segments;
  }

  redraw() {
    const { scrollLeft, clientWidth } = this.scroller;
    const [from, to] = [scrollLeft - clientWidth / 2, scrollLeft + 1.5 * clientWidth];
    this.within = { from: Math.max(0, from), to };
    const drawn = [this.axis(from, to)];
    this.tops = [];
    let top = AXIS;
    this.names.replaceChildren();
    this.rows.forEach((row, number) => {
      const ground = this.ground(row, number, from, to);
      ground.style.top = `${top}px`;
      const name = make("div", "", row.name);
      name.style.top = `${top}px`;
      this.names.append(name);
      drawn.push(ground);
      this.tops.push(top);
      top += parseInt(ground.style.height) + GAP;
    });
    const before = [...this.content.children];
    drawn.forEach((each, place) => {
      if (before[place] !== each) before[place] ? before[place].replaceWith(each) : this.content.append(each);
    });
    before.slice(drawn.length).forEach((each) => each.remove());
    this.canvas.style.height = this.names.style.height = `${top}px`;
    this.moveTo(this.time, false);
  }

  /**
   * Returns a row from one pixel to another; that of before where nothing is new.
   * @param {Row} row @param {number} number @param {number} from @param {number} to
   */
  ground(row, number, from, to) {
    const segments = this.segmentsOf(row);
    const chosen = this.chosen?.row === number ? this.chosen.segment : null;
    const state = [segments, chosen, this.scale, from, to];
    const before = this.grounds[number];
    if (before?.state.every((each, place) => each === state[place])) return before.ground;
    const lanes = lanesOf(segments);
    const ground = make("div", `row${row.editable ? " editable" : ""}`);
    ground.style.height = `${LANE * (1 + Math.max(0, ...new Set(lanes)))}px`;
    segments.forEach((each, place) => {
      const [left, width] = [each.start * this.scale, (each.end - each.start) * this.scale];
      if (left + width < from || left > to) return;
      const wide = width >= WIDE;
      const box = make("div", `segment ${this.colourOf(each.label)}`, wide ? shownText(each.label) : "");
      box.classList.toggle("wide", wide);
      box.classList.toggle("chosen", each === chosen);
      box.style.left = `${left}px`;
      box.style.width = `${Math.max(2, width)}px`;
      if (lanes[place]) box.style.top = `${lanes[place] * LANE}px`;
      this.boxes.set(box, each);
      ground.append(box);
    });
    this.grounds[number] = { state, ground };
    return ground;
  }

  /** @param {number} from @param {number} to pixels */
  axis(from, to) {
    const axis = make("div", "axis");
    const step = STEPS.find((each) => each * this.scale >= 76) ?? 3600;
    const last = Math.min(this.seconds, to / this.scale);
    for (let count = Math.max(0, Math.floor(from / this.scale / step)); count * step <= last; count++) {
      const x = count * step * this.scale;
      const tick = make("span", "", timeText(count * step, step < 1 ? 1 : 0));
      tick.style.left = `${x}px`;
      tick.classList.toggle("last", x + 40 > this.seconds * this.scale);
      axis.append(tick);
    }
    return axis;
  }

  /** Returns the style of a label: a colour of its own, of which the second six are deeper. @param {string} label */
  colourOf(label) {
    const number = this.colours.get(label) ?? this.colours.size;
    this.colours.set(label, number);
    return `s${number % COLOURS}${number % (2 * COLOURS) < COLOURS ? "" : " deep"}`;
  }

  /** @param {number} x of the window */
  timeAt(x) {
    const time = (x - this.canvas.getBoundingClientRect().left) / this.scale;
    return Math.max(0, Math.min(this.seconds, time));
  }

  /** Returns the number of the row at a place of the window, -1 for the axis. @param {number} y */
  rowAt(y) {
    const inside = y - this.canvas.getBoundingClientRect().top;
    return this.tops.filter((top) => top <= inside).length - 1;
  }

  /**
   * Returns the time of a frame, and near the edge of another segment, or where the playhead was, that; not if it is
   * to be `free`.
   * @param {number} time @param {Drag} drag @param {boolean} free
   */
  drawn(time, drag, free) {
    const seen = this.rows.flatMap((row) => row.segments.filter((each) => each !== drag.segment));
    const edges = free ? [] : [drag.playhead, ...seen.flatMap((each) => [each.start, each.end])];
    const near = edges.filter((each) => Math.abs(each - time) * this.scale <= STILL);
    if (near.length) return near.reduce((a, b) => (Math.abs(a - time) <= Math.abs(b - time) ? a : b));
    return toMilliseconds(this.frame ? Math.round(time / this.frame) * this.frame : time);
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button !== 0 || this.drag) return;
    const [number, time] = [this.rowAt(event.clientY), this.timeAt(event.clientX)];
    const row = this.rows[number];
    const segment = this.boxes.get(/** @type {Element} */ (event.target)) ?? null;
    /** @type {Drag["kind"]} */
    let kind = "seek";
    if (row?.editable && segment) {
      const room = Math.min(EDGE, ((segment.end - segment.start) * this.scale) / 3);
      const [left, right] = [time - segment.start, segment.end - time].map((each) => each * this.scale);
      kind = Number(left) <= room ? "start" : Number(right) <= room ? "end" : "move";
    } else if (row?.editable) kind = "add";
    this.drag = { kind, from: time, x: event.clientX, row: number, segment, playhead: this.time, moved: false };
    this.canvas.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  pull(event) {
    const drag = this.drag;
    if (!drag) return;
    if (!drag.moved && Math.abs(event.clientX - drag.x) < STILL) return;
    drag.moved = true;
    const [raw, row, alone] = [this.timeAt(event.clientX), this.rows[drag.row], event.shiftKey];
    if (drag.kind === "seek" || !row) {
      if (!drag.segment) this.tell.seek(raw);
      return;
    }
    const time = this.drawn(raw, drag, alone);
    if (drag.kind === "add") {
      const start = this.drawn(drag.from, drag, alone);
      const fresh = this.tell.draw(Math.min(start, time), Math.max(start, time));
      const long = fresh.end - fresh.start >= SHORTEST;
      this.draft = long ? ordered([...row.segments, fresh]) : null;
      this.chosen = long ? { row: drag.row, segment: fresh } : null;
    } else if (drag.segment && drag.kind === "move") {
      const long = drag.segment.end - drag.segment.start;
      const start = this.drawn(drag.segment.start + raw - drag.from, drag, alone);
      const at = toMilliseconds(Math.max(0, Math.min(start, Math.max(0, this.seconds - long))));
      const segment = { ...drag.segment, start: at, end: toMilliseconds(at + long) };
      this.draft = ordered(replaced(row.segments, drag.segment, segment));
      this.chosen = { row: drag.row, segment };
    } else if (drag.segment && drag.kind !== "move") {
      const { segments, segment } = withEdge(row.segments, drag.segment, drag.kind, time, alone);
      this.draft = ordered(segments);
      this.chosen = { row: drag.row, segment };
    }
    const shown = this.chosen?.segment;
    this.tell.seek(!shown || drag.kind === "add" ? time : drag.kind === "end" ? shown.end : shown.start);
    this.tell.pick(drag.row, this.chosen?.segment ?? null);
    this.later();
  }

  /** @param {PointerEvent} event */
  release(event) {
    const [drag, draft] = [this.drag, this.draft];
    this.drag = this.draft = null;
    if (!drag) return;
    if (draft) this.tell.change(draft);
    else if (drag.moved) return;
    else if (drag.segment) this.tell.play(drag.row, drag.segment);
    else this.tell.seek(this.timeAt(event.clientX));
  }

  /** Leaves a drag as if it had not begun. */
  cancel() {
    const drag = this.drag;
    this.drag = this.draft = null;
    if (!drag?.moved) return;
    this.choose(drag.row, drag.segment);
    this.tell.pick(drag.row, drag.segment);
  }
}

/** @param {Segment} segment */
function aboutSegment(segment) {
  const sure = segment.probability === undefined ? "" : ` (${(100 * segment.probability).toFixed(1)} %)`;
  return `${shownText(segment.label)}, ${timeText(segment.start, 2)} to ${timeText(segment.end, 2)}${sure}`;
}

/** @param {string} tag @param {string} name of its class @param {string} [text] */
function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}
