// Keeps the page's files, so that it works without a network once it was opened; with one, the newest are taken.

const KEPT = "{{name}}";
const RUNTIME = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"].map((name) => `onnxruntime/${name}`);

addEventListener("install", (event) => event.waitUntil(keepAll()));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(newest(event));
});

async function keepAll() {
  const files = Object.keys(await (await fetch("files.json")).json());
  const kept = await caches.open(KEPT);
  await kept.addAll(new Set(["./", ...files, ...RUNTIME]));
}

async function newest(event) {
  const kept = await caches.open(KEPT);
  try {
    const answer = await fetch(event.request);
    if (answer.ok) event.waitUntil(kept.put(event.request, answer.clone()));
    return answer;
  } catch (error) {
    const answer = await kept.match(event.request);
    if (answer) return answer;
    throw error;
  }
}
