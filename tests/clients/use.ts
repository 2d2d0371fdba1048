// Uses a client that openapi-typescript typed from `/v1/openapi.json`: use.ts URL, beside the generated schema.d.ts. Prints what it saw as
// one line of JSON. That it compiles is half of the test: what is marked must not.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] });
const instance = (id: string) => ({ params: { path: { service: "user", id } } });

// What `accept: application/json`, the default, gives; a stream's event otherwise.
function page(answer: components["schemas"]["Events"] | components["schemas"]["StreamEvent"]): components["schemas"]["Event"][] {
  if (!("events" in answer)) throw new Error("a stream was not asked for");
  return answer.events;
}

function needed<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const at = "/v1/services/{service}/instances/{id}";
const body: components["schemas"]["Registration"] = { address: "2001:DB8::1", port: 8080, weight: 7, check: { kind: "tcp", interval: "10s" } };
const registered = needed(await client.PUT(at, { ...instance("u1"), body }));
// @ts-expect-error no such kind of check
const wrong: components["schemas"]["Check"] = { kind: "ping" };
// @ts-expect-error no such status
const status: components["schemas"]["Instance"]["status"] = "healthy";
const beat = { digest: registered.digest };
const renewed = needed(await client.POST("/v1/services/{service}/instances/{id}/heartbeat", { ...instance("u1"), body: beat }));
const register = { op: "register" as const, service: "user", id: "b0", address: "10.0.0.7", port: 80 };
const batch = needed(await client.POST("/v1/batch", { body: { ops: [register] } }));
const listed = needed(await client.GET("/v1/services/{service}/instances", { params: { path: { service: "user" }, query: { usable: true } } }));
const found = needed(await client.GET("/v1/instances", { params: { query: { address: "2001:db8:0::1", detail: "registration" } } }));
const detail = needed(await client.GET(at, instance("u1")));
const refused = await client.PUT(at, { ...instance("u2"), body: { address: "0.0.0.0", port: 1 } });
const gone = await client.DELETE(at, instance("u1"));
const events = page(needed(await client.GET("/v1/events", { params: { query: { service: "user", cause: "registered" } } })));
const history = page(needed(await client.GET("/v1/services/{service}/instances/{id}/history", instance("u1"))));
const cluster = needed(await client.GET("/v1/cluster"));
console.log(
  JSON.stringify({
    address: registered.instance.address,
    renewed: renewed.status,
    digests: batch.results.map((result) => result.digest?.length ?? 0),
    listed: listed.instances.map((instance) => instance.id).sort(),
    found: found.instances.map((instance) => instance.id),
    cause: detail.cause,
    refused: refused.error?.code,
    gone: gone.response.status,
    registered: events.length,
    history: history.map((event) => event.cause),
    bus: cluster.bus,
    unused: [wrong, status].length,
  }),
);
