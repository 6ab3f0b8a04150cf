// @ts-check
"use strict";
// Pictures of a video element: those of a file by number, those of a camera as they come.

/** Takes what a video element shows, pixel by pixel. */
class Grabber {
  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    // In memory, and not on a GPU, whose colours may differ and which would have to be waited for.
    this.context = this.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    /** @type {[number, number] | null} Width and height as they are stored, where pixels are no squares. */
    this.stored = null;
  }

  /**
   * The picture that is shown now: the package's own where the browser gives the planes that it decoded.
   * @returns {Promise<Picture>}
   */
  async grab() {
    const frame = "VideoFrame" in self ? new VideoFrame(this.video) : null;
    try {
      return (frame && (await this.planes(frame))) ?? this.drawn();
    } finally {
      frame?.close();
    }
  }

  /**
   * @param {VideoFrame} frame
   * @returns {Promise<Picture | null>} Null for other formats than 8 bits of 4:2:0 in limited range.
   */
  async planes(frame) {
    const { format, colorSpace, visibleRect } = frame;
    const { rotation = 0, flip = false } = /** @type {any} */ (frame);
    const { matrix } = colorSpace;
    if ((format !== "I420" && format !== "NV12") || !matrix || !MATRICES.has(matrix)) return null;
    if (visibleRect === null || colorSpace.fullRange || flip) return null;
    const { width, height } = visibleRect;
    const bytes = new Uint8Array(frame.allocationSize());
    const layout = await frame.copyTo(bytes);
    const picture = pictureOfPlanes({ bytes, format, layout, width, height, matrix, rotation });
    // A browser that does not tell how a frame is turned shows it upright all the same.
    const isUpright = picture.width > picture.height === this.video.videoWidth > this.video.videoHeight;
    return isUpright ? picture : null;
  }

  /** @returns {Picture} */
  drawn() {
    if (this.context === null) throw new Error("this browser gives no canvas to read pixels from");
    const { videoWidth, videoHeight } = this.video;
    let [width, height] = this.stored ?? [videoWidth, videoHeight];
    if (width > height !== videoWidth > videoHeight) [width, height] = [height, width]; // shown upright
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.context.drawImage(this.video, 0, 0, width, height);
    return this.context.getImageData(0, 0, width, height);
  }
}

/** A video file, opened in an element that nobody sees. */
class Film {
  /**
   * @param {HTMLVideoElement} video
   * @param {FrameTimes} frames
   * @param {number} first Seconds of the first frame, as the element counts.
   * @param {boolean} isExact
   */
  constructor(video, frames, first, isExact) {
    this.video = video;
    /** Seconds of every frame from the first one. */
    this.times = frames.times.map((seconds) => seconds - frames.times[0]);
    this.first = first;
    /** Whether the times are those that the file says, and not made of its rate. */
    this.isExact = isExact;
    this.grabber = new Grabber(video);
    this.grabber.stored = frames.size;
  }

  /**
   * Errors: `Error` for what this browser does not play, in a sentence without the file's name.
   * @param {File} file
   * @returns {Promise<Film>}
   */
  static async open(file) {
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    video.src = URL.createObjectURL(file);
    try {
      await happens(video, "loadeddata");
    } catch {
      URL.revokeObjectURL(video.src);
      throw new Error("this browser cannot play it; MP4 with H.264 and WebM are played by most");
    }
    if (!video.videoWidth) throw new Error("it has no pictures that this browser can play");
    const known = await frameTimes(file);
    const first = await seek(video, 0);
    return new Film(video, known ?? (await timesOfRate(video)), first ?? 0, known !== null);
  }

  /**
   * The picture of a frame.
   * @param {number} number
   */
  async frame(number) {
    const { times } = this;
    const apart = times.length > 1 ? times[times.length - 1] / (times.length - 1) : 0;
    const next = number + 1 < times.length ? times[number + 1] : times[number] + apart;
    // Of a frame that is shown for long, browsers find the begin more surely than the middle.
    await seek(this.video, this.first + times[number] + Math.min((next - times[number]) / 2, 0.004));
    return this.grabber.grab();
  }

  close() {
    URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    this.video.load();
  }
}

/**
 * Shows what is on the screen at a time, and returns when that began, or null where the browser does not say.
 * @param {HTMLVideoElement} video
 * @param {number} seconds
 * @returns {Promise<number | null>}
 */
async function seek(video, seconds) {
  /** @type {number | null} */
  let began = null;
  const shown = new Promise((resolve) => {
    if (!video.requestVideoFrameCallback) resolve(null);
    else
      video.requestVideoFrameCallback((_, about) => {
        began = about.mediaTime;
        resolve(null);
      });
  });
  const sought = happens(video, "seeked");
  video.currentTime = seconds;
  await sought;
  // The same frame as before may not be told again.
  await Promise.race([shown, new Promise((resolve) => setTimeout(resolve, 200))]);
  return began;
}

/**
 * Times of frames that are as far apart as the first ones are.
 * @param {HTMLVideoElement} video
 * @returns {Promise<FrameTimes>}
 */
async function timesOfRate(video) {
  if (!video.requestVideoFrameCallback || !Number.isFinite(video.duration)) {
    throw new Error("the times of its frames are not known: make it an MP4 or WebM file");
  }
  /** @type {number[]} */
  const seen = [];
  /** @type {VideoFrameRequestCallback} */
  const note = (_, about) => {
    seen.push(about.mediaTime);
    video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
  await video.play();
  await new Promise((resolve) => setTimeout(resolve, Math.min(1500, video.duration * 1000)));
  video.pause();
  const gaps = seen.slice(1).map((time, i) => time - seen[i]);
  const apart = gaps.sort((one, other) => one - other)[gaps.length >> 1];
  if (!(apart > 0)) throw new Error("the times of its frames are not known: make it an MP4 or WebM file");
  const count = Math.max(1, Math.round(video.duration / apart));
  return { times: Array.from({ length: count }, (_, i) => i * apart), size: null };
}

/**
 * @param {HTMLVideoElement} video
 * @param {"loadeddata" | "seeked"} event
 * @returns {Promise<void>}
 */
function happens(video, event) {
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const on = (/** @type {string} */ name, /** @type {() => void} */ then) =>
      video.addEventListener(name, () => (stop.abort(), then()), { signal: stop.signal });
    const fail = () => {
      const said = video.error?.message;
      reject(new Error(`this browser cannot decode it; it may be damaged${said ? ` (${said})` : ""}`));
    };
    on(event, resolve);
    on("error", fail);
    if (video.error) fail(); // of what it had decoded ahead
  });
}
