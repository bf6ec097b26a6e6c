import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { batches, emit, emitBatch, Mathub, MathubError, NoAnswerError, poll } from "@mathub/webhooks";

const event = { event: "post.created", data: { postId: "p1" } };
const receipt = ({ id }) => ({ id, workflowId: "event-p1", duplicate: false });
const accepted = (sent) => ({ status: 202, body: sent.events?.map(receipt) ?? receipt(sent) });
const busy = (detail = "The service is busy.", headers = { "retry-after": "0" }, status = 503) => ({ status, headers, body: { status, detail } });

/** An API that gives the answers in turn, the last one for ever; a function makes one of what was sent. "cut" is none. */
async function api(t, ...answers) {
	const requests = [];
	const server = createServer(async (request, response) => {
		let body = "";
		for await (const chunk of request) body += chunk;
		const { method, url, headers } = request;
		const answer = answers[Math.min(requests.length, answers.length - 1)];
		requests.push({ method, url, headers, body, at: Date.now() });
		if (answer === "cut") return request.socket.destroy();
		if (answer === "hang") return;
		const { status = 200, headers: more = {}, body: content } = typeof answer === "function" ? answer(JSON.parse(body)) : answer;
		response.writeHead(status, { "content-type": "application/json", ...more }).end(content === undefined ? "" : JSON.stringify(content));
	}).listen(0, "127.0.0.1");
	t.after(() => server.closeAllConnections() || server.close());
	await once(server, "listening");
	return { url: `http://127.0.0.1:${server.address().port}`, requests };
}

test("emit has one id over all tries, whatever comes between", async (t) => {
	const { url, requests } = await api(t, "cut", busy(), busy("", {}, 408), busy("", { "retry-after": "0" }, 429), accepted);
	assert.deepEqual(await emit({ url, token: "t" }, event), receipt(JSON.parse(requests[0].body)));
	assert.equal(requests.length, 5);
	for (const { method, url, headers, body } of requests) {
		assert.equal(`${method} ${url}`, "POST /api/internal/v1/events");
		assert.equal(headers.authorization, "Bearer t");
		assert.equal(headers["content-type"], "application/json");
		assert.equal(body, requests[0].body);
	}
	const { id, ...rest } = JSON.parse(requests[0].body);
	assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
	assert.ok(Math.abs(Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16) - Date.now()) < 60_000, "a UUIDv7 of now");
	assert.deepEqual(rest, event);
	await emit({ url, token: "t" }, { ...event, id: "own" });
	assert.equal(JSON.parse(requests[5].body).id, "own");
});

test("emit waits as long as Retry-After says, in seconds or as a date", async (t) => {
	for (const form of [() => "1", () => new Date(Date.now() + 2000).toUTCString()]) {
		const value = form();
		const { url, requests } = await api(t, busy("", { "retry-after": value }), accepted);
		await emit({ url, token: "t" }, event);
		assert.ok(requests[1].at - requests[0].at >= 900, `${value}: ${requests[1].at - requests[0].at} ms`);
	}
});

test("an invalid event, a wrong token and the end of the time end it", async (t) => {
	const errors = [{ field: "botIds", message: "is required" }];
	const invalid = await api(t, { status: 422, headers: { "content-type": "application/problem+json" }, body: { status: 422, detail: "The request is invalid; see errors.", errors } });
	await assert.rejects(emit({ url: invalid.url, token: "t" }, event), (error) => {
		assert.ok(error instanceof MathubError);
		assert.deepEqual([error.status, error.detail, error.errors], [422, "The request is invalid; see errors.", errors]);
		assert.equal(error.message, "HTTP 422: The request is invalid; see errors.\n  botIds is required");
		return true;
	});
	assert.equal(invalid.requests.length, 1);
	const other = await api(t, { status: 401, body: { detail: "The token is not valid." } });
	await assert.rejects(emit({ url: other.url, token: "s3cret" }, event), (error) => error.status === 401 && !error.stack.includes("s3cret"));

	const away = await api(t, { ...busy(), body: { detail: "Busy.", eventIds: ["e1"] } });
	await assert.rejects(emit({ url: away.url, token: "t" }, event, { timeout: 3000 }), (error) => error.status === 503 && error.eventIds[0] === "e1");
	assert.ok(away.requests.length > 1);
	const long = await api(t, busy("", { "retry-after": "3600" }));
	await assert.rejects(emit({ url: long.url, token: "t" }, event), { name: "MathubError", retryAfter: 3600 });
	const hangs = await api(t, "hang");
	await assert.rejects(emit({ url: hangs.url, token: "t" }, event, { timeout: 200 }), NoAnswerError);
	await assert.rejects(emit({ url: "http://127.0.0.1:1", token: "t" }, event, { timeout: 200 }), NoAnswerError);
});

