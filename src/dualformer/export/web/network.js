// @ts-check
"use strict";
// The network, run by ONNX Runtime Web in a worker, so that the page stays alive. Everything comes from scripts of this
// folder, in base64, as pages of files may read nothing else; the policy of the page lets nothing out.

/** @typedef {"wasm" | "webgpu"} Provider */

/** @type {Map<string, string[]>} */
const parts = new Map();

/**
 * Called by the scripts that hold data.
 * @param {string} name
 * @param {string} text Gzip in base64; of several calls, one after the other.
 */
function addPart(name, text) {
  const before = parts.get(name);
  if (before) before.push(text);
  else parts.set(name, [text]);
}

/**
 * @param {string[]} texts Pieces of gzip in base64.
 * @returns {Promise<ArrayBuffer>}
 */
async function unpack(texts) {
  const pieces = texts.map((text) => {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i);
    return bytes;
  });
  const packed = new Blob(pieces).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** @type {Map<string, Promise<void>>} */
const scripts = new Map();

/**
 * Loads a script of this folder, once.
 * @param {string} name
 * @returns {Promise<void>}
 */
function loadScript(name) {
  const known = scripts.get(name);
  if (known) return known;
  const loaded = new Promise((/** @type {(value: void) => void} */ resolve, reject) => {
    const script = document.createElement("script");
    script.nonce = document.querySelector("script")?.nonce ?? "";
    script.src = name;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`${name} is missing: copy the whole folder`));
    document.head.append(script);
  });
  scripts.set(name, loaded);
  return loaded;
}

/**
 * @typedef {object} Answer Of the network for one view.
 * @property {Float32Array} logits
 * @property {Float32Array | null} steps Logits at each step in time, one step behind the other, of a temporal head.
 * @property {number} milliseconds That the network took.
 * @property {number} memory Bytes of WebAssembly.
 */

class Network {
  /**
   * @param {Worker} worker
   * @param {Provider} provider
   * @param {number} threads
   */
  constructor(worker, provider, threads) {
    this.worker = worker;
    this.provider = provider;
    this.threads = threads;
    /** @type {Promise<unknown>} Of what the worker does now. */
    this.busy = Promise.resolve();
  }

  /**
   * Errors: `Error` with what the browser or the runtime says.
   * @param {Provider} provider
   * @param {string[]} modelScripts
   * @param {number[]} shape Of one view: frames, height, width.
   * @param {string[]} onCpu Nodes that WebGPU does not compute.
   * @returns {Promise<Network>}
   */
  static async open(provider, modelScripts, shape, onCpu) {
    await Promise.all([`runtime-${provider}.js`, ...modelScripts].map(loadScript));
    const names = ["script", "module", "binary"].map((name) => `${provider}.${name}`);
    const [script, module, binary, model] = await Promise.all([...names, "model"].map((name) => unpack(parts.get(name) ?? [])));
    const code = new Blob([script, `\n;(${workInWorker})();`], { type: "text/javascript" });
    const worker = new Worker(URL.createObjectURL(code));
    // Memory that threads share is for pages that their server has isolated.
    const threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    const network = new Network(worker, provider, threads);
    try {
      await network.ask({ module, binary, model, provider, threads, shape, onCpu }, [module, binary, model]);
    } catch (error) {
      worker.terminate();
      throw error;
    }
    return network;
  }

  /**
   * @param {Uint8Array} view Frames of RGB.
   * @returns {Promise<Answer>}
   */
  run(view) {
    return this.ask({ view }, [view.buffer]);
  }

  close() {
    this.worker.terminate();
  }

  /**
   * One question after the other.
   * @param {object} message
   * @param {Transferable[]} given
   * @returns {Promise<any>}
   */
  ask(message, given) {
    const asked = () =>
      new Promise((resolve, reject) => {
        this.worker.onmessage = ({ data }) => ("error" in data ? reject(new Error(data.error)) : resolve(data));
        this.worker.onerror = (event) => reject(new Error(event.message || "the worker could not be started"));
        this.worker.postMessage(message, given);
      });
    const answer = this.busy.then(asked);
    this.busy = answer.catch(() => null);
    return answer;
  }
}

/** All that runs in the worker, behind the runtime's own script: it sees nothing of this file. */
function workInWorker() {
  const scope = /** @type {any} */ (self);
  /** @type {WebAssembly.Memory | null} */
  let memory = null;
  // The runtime does not say how much memory it takes.
  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(made, [about]) {
      const one = new made(about);
      if (about.initial > 0) memory = one;
      return one;
    },
  });
  /** @type {any} */
  let session = null;
  /** @type {number[]} */
  let shape = [];

  const open = async (/** @type {any} */ { module, binary, model, provider, threads, shape: size, onCpu }) => {
    const { ort } = scope;
    ort.env.logLevel = "error";
    ort.env.wasm.numThreads = threads;
    ort.env.wasm.wasmBinary = binary;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
    const executionProviders = [{ name: provider, ...(provider === "webgpu" ? { forceCpuNodeNames: onCpu } : {}) }];
    session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders, logSeverityLevel: 3 });
    shape = size;
    return {};
  };
  const run = async (/** @type {Uint8Array} */ view) => {
    const begun = performance.now();
    const answer = await session.run({ views: new scope.ort.Tensor("uint8", view, [1, ...shape, 3]) });
    const milliseconds = performance.now() - begun;
    const logits = Float32Array.from(answer.logits.data);
    const steps = answer.step_logits ? Float32Array.from(answer.step_logits.data) : null;
    return { logits, steps, milliseconds, memory: memory?.buffer.byteLength ?? 0 };
  };
  scope.onmessage = async (/** @type {MessageEvent} */ { data }) => {
    try {
      scope.postMessage(await ("view" in data ? run(data.view) : open(data)));
    } catch (error) {
      scope.postMessage({ error: String(error instanceof Error ? error.message : error) });
    }
  };
}
