// @ts-check
"use strict";
// The page: clips of classes in, a recogniser out. What there is, the server knows; this asks it every second.

/**
 * What the server answers to `state`.
 * @typedef {object} State
 * @property {{name: string, clips: string[]}[]} classes
 * @property {Training} training
 * @property {Result | null} result
 * @property {{bytes: number, seconds: number}} limits Of a clip.
 *
 * @typedef {object} Training
 * @property {string} stage
 * @property {boolean} running
 * @property {boolean} can_go_on
 * @property {string[]} log
 * @property {string} [line]
 * @property {string} [error]
 * @property {number} [step]
 * @property {number} [steps]
 *
 * @typedef {object} Result
 * @property {string} made When, by which results are told apart.
 * @property {string[]} classes
 * @property {number} videos
 * @property {number} top1
 * @property {[number, number]} interval
 * @property {number[][]} confusion Rows are true classes.
 * @property {{clip: string, class: string, taken_for: string, probability: number}[]} mistakes
 *
 * @typedef {object} Card What is shown of a class.
 * @property {HTMLElement} element
 * @property {HTMLElement} count
 * @property {HTMLButtonElement} record
 * @property {HTMLButtonElement} remove
 * @property {HTMLElement} clips
 * @property {HTMLElement} error
 * @property {Map<string, HTMLElement>} shown By the name of the clip.
 * @property {number} arriving Clips that are being uploaded.
 */

const POLL = 1000;
/** Clips of a class that are shown, the newest ones. */
const MOST_SHOWN = 48;
/** Milliseconds before the first clip and between two. */
const PAUSE = 800;
const STAGES = new Map([
  ["starting", "Starting…"],
  ["training", "Training…"],
  ["judging", "Judging on the clips that were not trained on…"],
  ["exporting", "Making the live page…"],
  ["stopping", "Saving…"],
  ["stopped", "Stopped and saved."],
  ["done", "Done."],
]);

const stage = element("stage", HTMLDivElement);
const picture = element("camera-picture", HTMLVideoElement);
const countdown = element("countdown", HTMLParagraphElement);
const cameraButton = element("camera", HTMLButtonElement);
const secondsChoice = element("seconds", HTMLSelectElement);
const countChoice = element("count", HTMLSelectElement);
const nameInput = element("name", HTMLInputElement);
const clipsError = element("clips-error", HTMLParagraphElement);
const classList = element("classes", HTMLDivElement);
const trainButton = element("train", HTMLButtonElement);
const goOnButton = element("go-on", HTMLButtonElement);
const stopButton = element("stop", HTMLButtonElement);
const epochsInput = element("epochs", HTMLInputElement);
const flipInput = element("flip", HTMLInputElement);
const wanted = element("wanted", HTMLElement);
const progress = element("progress", HTMLProgressElement);
const statusLine = element("status", HTMLParagraphElement);
const log = element("log", HTMLPreElement);
const resultPart = element("result", HTMLElement);
const liveButton = element("live", HTMLButtonElement);
const recogniser = element("recogniser", HTMLIFrameElement);

/** @type {Map<string, Card>} By the name of the class. */
const cards = new Map();
/** @type {string | null} The class that is being recorded. */
let recording = null;
let shownResult = "";
let isRunning = false;

/**
 * @param {string} path
 * @param {string} method
 * @param {BodyInit | object | null} body A form, or what becomes JSON.
 * @returns {Promise<any>} The answer's JSON. Throws the server's words where it refuses.
 */
async function ask(path, method = "GET", body = null) {
  /** @type {Record<string, string>} */
  const headers = { "X-Dualformer-Page": "train" };
  if (body !== null && !(body instanceof FormData)) headers["Content-Type"] = "application/json";
  const sent = body === null || body instanceof FormData ? body : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: sent }).catch(() => {
    throw new Error("The server does not answer.");
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error?.message ?? `the server answers ${answer.status}`);
  return said;
}

/**
 * @param {HTMLElement} line
 * @param {unknown} error None hides the line.
 */
function sayError(line, error = null) {
  line.hidden = error === null;
  line.textContent = error instanceof Error ? error.message : String(error ?? "");
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} kind
 * @param {object} settings
 * @param {(Node | string)[]} inside
 * @returns {HTMLElementTagNameMap[K]}
 */