test("only a receipt is success, and only a page: a proxy may answer anything", async (t) => {
	const named = { ...event, id: "a" };
	for (const answer of [{ status: 204 }, {}, { body: null }, { body: {} }, { body: { id: "b" } }, { body: [] }, { body: [null] }, { body: [{ id: "b" }] }, { body: [{ id: "a" }, { id: "a" }] }]) {
		const { url, requests } = await api(t, answer);
		await assert.rejects(emit({ url, token: "t" }, named), { name: "TypeError", message: /is not the API/ });
		await assert.rejects(emitBatch({ url, token: "t" }, [named]), { name: "TypeError", message: /is not the API/ });
		await assert.rejects(poll({ url, key: "k", after: "10" }).next(), { name: "TypeError", message: /is not the API/ });
		assert.equal(requests.length, 3);
	}
	const { url } = await api(t, { status: 202, body: receipt({ id: "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71" }) });
	await emit({ url, token: "t" }, { ...event, id: "0195B2F0-5A3E-7C1D-8F00-3B6D2A9C4E71" });
});

test("what cannot work is an error at once", async () => {
	await assert.rejects(emit({ url: "ftp://localhost", token: "t" }, event), TypeError);
	await assert.rejects(emit({ url: "localhost:8080", token: "t" }, event), TypeError);
	await assert.rejects(emit({ url: "http://127.0.0.1:1", token: "" }, event), TypeError);
	await assert.rejects(emit({ url: "http://user:pa55word@127.0.0.1:1", token: "t" }, event), (error) => error instanceof TypeError && !error.message.includes("pa55word"));
	for (const token of ["t0ken\nb", "t0ken“"]) await assert.rejects(emit({ url: "http://127.0.0.1:1", token }, event), (error) => error instanceof TypeError && !error.message.includes("t0ken"));
	await assert.rejects(poll({ url: "http://127.0.0.1:1", key: "" }).next(), TypeError);
	await assert.rejects(poll({ url: "http://127.0.0.1:1", key: "k", wait: 0 }).next(), RangeError);
	for (const [field, values] of [["threadId", []], ["threadId", "t1"], ["types", ["mention"]]]) {
		await assert.rejects(poll({ url: "http://127.0.0.1:1", key: "k", filter: { [field]: values } }).next(), { name: "TypeError", message: new RegExp(`^filter: ${field} `) });
	}
	assert.throws(() => new Mathub({ url: "http://127.0.0.1:1", key: "" }), TypeError);
});

test("a signal gives up: a request, a pause, a loop", async (t) => {
	const reason = new Error("enough");
	const hangs = await api(t, "hang");
	await assert.rejects(emit({ url: hangs.url, token: "t" }, event, { signal: abortSoon(reason) }), reason);
	const away = await api(t, busy("", { "retry-after": "30000000" })); // it comes back within a minute all the same
	await assert.rejects(emit({ url: away.url, token: "t" }, event, { signal: abortSoon(reason), timeout: 90_000 }), reason);
	for await (const _ of poll({ url: hangs.url, key: "k", signal: abortSoon(reason) })) assert.fail("a page");
	const before = away.requests.length;
	for await (const _ of poll({ url: away.url, key: "k", signal: abortSoon(reason) })) assert.fail("a page");
	assert.equal(away.requests.length, before + 1);
});

function abortSoon(reason) {
	const controller = new AbortController();
	setTimeout(() => controller.abort(reason), 100);
	return controller.signal;
}

test("emitBatch sends all at once; batches divides what is too long", async (t) => {
	const { url, requests } = await api(t, busy(), accepted);
	assert.equal((await emitBatch({ url, token: "t" }, [{ ...event, id: "a" }, event])).length, 2);
	assert.equal(requests[0].body, requests[1].body);
	assert.equal(requests[0].url, "/api/internal/v1/events/batch");
	assert.equal(JSON.parse(requests[0].body).events[0].id, "a");

	const sizes = (events) => [...batches(events)].map((batch) => batch.length);
	assert.deepEqual(sizes([]), []);
	assert.deepEqual(sizes(Array(250).fill(event)), [100, 100, 50]);
	assert.deepEqual(sizes([{ ...event, id: "a" }, { ...event, id: "b" }, { ...event, id: "a" }]), [2, 1]);
	const large = { event: "post.created", data: { body: "ü".repeat(100_000) } };
	const divided = [...batches(Array(11).fill(large))];
	assert.deepEqual(divided.map((batch) => batch.length), [5, 5, 1]);
	for (const events of divided) assert.ok(Buffer.byteLength(JSON.stringify({ events })) <= 1 << 20);
	assert.ok(divided.flat().every(({ id }) => id), "each has an id, the same whenever it is emitted");
});

