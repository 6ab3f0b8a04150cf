// @ts-check
"use strict";
// The page: a video or the camera in, labels out.

/**
 * What `dualformer export` knows of the network, written to card.js.
 * @typedef {object} Card
 * @property {string} name
 * @property {string[]} labels
 * @property {boolean} multi_label
 * @property {number[]} thresholds
 * @property {Preprocessing} preprocessing
 * @property {{clips: number, crops: number}} views
 * @property {string[]} scripts That hold the model.
 * @property {string[]} on_cpu Nodes that WebGPU does not compute.
 * @property {{clip: string, logits: number[], tolerance: number}} check A clip, gzip in base64, what ONNX Runtime in
 *   Python says of it, and how far logits may be away from that, as a part of the largest.
 */
/** @type {Card} */
// @ts-ignore: card.js has it
const card = DUALFORMER_CARD;
const pre = card.preprocessing;

const SHOWN = 5;
/** Milliseconds of a clip within which nothing faster is looked for. */
const QUICK = 30;
/** How much of live answers is kept while half a clip goes by, as `dualformer stream` does. */
const SMOOTHING = 0.5;

const stage = element("stage", HTMLDivElement);
const video = element("video", HTMLVideoElement);
const empty = element("empty", HTMLParagraphElement);
const fileInput = element("file", HTMLInputElement);
const cameraButton = element("camera", HTMLButtonElement);
const liveButton = element("live", HTMLButtonElement);
const stopButton = element("stop", HTMLButtonElement);
const viewsChoice = element("views", HTMLSelectElement);
const providerChoice = element("provider", HTMLSelectElement);
const statusLine = element("status", HTMLParagraphElement);
const progress = element("progress", HTMLProgressElement);
const labelList = element("labels", HTMLOListElement);
const speedLine = element("speed", HTMLParagraphElement);
const checkLine = element("check", HTMLElement);

/** @type {Network | null} */
let network = null;
/** @type {File | null} */
let file = null;
/** Counts what was begun: what is not the newest any more ends by itself. */
let turn = 0;
/** @type {number[]} Milliseconds of the last runs of the network. */
let runs = [];
/** @type {number | null} Frames a second of the file. */
let rate = null;

/**
 * @param {string} text
 * @param {boolean} isWrong
 */
function say(text, isWrong = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle("wrong", isWrong);
}

/** @param {unknown} error */
function sayError(error) {
  progress.hidden = true;
  say(error instanceof Error ? error.message : String(error), true);
}

/** Shows the video, or in its place what may be dropped there. @param {boolean} isThere */
function showVideo(isThere) {
  video.hidden = !isThere;
  empty.hidden = isThere;
}

/** @param {number[]} probabilities */
function showLabels(probabilities) {
  const named = best(probabilities, card, SHOWN);
  labelList.replaceChildren(
    ...named.map(({ label, probability, counts }) => {
      const line = document.createElement("li");
      const name = document.createElement("span");
      name.className = counts ? "name counts" : "name";
      name.textContent = card.multi_label && counts ? `✓ ${label}` : label;
      const share = document.createElement("span");
      share.className = "share";
      share.textContent = `${(100 * probability).toFixed(1)} %`;
      const bar = document.createElement("div");
      bar.className = "bar";
      bar.setAttribute("aria-hidden", "true");
      const filled = document.createElement("span");
      filled.style.width = `${100 * probability}%`;
      bar.append(filled);
      line.append(name, share, bar);
      line.dataset.probability = String(probability);
      line.dataset.label = label;
      return line;
    }),
  );
}

/**
 * @param {Answer} answer
 * @param {string} more
 */
function showSpeed({ milliseconds, memory }, more = "") {
  runs = [...runs.slice(-9), milliseconds];
  const middle = [...runs].sort((one, other) => one - other)[runs.length >> 1];
  const where = network?.provider === "webgpu" ? "WebGPU" : `WebAssembly, ${network?.threads ?? 1} threads`;
  speedLine.textContent =
    `${middle.toFixed(0)} ms per clip, ${(1000 / middle).toFixed(1)} clips a second` +
    `${more}; ${(memory / 2 ** 20).toFixed(0)} MiB of memory; ${where.replace(" 1 threads", " 1 thread")}`;
  speedLine.dataset.milliseconds = String(middle);
}

/**
 * Frames to a view.
 * @param {Uint8Array[]} frames
 */
function joined(frames) {
  const view = new Uint8Array(frames.length * frames[0].length);
  frames.forEach((frame, i) => view.set(frame, i * frame.length));
  return view;
}

/**
 * Opens the network and holds it against what Python's runtime said of the same clip.
 * @param {Provider} provider
 * @returns {Promise<{network: Network, milliseconds: number}>} With the time of the clip, once all is warm.
 */
