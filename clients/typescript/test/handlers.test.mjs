import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request as send } from "node:http";
import { describe, test } from "node:test";
import { expressHandler, fastifyPlugin, fetchHandler, sign } from "@mathub/webhooks";
import express from "express";
import fastify from "fastify";

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const bodyOf = (event, data) => JSON.stringify({ event, timestamp: "2025-03-20T10:30:00.000Z", data });

/** Listens, and returns the server's URL. */
async function listen(t, listener) {
	const server = createServer(listener).listen(0, "127.0.0.1");
	t.after(() => server.closeAllConnections() || server.close());
	await once(server, "listening");
	return `http://127.0.0.1:${server.address().port}/mathub`;
}

// Each serves /mathub with a handler, in the way that its users do.
const servers = {
	"fetchHandler": async (t, handle) => {
		const handler = fetchHandler(secret, handle);
		return listen(t, async (request, response) => {
			const { method, headers } = request;
			let answer;
			try {
				answer = await handler(new Request("http://localhost/mathub", { method, headers, ...(method === "POST" && { body: request, duplex: "half" }) }));
			} catch {
				answer = new Response(null, { status: 500 }); // as runtimes do
			}
			response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text());
		});
	},
	"expressHandler before express.json": async (t, handle) => {
		const app = express();
		app.set("env", "test");
		app.post("/mathub", expressHandler(secret, handle));
		app.use(express.json());
		return listen(t, app);
	},
	"expressHandler behind express.raw": async (t, handle) => {
		const app = express();
		app.set("env", "test");
		app.use(express.raw({ type: "application/json", limit: "300kb" }));
		app.post("/mathub", expressHandler(secret, handle));
		return listen(t, app);
	},
	"expressHandler where the body is kept": async (t, handle) => {
		const app = express();
		app.set("env", "test");
		app.use(express.json({ limit: "300kb", verify: (request, _response, body) => void (request.rawBody = body) }));
		app.post("/mathub", expressHandler(secret, handle));
		return listen(t, app);
	},
	"expressHandler in node:http": async (t, handle) => {
		t.mock.method(console, "error", () => {});
		return listen(t, expressHandler(secret, handle));
	},
	"fastifyPlugin": async (t, handle) => {
		const app = fastify();
		app.register(fastifyPlugin(secret, handle), { prefix: "/mathub" });
		app.post("/other", async (request) => ({ parsed: request.body }));
		t.after(() => app.close());
		const url = `${await app.listen({ port: 0, host: "127.0.0.1" })}/mathub`;
		const other = await fetch(url.replace("/mathub", "/other"), { method: "POST", headers: { "content-type": "application/json" }, body: '{"a":1}' });
		assert.deepEqual(await other.json(), { parsed: { a: 1 } }, "other routes keep their parsers");
		return url;
	},
};

for (const [name, serve] of Object.entries(servers)) {
	describe(name, () => {
		test("takes genuine events, answers a verification, and refuses the rest", async (t) => {
			const seen = [];
			const url = await serve(t, async (event) => {
				seen.push(event);
				if (event.event === "mention") throw new Error("the database is away");
			});
			const post = async (body, headers) => {
				const response = await fetch(url, { method: "POST", body, headers });
				return { status: response.status, text: await response.text() };
			};
			const body = bodyOf("post.created", { body: "größer ≥" });
			const headers = await sign(body, secret, { id: "evt_1" });
			assert.deepEqual(await post(body, headers), { status: 204, text: "" });
			assert.deepEqual(seen, [{ ...JSON.parse(body), id: "evt_1" }]);

			for (const change of [{ "webhook-id": "evt_2" }, { "webhook-signature": "v1,AAAA" }, { "webhook-timestamp": "1" }]) {
				assert.equal((await post(body, { ...headers, ...change })).status, 401);
			}
			assert.equal((await post(bodyOf("post.created", {}), headers)).status, 401);
			const unsigned = await post(body, { "content-type": "application/json" });
			assert.equal(unsigned.status, 401);
			assert.equal(seen.length, 1);

			const asks = bodyOf("webhook.verify", { webhookId: "w", botId: "b", nonce: "n0nce" });
			assert.deepEqual(await post(asks, await sign(asks, secret)), { status: 200, text: "n0nce" });
			assert.equal(seen.length, 1, "the handler needs not know");

			const fails = bodyOf("mention", {});
			assert.equal((await post(fails, await sign(fails, secret))).status, 500, "it comes again later");
			assert.equal(seen.length, 2);
			const largest = bodyOf("post.created", { body: "x".repeat(256 << 10) });
			assert.equal((await post(largest, await sign(largest, secret))).status, 204);
			assert.ok((await fetch(url)).status >= 404 || name.endsWith("node:http"));
		});

		// Where a parser comes before, it is that one's business.
		const reads = !/behind|kept/.test(name);
		if (reads) test("keeps no endless body", { timeout: 10_000 }, async (t) => {
			const url = await serve(t, () => assert.fail("it is handled"));
			const request = send(url, { method: "POST", headers: { "content-type": "application/json" } });
			t.after(() => request.destroy());
			request.on("error", () => {});
			request.write("x".repeat(310 << 10)); // and no end
			const [response] = await once(request, "response");
			assert.equal(response.statusCode, 413);
		});
	});
}

test("a body that was parsed is the developer's mistake, and said so", async (t) => {
	const app = express();
	app.use(express.json());
	app.post("/mathub", expressHandler(secret, () => assert.fail("it is handled")));
	const errors = [];
	app.use((error, _request, response, _next) => {
		errors.push(error.message);
		response.sendStatus(500);
	});
	const body = bodyOf("post.created", {});
	const response = await fetch(await listen(t, app), { method: "POST", body, headers: await sign(body, secret) });
	assert.equal(response.status, 500);
	assert.match(errors[0], /before express\.json/);
});

test("a handler without a secret is refused before it serves", () => {
	for (const make of [fetchHandler, expressHandler, fastifyPlugin]) assert.throws(() => make("", () => {}), TypeError);
	for (const make of [fetchHandler, expressHandler, fastifyPlugin]) assert.throws(() => make("s3cret\n", () => {}), /white space/);
});
