// Follows a stream with a library of npm, as its users do, and prints each event that it yields as a line of JSON.
//
//     node follow.mjs LIBRARY URL
//
// MUSTER_TEST_SSE names the folder that `tests/run` puts the libraries into.
import { createRequire } from "node:module";
import { join } from "node:path";

const [library, url] = process.argv.slice(2);
const load = createRequire(join(process.env.MUSTER_TEST_SSE, "npm", "package.json"));
const names = ["snapshot", "delta", "unchanged", "synced", "notice", "goodbye", "counts", "change", "gap", "message"];

const show = (name, id, data) => console.log(JSON.stringify({ name, id: id || null, data }));

function listen(source) {
  for (const name of names) source.addEventListener(name, (event) => show(name, event.lastEventId, event.data));
  source.onerror = (event) => console.error(library, event.message ?? event.type);
}

async function withFetchEventSource() {
  // It is written for pages: what it wants of one.
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { fetchEventSource } = load("@microsoft/fetch-event-source");
  await fetchEventSource(url, {
    openWhenHidden: true,
    onmessage: ({ event, id, data }) => show(event, id, data),
    // What ends without an error is to be opened again, as its documentation says.
    onclose() {
      throw new Error("the stream ended");
    },
    onerror: (error) => console.error(library, error.message),
  });
}

switch (library) {
  case "eventsource":
    listen(new (load("eventsource").EventSource)(url));
    break;
  case "event-source-polyfill":
    listen(new (load("event-source-polyfill").EventSourcePolyfill)(url));
    break;
  case "@microsoft/fetch-event-source":
    await withFetchEventSource();
    break;
  default:
    throw new Error(`no library ${library}`);
}
