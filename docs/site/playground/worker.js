// Run Python beside the page, so that typing never waits for a check.

const RUNTIME = new URL("runtime/", import.meta.url);
const LIBRARY = new URL("library.z", RUNTIME).href;
const plainFetch = self.fetch.bind(self);
let received = 0;
let total = 0;
let bridge;

// Pyodide fetches its files itself; all of them pass here, are counted, and the library is unpacked.
self.fetch = async (resource, options) => {
  const response = await plainFetch(resource, options);
  if (!response.ok) {
    const name = new URL(response.url).pathname.split("/").at(-1);
    // Also said here: Pyodide waits forever for a program that could not be fetched.
    self.postMessage({ failed: `${name}: ${response.status} ${response.statusText}` });
    throw new Error(name);
  }
  if (response.url !== LIBRARY) {
    // The response itself is for the compiler, which keeps compiled code beside it.
    count(response.clone().body);
    return response;
  }
  const [counted, packed] = response.body.tee();
  count(counted);
  return new Response(packed.pipeThrough(new DecompressionStream("deflate")));
};

async function count(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    received += part.value.byteLength;
    showProgress();
  }
}

function showProgress() {
  if (total) self.postMessage({ progress: Math.min(1, received / total) });
}

async function weigh() {
  const sizes = await (await plainFetch(new URL("sizes.json", RUNTIME))).json();
  for (const [name, size] of Object.entries(sizes)) {
    if (!name.endsWith(".mjs")) total += size; // modules are not fetched, but imported
  }
  showProgress(); // the sizes may come after the largest file
}

async function load() {
  weigh().catch(() => {}); // progress cannot be shown without sizes
  // Pyodide asks for this module late, when it has been started.
  import(new URL("pyodide.asm.mjs", RUNTIME)).catch(() => {});
  const { loadPyodide } = await import(new URL("pyodide.mjs", RUNTIME));
  const pyodide = await loadPyodide({ indexURL: RUNTIME.href, stdLibURL: LIBRARY });
  bridge = pyodide.pyimport("bridge");
  self.postMessage({ ready: true });
}

self.onmessage = ({ data }) => {
  try {
    self.postMessage({ answer: JSON.parse(bridge.answer(JSON.stringify(data))), asked: data });
  } catch (error) {
    self.postMessage({ problem: String(error), asked: data });
  }
};

load().catch((error) => self.postMessage({ failed: String(error.message ?? error) }));
