// Keep a text in the fragment of an address, which browsers send to no server.

const KEY = "#play=";
const MOST_CHARACTERS = 1_000_000;

/** Return the fragment for a state of the page. */
export async function toFragment(state) {
  const bytes = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(
    JSON.stringify(state)));
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return KEY + btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Return the state in a fragment; null: it holds none. Throws if the fragment is damaged. */
export async function fromFragment(fragment) {
  if (!fragment.startsWith(KEY)) return null;
  const binary = atob(fragment.slice(KEY.length).replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  const text = await through(new DecompressionStream("deflate-raw"), bytes);
  const state = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
  if (typeof state?.text !== "string") throw new Error("it holds no text");
  return state;
}

async function through(transform, bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(transform).getReader();
  const parts = [];
  let length = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    length += part.value.length;
    if (length > MOST_CHARACTERS) throw new Error(`it holds more than ${MOST_CHARACTERS} bytes`);
    parts.push(part.value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