async function openNetwork(provider) {
  const opened = await Network.open(provider, card.scripts, [pre.frames, pre.crop, pre.crop], card.on_cpu);
  const clip = new Uint8Array(await unpack([card.check.clip]));
  const answer = await opened.run(clip.slice());
  const expected = card.check.logits;
  const largest = (/** @type {number[]} */ values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const away = largest(expected.map((value, i) => answer.logits[i] - value)) / largest(expected);
  if (!(away <= card.check.tolerance)) {
    opened.close();
    throw new Error(`it answers otherwise here than where it was exported: logits differ by ${away.toPrecision(2)}`);
  }
  checkLine.textContent = `logits of a clip differ from those of the export by ${away.toExponential(0)} of the largest`;
  checkLine.dataset.away = String(away);
  const { milliseconds } = await opened.run(clip);
  return { network: opened, milliseconds };
}

/** Whether there is a GPU that is not made of software. */
async function hasGpu() {
  const { gpu } = /** @type {any} */ (navigator);
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

async function start() {
  const providers = /** @type {Provider[]} */ ((await hasGpu()) ? ["webgpu", "wasm"] : ["wasm"]);
  for (const provider of providers) {
    providerChoice.add(new Option(provider === "wasm" ? "WebAssembly" : "WebGPU", provider));
  }
  element("providers", HTMLLabelElement).hidden = providers.length === 1;
  let note = "";
  let fastest = Infinity;
  for (const provider of providers) {
    if (fastest < QUICK) break;
    try {
      const opened = await openNetwork(provider);
      if (opened.milliseconds < fastest) {
        network?.close();
        ({ network, milliseconds: fastest } = opened);
        providerChoice.value = provider;
      } else opened.network.close();
    } catch (error) {
      if (network === null && provider === "wasm") throw error;
      console.warn(error);
      note = " WebGPU cannot run this network here (the console says why), WebAssembly does.";
      providerChoice.options[0].disabled = true;
    }
  }
  fileInput.disabled = false;
  cameraButton.disabled = !navigator.mediaDevices;
  if (cameraButton.disabled) cameraButton.title = "Browsers give pages of http no camera: serve the folder by https.";
  say(`Ready.${note}`);
  if (location.search === "?camera" && !cameraButton.disabled) await useCamera();
}

/** Ends what is going on, and returns whether what begins now is still the newest. */
function begin() {
  turn += 1;
  const mine = turn;
  if (video.srcObject instanceof MediaStream) video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.controls = false;
  video.pause();
  showVideo(false);
  progress.hidden = liveButton.hidden = stopButton.hidden = true;
  labelList.replaceChildren();
  speedLine.textContent = "";
  runs = [];
  return () => mine === turn;
}

/** Labels the file as `dualformer predict` does, or says what is wrong with it. */
async function labelFile() {
  if (file === null) return;
  const isNewest = begin();
  const { name } = file;
  try {
    await labelViews(file, isNewest);
  } catch (error) {
    if (!isNewest()) return;
    showVideo(false);
    sayError(new Error(`${name}: ${error instanceof Error ? error.message : error}`));
  }
}

/**
 * @param {File} file
 * @param {() => boolean} isNewest
 */
async function labelViews(file, isNewest) {
  URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(file);
  showVideo(true);
  say(`${file.name}: reading…`);
  progress.hidden = false;
  progress.value = 0;
  const film = await Film.open(file);
  try {
    if (!isNewest()) return;
    video.controls = true;
    const { times } = film;
    rate = times.length > 1 ? (times.length - 1) / times[times.length - 1] : null;
    const [clips, crops] = viewsChoice.value.split("x").map(Number);
    const wanted = evenClips(times, pre, clips);
    const numbers = [...new Set(wanted.flat())].sort((one, other) => one - other);
    /** @type {Map<number, Uint8Array[]>} */
    const views = new Map();
    for (const number of numbers) {
      views.set(number, viewsOfPicture(await film.frame(number), pre, crops));
      if (!isNewest()) return;
      progress.value = (0.7 * views.size) / numbers.length;
    }
    /** @type {number[][]} */
    const probabilities = [];
    for (const clip of wanted) {
      for (let crop = 0; crop < crops; crop += 1) {
        if (network === null) return;
        const answer = await network.run(joined(clip.map((number) => /** @type {any} */ (views.get(number))[crop])));
        if (!isNewest()) return;
        probabilities.push(toProbabilities(answer.logits, card.multi_label));
        showSpeed(answer);
        progress.value = 0.7 + (0.3 * probabilities.length) / (clips * crops);
      }
    }
    showLabels(average(probabilities));
    progress.hidden = true;
    liveButton.hidden = false;
    const doubt = film.isExact ? "" : " Their times are estimated: this page does not know the file's container.";
    const mean = clips * crops === 1 ? "one view" : `the mean of ${clips * crops} views`;
    const short = shortNote(times, pre);
    say(`${file.name}: ${mean} of its ${times.length} frames.${doubt}${short && ` Note: ${short}.`}`);
  } finally {
    film.close();
  }
}

/**
 * Labels what the element plays, as `dualformer stream` does, until it ends.
 * @param {() => boolean} isNewest
 * @param {string} what
 * @param {number | null} rate Frames a second. Browsers leave frames out when they are busy: where the network counts
 *   frames, a clock at this rate takes their place.
 */
function labelLive(isNewest, what, rate) {
  const grabber = new Grabber(video);
  const paced = { ...pre, fps: pre.fps ?? rate };
  const newest = new NewestClip(paced, (/** @type {Picture} */ picture) => viewsOfPicture(picture, pre, 1)[0]);
  stopButton.hidden = false;
  say(`${what}: filling a clip…`);
  let busy = false;
  let told = false;
  /** @type {number[] | null} */
  let mean = null;
  /** @type {number[]} When the last answers came. */
  let answered = [];
  const label = async (/** @type {Uint8Array[] | null} */ frames) => {
    if (frames === null || network === null) return;
    busy = true;
    const { passed } = newest;
    try {
      const came = performance.now();
      const answer = await network.run(joined(frames));
      if (!isNewest()) return;
      const now = newestProbabilities(answer, card.multi_label);
      const old = mean ?? now;
      const kept = SMOOTHING ** (2 * passed);
      mean = now.map((value, i) => kept * old[i] + (1 - kept) * value);
      showLabels(mean);
      answered = [...answered.slice(-9), performance.now()];
      const lasted = (answered[answered.length - 1] - answered[0]) / 1000;
      const rate = lasted > 0 ? `, ${((answered.length - 1) / lasted).toFixed(1)} answers a second` : "";
      showSpeed(answer, `${rate}, ${(performance.now() - came).toFixed(0)} ms behind`);
      if (!told) say(`${what}: live.`);
      told = true;
    } catch (error) {
      sayError(error);
    } finally {
      busy = false;
    }
  };
  /** @type {VideoFrameRequestCallback} */
  const frame = (now, about) => {
    if (!isNewest()) return;
    video.requestVideoFrameCallback(frame);
    const seconds = video.srcObject ? now / 1000 : about.mediaTime;
    grabber
      .grab()
      .then((picture) => {
        if (!isNewest()) return;
        newest.add(seconds, picture);
        if (!busy) void label(newest.take());
      })
      .catch(sayError);
  };
  video.requestVideoFrameCallback(frame);
  video.onended = () => void (isNewest() && label(newest.finish()));
}

async function useCamera() {
  const isNewest = begin();
  say("Asking for the camera…");
  const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
  if (!isNewest()) {
    stream.getTracks().forEach((track) => track.stop());
    return;
  }
  file = null;
  fileInput.value = "";
  video.srcObject = stream;
  showVideo(true);
  labelLive(isNewest, "Camera", stream.getVideoTracks()[0].getSettings().frameRate ?? null);
  await video.play();
}

async function labelAsItPlays() {
  if (file === null) return;
  const isNewest = begin();
  showVideo(true);
  video.controls = true;
  video.currentTime = 0;
  labelLive(isNewest, file.name, rate);
  await video.play();
}

/** @param {File | undefined} given */
function take(given) {
  if (!given || network === null) return;
  file = given;
  void labelFile();
}

for (const clips of [...new Set([1, 2, 4, 8, card.views.clips])].sort((one, other) => one - other)) {
  for (const crops of [1, 3]) {
    const text = `${clips}x${crops}`;
    viewsChoice.add(new Option(`${clips} × ${crops}`, text));
  }
}
viewsChoice.value = `${card.views.clips}x${card.views.crops}`;
viewsChoice.title = "Clips of a video × crops of each; their probabilities are averaged.";
viewsChoice.addEventListener("change", () => void labelFile());
fileInput.addEventListener("change", () => take(fileInput.files?.[0]));
cameraButton.addEventListener("click", () => void useCamera().catch(sayError));
liveButton.addEventListener("click", () => void labelAsItPlays().catch(sayError));
stopButton.addEventListener("click", () => {
  begin();
  showVideo(file !== null);
  video.controls = file !== null;
  liveButton.hidden = file === null;
  say("Stopped.");
});
providerChoice.addEventListener("change", () => {
  begin();
  network?.close();
  network = null;
  say("Loading the network…");
  openNetwork(/** @type {Provider} */ (providerChoice.value))
    .then((opened) => {
      ({ network } = opened);
      return labelFile();
    })
    .then(() => file ?? say("Ready."))
    .catch(sayError);
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    stage.classList.toggle("over", name === "dragover");
    if (event instanceof DragEvent && name === "drop") take(event.dataTransfer?.files[0]);
  });
}
start().catch(sayError);