function made(kind, settings = {}, ...inside) {
  const one = document.createElement(kind);
  Object.assign(one, settings);
  one.append(...inside);
  return one;
}

/** @param {string} name */
const pathOf = (name) => `classes/${encodeURIComponent(name)}`;

/** @param {string} name @param {string} clip */
function thumbnail(name, clip) {
  const video = made("video", { src: `${pathOf(name)}/clips/${encodeURIComponent(clip)}`, preload: "metadata", title: clip });
  Object.assign(video, { muted: true, loop: true, playsInline: true });
  video.addEventListener("mouseenter", () => void video.play().catch(() => {}));
  video.addEventListener("mouseleave", () => video.pause());
  return video;
}

/** @param {string} name */
function makeCard(name) {
  const count = made("span");
  const record = made("button", { type: "button", textContent: "Record" });
  const files = made("input", { type: "file", multiple: true, accept: "video/*,.mkv,.mp4,.mov,.webm,.avi" });
  const choose = made("button", { type: "button", textContent: "Choose files" });
  const remove = made("button", { type: "button", textContent: "Delete" });
  const clips = made("div", { className: "clips" });
  const error = made("p", { className: "wrong", hidden: true });
  error.setAttribute("role", "alert");
  const head = made("div", { className: "controls" }, made("h3", {}, `${name} `, count), record, choose, files, remove);
  const card = made("div", { className: "class" }, head, clips, error);
  card.dataset.name = name;
  /** @type {Card} */
  const shown = { element: card, count, record, remove, clips, error, shown: new Map(), arriving: 0 };
  files.tabIndex = -1;
  choose.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    void addFiles(name, [...(files.files ?? [])]);
    files.value = "";
  });
  record.addEventListener("click", () => (recording === name ? (recording = null) : void recordClips(name)));
  remove.addEventListener("click", () => {
    if (shown.shown.size === 0 || window.confirm(`Delete the class ${name} with its clips?`)) void change(shown, pathOf(name));
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    card.addEventListener(kind, (event) => {
      event.preventDefault();
      card.classList.toggle("over", kind === "dragover");
      if (event instanceof DragEvent && kind === "drop") void addFiles(name, [...(event.dataTransfer?.files ?? [])]);
    });
  }
  return shown;
}

/** Deletes what is at the path. @param {Card} card @param {string} path */
async function change(card, path) {
  sayError(card.error);
  try {
    await ask(path, "DELETE");
    await refresh();
  } catch (error) {
    sayError(card.error, error);
  }
}

/** Sends files one by one. @param {string} name @param {File[]} files */
async function addFiles(name, files) {
  const card = cards.get(name);
  if (!card) return;
  sayError(card.error);
  /** @type {string[]} */
  const refused = [];
  card.arriving += files.length;
  for (const file of files) {
    const form = new FormData();
    form.append("video", file, file.name);
    try {
      await ask(`${pathOf(name)}/clips`, "POST", form);
    } catch (error) {
      refused.push(`${file.name}: ${error instanceof Error ? error.message : error}`);
      sayError(card.error, refused.join(" "));
    }
    card.arriving -= 1;
    await refresh();
  }
}

/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((done) => window.setTimeout(done, milliseconds));

async function startCamera() {
  if (picture.srcObject) return;
  if (!navigator.mediaDevices) throw new Error("Browsers give pages of http no camera, except from localhost: use https.");
  const wish = { width: { ideal: 320 }, height: { ideal: 240 }, frameRate: { ideal: 30 } };
  picture.srcObject = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
  await picture.play();
  picture.hidden = false;
  element("camera-off", HTMLParagraphElement).hidden = true;
  cameraButton.textContent = "Stop the camera";
}

function stopCamera() {
  recording = null;
  if (picture.srcObject instanceof MediaStream) picture.srcObject.getTracks().forEach((track) => track.stop());
  picture.srcObject = null;
  picture.hidden = true;
  element("camera-off", HTMLParagraphElement).hidden = false;
  cameraButton.textContent = "Use the camera";
}