test("the client tries again only where that is safe", async (t) => {
	const client = async (...answers) => {
		const { url, requests } = await api(t, ...answers);
		return { mathub: new Mathub({ url: url + "/", key: "bot_k" }), requests };
	};
	const reads = await client("cut", busy(), { body: { id: "w" } });
	assert.deepEqual(await reads.mathub.getWebhook("a/b"), { id: "w" });
	assert.equal(reads.requests.length, 3);
	assert.equal(reads.requests[0].url, "/api/bot/v1/webhooks/a%2Fb");
	assert.equal(reads.requests[0].headers.authorization, "Bearer bot_k");

	for (const answer of ["cut", busy()]) {
		const writes = await client(answer);
		await assert.rejects(writes.mathub.createWebhook({ url: "https://bots.example.org", events: ["mention"] }), answer === "cut" ? NoAnswerError : MathubError);
		assert.equal(writes.requests.length, 1, "it may have been done");
	}
	const limited = await client(busy("", { "retry-after": "0" }, 429), { status: 201, body: { id: "w" } });
	assert.equal((await limited.mathub.createWebhook({ url: "https://bots.example.org", events: ["mention"] })).id, "w");
	const deletes = await client("cut", { status: 404, body: { detail: "Not found." } });
	await deletes.mathub.deleteWebhook("w");
	await assert.rejects(deletes.mathub.deleteWebhook("w"), { status: 404 });
	const never = await client(busy());
	await assert.rejects(never.mathub.getOwnBot(), { status: 503 });
	assert.equal(never.requests.length, 4);
	const elsewhere = await client({ status: 302, headers: { location: "http://127.0.0.1:1/" } });
	await assert.rejects(elsewhere.mathub.getOwnBot(), { status: 302 });
});

test("lists are read to their last page", async (t) => {
	const { url, requests } = await api(
		t,
		{ headers: { link: '</api/bot/v1/webhooks/w/deliveries?before=d2&limit=2>; rel="next"' }, body: [{ id: "d1" }, { id: "d2" }] },
		{ body: [{ id: "d3" }] },
	);
	const mathub = new Mathub({ url, key: "bot_k" });
	const ids = [];
	for await (const { id } of mathub.deliveries("w", { success: false, limit: 2 })) ids.push(id);
	assert.deepEqual(ids, ["d1", "d2", "d3"]);
	assert.deepEqual(requests.map(({ url }) => url), ["/api/bot/v1/webhooks/w/deliveries?success=false&limit=2", "/api/bot/v1/webhooks/w/deliveries?success=false&limit=2&before=d2"]);
});

test("poll reads on from the cursor, through trouble, and yields what moves it", async (t) => {
	const one = { id: "e1", event: "post.created", timestamp: "2025-03-20T10:30:00.000Z", data: {} };
	const page = (events, cursor) => ({ body: { events, cursor, hasMore: false } });
	const { url, requests } = await api(t, page([], "10"), "cut", busy(), page([], "10"), page([one], "11"), { status: 410, body: { detail: "Gone." } });
	const pages = [];
	const reading = async () => {
		for await (const page of poll({ url, key: "bot_k", after: "latest", types: ["post.created", "mention"], filter: { threadId: ["t 1", "t2"] }, wait: 7 })) pages.push(page);
	};
	await assert.rejects(reading(), { status: 410 });
	assert.deepEqual(pages, [{ events: [], cursor: "10" }, { events: [one], cursor: "11" }]);
	assert.deepEqual(requests.map(({ url }) => new URL(url, "http://x").searchParams.get("after")), ["latest", "10", "10", "10", "10", "11"]);
	assert.equal(requests[0].url, "/api/bot/v1/events?threadId=t+1&threadId=t2&after=latest&types=post.created%2Cmention", "where it begins is known before it waits");
	assert.ok(requests.slice(1).every(({ url }) => url.endsWith("&wait=7s")));
});
