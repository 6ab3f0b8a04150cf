"use strict";

// The page: a film above its rows of segments, of which the last one is corrected and saved.

/**
 * @typedef {{name: string, path: string, source: string | null, seconds: number, rate: number | null,
 *   error: string | null, true: readonly Segment[] | null, predicted: readonly Segment[]}} Film
 */

const CORRECTED = "corrected";
const ANOTHER = "\0another";
/** A player that is sent to where a frame begins, in milliseconds, may show the one before. */
const LATER = 0.001;
const UNSEEKABLE =
  "The server of this page sends films from their beginning alone, so that segments cannot be played. Load the film " +
  "below, or open the page from the disk.";
const FILE = "corrected_segments.csv";

class SegmentEditor {
  /** @param {{id: string, labels: readonly string[], films: readonly Film[]}} data */
  constructor(data) {
    this.data = data;
    this.key = `dualformer ${data.id}`;
    this.edited = data.films.map(
      (film) => new EditedSegments(film.predicted.map(({ start, end, label }) => ({ start, end, label }))),
    );
    /** Films that a person has looked through. @type {Set<number>} */
    this.seen = new Set();
    /** Addresses of films that were loaded from the disk. @type {Map<number, string>} */
    this.loaded = new Map();
    this.number = 0;
    this.kept = true;
    this.label = data.labels[0] ?? "";
    /** Where the player was last sent. */
    this.asked = 0;
    /** Where the player stops. @type {number | null} */
    this.end = null;

    this.player = /** @type {HTMLVideoElement} */ (element("player"));
    this.timeline = element("timeline");
    this.track = new SegmentTrack(this.timeline, {
      seek: (time) => this.seek(time),
      play: (row, segment) => this.play(row, segment),
      pick: (row, segment) => this.describe(row, segment, false),
      change: (segments) => this.change(segments, this.track.chosen?.segment ?? null),
      draw: (start, end) => ({ start, end, label: this.label }),
      name: () => this.field("label").focus(),
    });
    this.restore();
    this.listen();
    const asked = Number(location.hash.slice(1));
    this.open(asked >= 1 && asked <= data.films.length ? asked - 1 : 0);
  }

  get film() {
    return /** @type {Film} */ (this.data.films[this.number]);
  }

  get segments() {
    return /** @type {EditedSegments} */ (this.edited[this.number]);
  }

  get rows() {
    const rows = [
      ...(this.film.true ? [{ name: "true", segments: this.film.true, editable: false }] : []),
      { name: "predicted", segments: this.film.predicted, editable: false },
    ];
    return [...rows, { name: CORRECTED, segments: this.segments.segments, editable: true }];
  }

  /** The number of the row that is corrected. */
  get last() {
    return this.film.true ? 2 : 1;
  }

  /** The chosen segment of the row that is corrected. */
  get chosen() {
    const chosen = this.track.chosen;
    return chosen && chosen.row === this.last ? chosen.segment : null;
  }

  get plays() {
    return this.player.readyState > 0 && this.player.videoWidth > 0;
  }

  /** Whether the player goes where it is sent. */
  get seeks() {
    const { seekable } = this.player;
    return this.plays && seekable.length > 0 && seekable.end(seekable.length - 1) > 0;
  }

  /** @param {string} id */
  field(id) {
    return /** @type {HTMLInputElement} */ (element(id));
  }

