import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";
import vm from "node:vm";

// What Cloudflare Workers, Deno, Bun and Node have in common.
const { AbortSignal, Headers, Request, Response, TextDecoder, TextEncoder, URL, atob, btoa, clearTimeout, console, crypto, fetch, setTimeout } = globalThis;
const web = { AbortSignal, Headers, Request, Response, TextDecoder, TextEncoder, URL, atob, btoa, clearTimeout, console, crypto, fetch, setTimeout };

/** The package in a realm of its own, with nothing of Node's. */
function load() {
	const context = vm.createContext({ ...web });
	const folder = dirname(createRequire(import.meta.url).resolve("@mathub/webhooks"));
	const modules = {};
	const require = (name) => {
		assert.match(name, /^\.\//, "nothing but its own modules");
		if (modules[name]) return modules[name];
		const source = readFileSync(join(folder, name), "utf8");
		modules[name] = {};
		vm.runInContext(`(function (exports, require) {${source}\n})`, context, { filename: name })(modules[name], require);
		return modules[name];
	};
	return require("./index.js");
}

test("receives and emits with what every runtime has, bytes of another realm included", async () => {
	const { emit, fetchHandler, sign, verify } = load();
	const body = '{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{}}';
	const headers = await sign(body, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", { id: "evt_1" });
	for (const form of [Buffer.from(body), new Uint8Array(Buffer.from(body)).buffer]) {
		assert.equal((await verify(form, new Headers(headers), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).id, "evt_1");
	}
	const seen = [];
	const handler = fetchHandler("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", (event) => seen.push(event.id));
	const statusOf = async (headers) => (await handler(new Request("https://bots.example.org/", { method: "POST", headers, body }))).status;
	assert.deepEqual([await statusOf(headers), await statusOf({ ...headers, "webhook-id": "evt_2" }), seen], [204, 401, ["evt_1"]]);

	let asked;
	const service = { url: "https://webhooks.example.org/base/", token: "t", fetch: async (url, { body }) => {
		assert.equal(typeof url, "string", "no Request, which only its own fetch takes");
		asked = { url, event: JSON.parse(body) };
		return Response.json({ id: asked.event.id, workflowId: "w", duplicate: false }, { status: 202 });
	} };
	const receipt = await emit(service, { event: "post.created", data: { postId: "p1" } });
	assert.equal(asked.url, "https://webhooks.example.org/base/api/internal/v1/events");
	assert.equal(receipt.id, asked.event.id);
});