/** @returns {Promise<File>} A recording of so many seconds. @param {MediaStream} stream @param {number} seconds */
function recordClip(stream, seconds) {
  const kinds = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
  const kind = kinds.find((one) => MediaRecorder.isTypeSupported(one)) ?? "";
  const recorder = new MediaRecorder(stream, { mimeType: kind });
  /** @type {Blob[]} */
  const parts = [];
  return new Promise((done, failed) => {
    recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    recorder.addEventListener("error", () => failed(new Error("the browser cannot record this camera")));
    recorder.addEventListener("stop", () => {
      const type = recorder.mimeType.split(";")[0];
      done(new File(parts, `recording.${type.includes("mp4") ? "mp4" : "webm"}`, { type }));
    });
    recorder.start();
    window.setTimeout(() => recorder.state !== "inactive" && recorder.stop(), 1000 * seconds);
  });
}

/** Records as many clips as are chosen, until `recording` is another class. @param {string} name */
async function recordClips(name) {
  const card = cards.get(name);
  if (!card || recording !== null) return;
  sayError(card.error);
  recording = name;
  const [seconds, count] = [Number(secondsChoice.value), Number(countChoice.value)];
  try {
    await startCamera();
    for (let number = 1; number <= count && recording === name; number += 1) {
      countdown.hidden = false;
      countdown.textContent = `${name}: ready…`;
      card.record.textContent = "Stop";
      await pause(PAUSE);
      if (recording !== name || !(picture.srcObject instanceof MediaStream)) break;
      countdown.textContent = `${name}: recording ${number} of ${count}`;
      stage.classList.add("recording");
      const clip = await recordClip(picture.srcObject, seconds);
      stage.classList.remove("recording");
      void addFiles(name, [clip]);
    }
  } catch (error) {
    sayError(card.error, error);
  } finally {
    if (recording === name) recording = null;
    stage.classList.remove("recording");
    countdown.hidden = true;
    card.record.textContent = "Record";
  }
}

/** @param {State} state */
function showClasses({ classes, training }) {
  const names = new Set(classes.map(({ name }) => name));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.element.remove();
    cards.delete(name);
  }
  for (const [place, { name, clips }] of classes.entries()) {
    const card = cards.get(name) ?? makeCard(name);
    if (!cards.has(name)) {
      cards.set(name, card);
      classList.insertBefore(card.element, classList.children[place] ?? null);
    }
    const newest = clips.slice(-MOST_SHOWN);
    for (const [clip, tile] of card.shown) {
      if (newest.includes(clip)) continue;
      tile.remove();
      card.shown.delete(clip);
    }
    for (const clip of newest) {
      if (card.shown.has(clip)) continue;
      const remove = made("button", { type: "button", textContent: "×", title: `Delete ${clip}` });
      remove.addEventListener("click", () => void change(card, `${pathOf(name)}/clips/${encodeURIComponent(clip)}`));
      const tile = made("div", { className: "clip" }, thumbnail(name, clip), remove);
      card.shown.set(clip, tile);
      card.clips.append(tile);
    }
    const arriving = card.arriving > 0 ? `, ${card.arriving} on the way` : "";
    card.count.textContent = `${clips.length} ${clips.length === 1 ? "clip" : "clips"}${arriving}`;
    card.element.dataset.clips = String(clips.length);
    card.remove.disabled = training.running;
    card.record.disabled = recording !== null && recording !== name;
  }
  const few = classes.filter(({ clips }) => clips.length < 2).map(({ name }) => name);
  const wants = classes.length < 2 ? "two classes" : few.length ? `two clips of ${few.join(", ")}` : "";
  wanted.textContent = wants && !training.running ? `needs at least ${wants}; more clips do better` : "";
  trainButton.disabled = training.running || wants !== "";
}

/** @param {Training} training */
function showTraining(training) {
  const { stage: at, line = "", error = "", step = 0, steps = 0 } = training;
  isRunning = training.running;
  trainButton.hidden = stopButton.hidden = false;
  trainButton.hidden = training.running;
  stopButton.hidden = !training.running;
  stopButton.textContent = at === "stopping" ? "Stop at once" : "Stop";
  goOnButton.hidden = !training.can_go_on;
  epochsInput.disabled = flipInput.disabled = training.running;
  progress.hidden = !training.running;
  if (steps > 0) progress.value = step / steps;
  else progress.removeAttribute("value");
  statusLine.dataset.stage = at;
  statusLine.classList.toggle("wrong", at === "failed");
  statusLine.textContent = at === "failed" ? error : at === "training" && line ? line : (STAGES.get(at) ?? "");
  element("details", HTMLDetailsElement).hidden = training.log.length === 0;
  const text = training.log.join("\n");
  if (log.textContent !== text) log.textContent = text;
}