  listen() {
    const { player } = this;
    player.addEventListener("loadedmetadata", () => {
      this.note(!this.plays ? this.unplayable : this.seeks ? "" : UNSEEKABLE);
      if (Number.isFinite(player.duration)) this.track.lengthen(player.duration);
      if (this.track.time) this.seek(this.track.time);
    });
    player.addEventListener("error", () => this.note(this.unplayable));
    player.addEventListener("seeking", () => {
      if (Math.abs(player.currentTime - LATER - this.asked) > LATER) this.end = null; // by the player's own controls
    });
    for (const event of ["timeupdate", "seeked"]) player.addEventListener(event, () => this.follow());
    player.addEventListener("play", () => this.run());
    player.addEventListener("pause", () => (this.end = null));

    const actions = {
      undo: () => this.step("undo"),
      redo: () => this.step("redo"),
      restart: () => this.change(this.segments.first, null),
      add: () => this.add(),
      copy: () => this.copy(),
      remove: () => this.remove(),
      replay: () => this.track.chosen && this.play(this.track.chosen.row, this.track.chosen.segment),
      closer: () => this.track.zoom(this.track.scale * 1.6),
      farther: () => this.track.zoom(this.track.scale / 1.6),
      whole: () => this.track.zoom(0),
      before: () => this.open(this.number - 1),
      after: () => this.open(this.number + 1),
      load: () => this.field("files").click(),
      save: () => this.save(),
    };
    for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", action);
    this.field("films").addEventListener("change", () => this.open(Number(this.field("films").value)));
    this.field("files").addEventListener("change", () => this.load([...(this.field("files").files ?? [])]));
    this.field("seen").addEventListener("change", () => {
      if (this.field("seen").checked) this.seen.add(this.number);
      else this.seen.delete(this.number);
      this.keep();
    });
    this.field("label").addEventListener("change", () => this.relabel(this.field("label").value));
    this.field("another").addEventListener("change", () => this.relabel(this.field("another").value.trim()));
    for (const edge of /** @type {const} */ (["start", "end"]))
      this.field(edge).addEventListener("change", () => this.retime(edge, this.field(edge).valueAsNumber));
    this.timeline.addEventListener("keydown", (event) => this.press(event));
    this.timeline.addEventListener("pointerdown", () => this.timeline.focus({ preventScroll: true }));
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement && ["text", "number"].includes(event.target.type);
      const key = event.key.toLowerCase();
      if (typing || !(event.ctrlKey || event.metaKey) || (key !== "z" && key !== "y")) return;
      event.preventDefault();
      this.step(key === "y" || event.shiftKey ? "redo" : "undo");
    });
    addEventListener("beforeunload", (event) => {
      if (!this.kept) event.preventDefault();
    });
  }

  /** Shows another film. @param {number} number */
  open(number) {
    if (!this.data.films[number]) return;
    [this.number, this.end] = [number, null];
    const { film, player } = this;
    if (this.data.films.length > 1) history.replaceState(null, "", `#${number + 1}`);
    this.note("");
    element("broken").hidden = film.error === null;
    element("broken").textContent = film.error === null ? "" : `The film breaks off: ${shownText(film.error)}`;
    this.show(this.loaded.get(number) ?? film.source);
    player.setAttribute("aria-label", shownText(film.name));
    this.track.show(this.rows, film.seconds, film.rate ? 1 / film.rate : 0);
    for (const edge of ["start", "end"]) this.field(edge).step = film.rate ? (1 / film.rate).toFixed(3) : "0.1";
    this.refresh();
    this.follow();
    this.choose(this.last, null);
  }

  /** @param {string | null} source */
  show(source) {
    if (source) this.player.src = source;
    else {
      this.player.removeAttribute("src");
      this.player.load();
      this.note(this.unplayable);
    }
  }

  get unplayable() {
    const why = "is not where it was, lies at a URL, or cannot be decoded by this browser";
    const remedy = "Load it below, or a copy of it as MP4 (H.264) or WebM. Segments can be corrected without it.";
    return `The film does not play here: ${shownText(this.film.path)} ${why}. ${remedy}`;
  }

  /** Says what there is to say of the film. @param {string} text */
  note(text) {
    element("note").hidden = !text;
    element("note").textContent = text;
  }

  /**
   * Shows films that a person has chosen: several by their names, one as the film at hand.
   * @param {readonly File[]} files
   */
  load(files) {
    const names = this.data.films.map((film) => film.path.slice(film.path.lastIndexOf("/") + 1).normalize());
    files.forEach((file) => {
      const named = names.indexOf(file.name.normalize());
      const number = files.length === 1 ? this.number : named;
      if (number < 0) return;
      URL.revokeObjectURL(this.loaded.get(number) ?? "");
      this.loaded.set(number, URL.createObjectURL(file));
    });
    const strangers = files.length > 1 ? files.filter((file) => !names.includes(file.name.normalize())) : [];
    this.complain(strangers.length ? `No film of this page: ${strangers.map((file) => file.name).join(", ")}` : "");
    this.field("files").value = "";
    const source = this.loaded.get(this.number);
    if (!source) return;
    this.note("");
    this.show(source);
  }

  get frame() {
    return this.film.rate ? 1 / this.film.rate : SHORTEST;
  }

  /** @param {number} time */
  seek(time) {
    [this.end, this.asked] = [null, time];
    if (this.seeks) this.player.currentTime = time + LATER;
    this.track.moveTo(time, true);
    this.tellTime();
  }

  /** Plays a segment, and nothing behind it. @param {number} row @param {Segment} segment */
  play(row, segment) {
    this.choose(row, segment);
    this.seek(segment.start);
    if (!this.seeks) return;
    const end = Math.max(segment.end, segment.start + this.frame);
    this.player.play().then(
      () => (this.end = end),
      () => {}, // it was stopped before it began
    );
  }

  run() {
    this.follow();
    if (!this.player.paused) requestAnimationFrame(() => this.run());
  }

  /** Moves the playhead to where the player is, and stops it at the end of the segment that is played. */
  follow() {
    if (!this.plays) return this.tellTime();
    const { end, player } = this;
    if (end !== null && !player.seeking && player.currentTime >= end) {
      player.pause();
      this.seek(end);
    }
    const there = Math.abs(player.currentTime - this.asked) <= 2 * LATER;
    if (!this.track.drag && !player.seeking) this.track.moveTo(there ? this.asked : player.currentTime, !player.paused);
    this.tellTime();
  }

  tellTime() {
    element("time").textContent = `${timeText(this.track.time, 2)} of ${timeText(this.track.seconds, 0)}`;
  }

  /** @param {number} row @param {Segment | null} segment */
  choose(row, segment) {
    this.track.choose(row, segment);
    this.describe(row, segment, true);
  }

  /** Shows a segment in the form. @param {number} row @param {Segment | null} segment @param {boolean} aloud */
  describe(row, segment, aloud) {
    const editable = row === this.last;
    for (const id of ["label", "another", "start", "end", "remove"]) this.field(id).disabled = !segment || !editable;
    this.field("replay").disabled = !segment;
    element("copy").hidden = !segment || editable;
    element("remove").hidden = !!segment && !editable;
    element("which").textContent = segment ? `${this.rows[row]?.name} segment` : "No segment is chosen";
    this.offer(segment?.label ?? null);
    this.field("start").value = segment ? segment.start.toFixed(3) : "";
    this.field("end").value = segment ? segment.end.toFixed(3) : "";
    if (segment && editable) this.label = segment.label;
    this.complain("");
    if (!segment || !aloud) return;
    const { name, segments } = /** @type {Row} */ (this.rows[row]);
    this.say(`${name}, ${segments.indexOf(segment) + 1} of ${segments.length}: ${aboutSegment(segment)}`);
  }

  /** Offers labels, of which one is chosen. @param {string | null} chosen */
  offer(chosen) {
    const used = this.edited.flatMap((each) => each.segments.map((segment) => segment.label));
    const labels = [...new Set([...this.data.labels, ...used, ...(chosen === null ? [] : [chosen])])];
    const options = labels.map((label) => new Option(shownText(label), label, false, label === chosen));
    const none = chosen === null ? [new Option("–", "", false, true)] : [];
    this.field("label").replaceChildren(...none, ...options, new Option("another …", ANOTHER));
    this.field("another").hidden = true;
  }

  /** @param {readonly Segment[]} segments @param {Segment | null} chosen */
  change(segments, chosen) {
    this.segments.change(segments);
    if (this.data.films.length > 1) this.seen.add(this.number);
    this.changed(chosen);
  }

  /** @param {"undo" | "redo"} way */
  step(way) {
    const before = this.segments.segments;
    this.segments[way]();
    this.changed(this.segments.segments.find((each) => !before.includes(each)) ?? null);
  }

  /** @param {Segment | null} chosen */
  changed(chosen) {
    this.track.update(this.rows);
    this.choose(this.last, chosen);
    this.keep();
  }

  /** Shows what can be undone, and what is saved. */
  refresh() {
    const { data, seen } = this;
    this.field("undo").disabled = !this.segments.past.length;
    this.field("redo").disabled = !this.segments.future.length;
    this.field("restart").disabled = this.segments.segments === this.segments.first;
    this.field("before").disabled = this.number === 0;
    this.field("after").disabled = this.number === data.films.length - 1;
    this.field("seen").checked = seen.has(this.number);
    const options = data.films.map((film, place) => {
      const mark = this.edited[place]?.changed ? "corrected" : seen.has(place) ? "looked through" : "";
      const text = `${place + 1}. ${shownText(film.name)}${mark && ` (${mark})`}`;
      return new Option(text, String(place), false, place === this.number);
    });
    this.field("films").replaceChildren(...options);
    this.field("some").disabled = !seen.size;
    element("count").textContent = `the ${seen.size} looked through`;
    if (!seen.size) this.field("all").checked = true;
  }

  /** Keeps what has been done in the browser, so that a page that is closed goes on where it was. */
  keep() {
    this.refresh();
    const films = this.edited.flatMap((each, place) => (each.changed ? [[place, each.segments]] : []));
    try {
      localStorage.setItem(this.key, JSON.stringify({ films, seen: [...this.seen] }));
      this.kept = true;
    } catch {
      this.kept = false; // the browser may not keep anything, or has no room: it asks before the page is closed
    }
  }

  restore() {
    try {
      const found = JSON.parse(localStorage.getItem(this.key) ?? "{}");
      for (const [place, segments] of found.films ?? []) this.edited[place]?.change(segments);
      this.seen = new Set(found.seen ?? []);
    } catch {
      this.kept = true; // there is nothing to go on with
    }
  }

  /** @param {string} label */
  relabel(label) {
    const segment = this.chosen;
    if (!segment) return;
    if (label === ANOTHER) {
      this.field("another").hidden = false;
      this.field("another").value = "";
      return this.field("another").focus();
    }
    const problem = problemOfLabel(label);
    if (problem) return this.complain(problem);
    const fresh = { ...segment, label };
    this.change(replaced(this.segments.segments, segment, fresh), fresh);
  }

  /** @param {Edge} edge @param {number} time */
  retime(edge, time) {
    const old = this.chosen;
    if (!old || Number.isNaN(time)) return;
    const { segments, segment } = withEdge(this.segments.segments, old, edge, Math.min(time, this.track.seconds), false);
    this.change(segments, segment);
    this.seek(segment[edge]);
  }

  /** Adds a segment of a second where the playhead is. */
  add() {
    const start = toMilliseconds(Math.max(0, Math.min(this.track.time, this.track.seconds - 1)));
    const segment = { start, end: toMilliseconds(Math.min(start + 1, this.track.seconds)), label: this.label };
    this.change([...this.segments.segments, segment], segment);
  }

  /** Adds the chosen segment of another row. */
  copy() {
    if (!this.track.chosen) return;
    const { start, end, label } = this.track.chosen.segment;
    const segment = { start, end, label };
    this.change([...this.segments.segments, segment], segment);
  }

  remove() {
    if (this.chosen) this.change(replaced(this.segments.segments, this.chosen, null), null);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { track, frame } = this;
    const shown = () => toMilliseconds(Math.floor(track.time / frame + 0.05) * frame);
    /** @type {Record<string, () => unknown>} */
    const keys = {
      " ": () => this.plays && (this.player.paused ? this.player.play().catch(() => {}) : this.player.pause()),
      Enter: () => track.chosen && this.play(track.chosen.row, track.chosen.segment),
      ArrowLeft: () => this.walk(-1),
      ArrowRight: () => this.walk(1),
      ArrowUp: () => this.climb(-1),
      ArrowDown: () => this.climb(1),
      ",": () => this.seek(Math.max(0, track.time - frame)),
      ".": () => this.seek(Math.min(track.seconds, track.time + frame)),
      "[": () => this.retime("start", shown()),
      "]": () => this.retime("end", shown()),
      n: () => this.add(),
      l: () => this.field("label").focus(),
      Delete: () => this.remove(),
      Backspace: () => this.remove(),
      "+": () => track.zoom(track.scale * 1.6),
      "=": () => track.zoom(track.scale * 1.6),
      "-": () => track.zoom(track.scale / 1.6),
      0: () => track.zoom(0),
      Escape: () => (track.drag ? track.cancel() : this.choose(this.last, null)),
    };
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** Chooses the next or the previous segment of a row; the first time the one at the playhead. @param {-1 | 1} way */
  walk(way) {
    const row = this.track.chosen?.row ?? this.last;
    const segments = this.rows[row]?.segments ?? [];
    const { time, chosen } = this.track;
    const place = chosen ? segments.indexOf(chosen.segment) + way : segments.findIndex((each) => each.end > time);
    this.goTo(row, segments[place]);
  }

  /** Chooses the segment of the row above or below that is there now. @param {-1 | 1} way */
  climb(way) {
    const row = Math.max(0, Math.min(this.last, (this.track.chosen?.row ?? this.last + 1) + way));
    const segments = this.rows[row]?.segments ?? [];
    this.goTo(row, segments.find((each) => each.end > this.track.time) ?? segments.at(-1));
  }

  /** @param {number} row @param {Segment | undefined} segment */
  goTo(row, segment) {
    if (!segment) return;
    this.choose(row, segment);
    this.seek(segment.start);
  }

  /** Says what nobody sees who sees the page. @param {string} text */
  say(text) {
    element("said").textContent = text;
  }

  /** @param {string} text */
  complain(text) {
    element("problem").textContent = text;
  }

  save() {
    const films = this.data.films.flatMap(({ path }, place) => {
      if (this.field("some").checked && !this.seen.has(place)) return [];
      return [{ path, segments: this.edited[place]?.segments ?? [] }];
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csvBytes(films)], { type: "text/csv" }));
    link.download = FILE;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    this.kept = true;
  }
}

new SegmentEditor(JSON.parse(element("data").textContent ?? ""));
