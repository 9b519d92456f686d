// Run Python beside the page, so that typing never waits for a check.

const RUNTIME = new URL("runtime/", import.meta.url);
const plainFetch = self.fetch.bind(self);
let received = 0;
let total = 0;
let bridge;

// Pyodide fetches its files itself; all of them pass here and are counted.
self.fetch = async (resource, options) => {
  const response = await plainFetch(resource, options);
  if (!response.ok || !total) return response;
  const counter = new TransformStream({
    transform(chunk, controller) {
      received += chunk.byteLength;
      self.postMessage({ progress: Math.min(1, received / total) });
      controller.enqueue(chunk);
    },
  });
  const { status, headers } = response;
  return new Response(response.body.pipeThrough(counter), { status, headers });
};

async function fetched(name) {
  const response = await self.fetch(new URL(name, RUNTIME));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

async function load() {
  const sizes = await (await fetched("sizes.json")).json();
  for (const [name, size] of Object.entries(sizes)) {
    if (!name.endsWith(".mjs")) total += size; // modules are not fetched, but imported
  }
  const packages = fetched("packages.zip").then((response) => response.arrayBuffer());
  const { loadPyodide } = await import(new URL("pyodide.mjs", RUNTIME));
  const [pyodide, archive] = await Promise.all([loadPyodide({ indexURL: RUNTIME.href }), packages]);
  pyodide.unpackArchive(archive, "zip");
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