/** @param {Result} result */
function showResult(result) {
  const { classes, videos, top1, interval, confusion, mistakes } = result;
  const [low, high] = interval.map((share) => (100 * share).toFixed(0));
  element("score", HTMLParagraphElement).textContent =
    `${Math.round(top1 * videos)} of ${videos} clips that were not trained on are right ` +
    `(${(100 * top1).toFixed(0)} %; by so few, the truth lies between ${low} and ${high} %).`;
  const table = element("confusion", HTMLTableElement);
  const cell = (/** @type {number} */ count, /** @type {boolean} */ isRight) => {
    const one = made("td", { textContent: count ? String(count) : "" });
    if (count) one.style.background = isRight ? "#2da44e55" : "#cf222e55";
    return one;
  };
  table.replaceChildren(
    made("caption", { textContent: "Rows: what the clips show. Columns: what was recognised." }),
    made("tr", {}, made("th"), ...classes.map((name) => made("th", { textContent: name, scope: "col" }))),
    ...classes.map((name, row) =>
      made("tr", {}, made("th", { textContent: name, scope: "row" }), ...confusion[row].map((n, column) => cell(n, row === column))),
    ),
  );
  const shown = mistakes.slice(0, 12).map((one) => {
    const text = `${one.class}, taken for ${one.taken_for} (${(100 * one.probability).toFixed(0)} %)`;
    return made("div", { className: "mistake" }, thumbnail(one.class, one.clip), text);
  });
  element("mistakes", HTMLDivElement).replaceChildren(...shown);
  resultPart.hidden = false;
  if (!recogniser.hidden) showRecogniser(Boolean(recogniser.contentDocument?.querySelector("#stop:not([hidden])")));
}

/** Opens the newest recogniser, on the camera or not. @param {boolean} isLive */
function showRecogniser(isLive) {
  recogniser.hidden = false;
  recogniser.src = `live/index.html${isLive ? "?camera" : ""}`;
}

async function refresh() {
  /** @type {State} */
  const state = await ask("state");
  showClasses(state);
  showTraining(state.training);
  if (state.result && state.result.made !== shownResult) {
    shownResult = state.result.made;
    showResult(state.result);
  }
}

/** Asks for something of the training. @param {string} what @param {object} settings */
async function train(what, settings = {}) {
  try {
    await ask(what, "POST", settings);
    await refresh();
  } catch (error) {
    statusLine.classList.add("wrong");
    statusLine.textContent = error instanceof Error ? error.message : String(error);
  }
}

async function watch() {
  for (;;) {
    try {
      await refresh();
      if (clipsError.dataset.of === "server") sayError(clipsError);
      delete clipsError.dataset.of;
    } catch (error) {
      sayError(clipsError, error);
      clipsError.dataset.of = "server";
    }
    await pause(isRunning || !document.hidden ? POLL : 5 * POLL);
  }
}

cameraButton.addEventListener("click", () => {
  if (picture.srcObject) stopCamera();
  else void startCamera().then(() => sayError(clipsError), (error) => sayError(clipsError, error));
});
element("add", HTMLFormElement).addEventListener("submit", async (event) => {
  event.preventDefault();
  sayError(clipsError);
  try {
    await ask("classes", "POST", { name: nameInput.value });
    nameInput.value = "";
    await refresh();
  } catch (error) {
    sayError(clipsError, error);
  }
});
trainButton.addEventListener("click", () => void train("start", { epochs: epochsInput.valueAsNumber || null, flip: flipInput.checked }));
goOnButton.addEventListener("click", () => void train("start", { resume: true }));
stopButton.addEventListener("click", () => void train("stop"));
liveButton.addEventListener("click", () => {
  stopCamera();
  showRecogniser(true);
});
void watch();
