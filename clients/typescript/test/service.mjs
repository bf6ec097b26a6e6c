// Uses the package on a running service. The test of the package runs it; MATHUB_API, MATHUB_BOT_KEY, MATHUB_SERVICE_TOKEN and
// TEMPORAL_ADDRESS say where all is.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { emit, emitBatch, emitWorkflow, emitWorkflowBatch, expressHandler, Mathub, MathubError, poll } from "@mathub/webhooks";

const { Client, Connection } = createRequire(import.meta.url)("@temporalio/client");
const { MATHUB_API: url, MATHUB_BOT_KEY: key, MATHUB_SERVICE_TOKEN: token, TEMPORAL_ADDRESS: address } = process.env;
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const service = { url, token };
const mathub = new Mathub({ url, key });
const { id: botId } = await mathub.getOwnBot();

// A receiver on Node's own server, and what it has got.
const got = new Map();
const arrived = new EventTarget();
const server = createServer(expressHandler(secret, (event) => {
	assert(!got.has(event.id), "delivered twice");
	got.set(event.id, event);
	arrived.dispatchEvent(new Event("event"));
})).listen(0, "127.0.0.1");
await once(server, "listening");
async function arrival(id) {
	while (!got.has(id)) await once(arrived, "event", { signal: AbortSignal.timeout(30_000) });
	return got.get(id);
}
const webhook = await mathub.createWebhook({ url: `http://127.0.0.1:${server.address().port}/`, events: ["post.created", "mention"], secret });
assert.equal((await mathub.verifyWebhook(webhook.id)).success, true);
const tested = await mathub.testWebhook(webhook.id, { eventType: "mention" });
assert.equal((await arrival(tested.eventId)).test, true);

// With a key pair: Node's own cryptography verifies what a public key is to verify, beside the secret's signature.
const { publicKeys: [publicKey] } = await mathub.rotateSigningKey(webhook.id);
const byKey = [];
const other = createServer(expressHandler(publicKey, (event) => void byKey.push(event.id))).listen(0, "127.0.0.1");
await once(other, "listening");
await mathub.updateWebhook(webhook.id, { url: `http://127.0.0.1:${other.address().port}/` });
const signed = await mathub.testWebhook(webhook.id);
assert.deepEqual([signed.success, byKey], [true, [signed.eventId]]);
await mathub.removeSigningKey(webhook.id);
assert.equal((await mathub.testWebhook(webhook.id)).statusCode, 401);
await mathub.updateWebhook(webhook.id, { url: webhook.url });
assert.equal((await mathub.verifyWebhook(webhook.id)).success, true);
other.closeAllConnections();
other.close();

// Over HTTP.
const data = { postId: "p1", body: "größer ≥", more: { n: [1, null] } };
const unnamed = await emit(service, { event: "post.created", data });
assert.deepEqual((await arrival(unnamed.id)).data, data);
const id = randomUUID();
assert.deepEqual(await emit(service, { id: id.toUpperCase(), event: "post.created", data }), { id, workflowId: `event-${id}`, duplicate: false });
await arrival(id);
assert.equal((await emit(service, { id, event: "post.created", data })).duplicate, true);
assert.equal((await emit(service, { id, event: "post.created", data: {} })).conflict, true);
const mention = await emit(service, { event: "mention", data: {}, botIds: [botId, "nobody"] });
assert.deepEqual(mention.unknownBotIds, ["nobody"]);
await assert.rejects(emit(service, { event: "mention", data: {} }), (error) => error instanceof MathubError && error.status === 422 && error.errors[0].field === "botIds");
await assert.rejects(emit({ url, token: "wrong" }, { event: "post.created", data }), { status: 401 });
const several = await emitBatch(service, [{ event: "post.created", data }, { event: "post.created", data }]);
for (const one of several) await arrival(one.id);

// By polling, from where all this began.
const read = [];
for await (const { events } of poll({ url, key })) {
	read.push(...events);
	if (several.every((one) => read.some((event) => event.id === one.id))) break;
}
assert.deepEqual(read.find((event) => event.id === unnamed.id)?.data, data);
await assert.rejects(poll({ url, key: "bot_wrong" }).next(), { status: 401 });

// Through Temporal.
const connection = await Connection.connect({ address });
const client = new Client({ connection });
const byWorkflow = { id: randomUUID().toUpperCase(), event: "post.created", data };
const first = await emitWorkflow(client, byWorkflow);
assert.deepEqual(first, { id: byWorkflow.id.toLowerCase(), workflowId: `event-${byWorkflow.id.toLowerCase()}`, duplicate: false });
assert.deepEqual((await arrival(first.id)).data, data);
const handle = client.workflow.getHandle(first.workflowId);
await handle.result();
const described = await handle.describe();
assert.deepEqual([described.type, described.taskQueue, described.searchAttributes.MathubEventType], ["DeliverEvent", "mathub-webhooks", ["post.created"]]);
for (let again = 0; again < 2; again++) assert.equal((await emitWorkflow(client, byWorkflow)).duplicate, true);
await handle.result(); // of the last: it delivered nothing, or the receiver would have failed
const group = await emitWorkflowBatch(client, [{ event: "post.created", data }, { id: first.id, event: "post.created", data }, { event: "mention", data, botIds: [botId] }]);
await client.workflow.getHandle(group[0].workflowId).result();
await arrival(group[2].id);
assert.equal((await (await fetch(`${url}/api/internal/v1/events/${group[0].id}`, { headers: { authorization: `Bearer ${token}` } })).json()).workflow.id, group[0].workflowId);

// An invalid event's workflow fails, after which the event is emitted again, corrected.
const corrected = { id: randomUUID(), event: "mention", data };
await assert.rejects(client.workflow.getHandle((await emitWorkflow(client, corrected)).workflowId).result());
assert.equal((await emitWorkflow(client, { ...corrected, botIds: [botId] })).duplicate, false);
await arrival(corrected.id);
await assert.rejects(emitWorkflow(client, { ...byWorkflow, id: "no id" }), RangeError);
await assert.rejects(emitWorkflow(client, { ...byWorkflow, data: [] }), TypeError);
const large = { event: "post.created", data: { body: "ü".repeat(100_000) } };
await assert.rejects(emitWorkflow(client, { ...large, data: { body: "ü".repeat(132_000) } }), RangeError);
await assert.rejects(emitWorkflowBatch(client, Array(6).fill(large)), RangeError);

// A workflow of another kind has the event's id.
const taken = await client.workflow.start("Another", { taskQueue: "another", workflowId: "event-taken" });
await assert.rejects(emitWorkflow(client, { ...byWorkflow, id: "taken" }), /event-taken, of type Another/);
await taken.terminate();
assert.equal((await emitWorkflow(client, { ...byWorkflow, id: "taken" })).duplicate, false);
await arrival("taken");

// A namespace without the search attribute.
const namespace = `bare-${randomUUID()}`;
await connection.workflowService.registerNamespace({ namespace, workflowExecutionRetentionPeriod: { seconds: 86400 } });
const bare = new Client({ connection, namespace });
for (const end = Date.now() + 30_000; ; ) {
	try {
		await emitWorkflow(bare, { ...byWorkflow, id: "bare" });
		break;
	} catch (error) { // the namespace is not known everywhere yet
		if (error.cause?.code !== 5 || Date.now() > end) throw error;
		await new Promise((done) => setTimeout(done, 200));
	}
}
const undiscoverable = await bare.workflow.getHandle("event-bare").describe();
assert.deepEqual([undiscoverable.type, undiscoverable.searchAttributes.MathubEventType], ["DeliverEvent", undefined]);

// What has happened to the webhook, in pages.
const deliveries = [];
for await (const delivery of mathub.deliveries(webhook.id, { limit: 3 })) deliveries.push(delivery);
assert.ok(deliveries.length > 6 && deliveries.every((delivery) => delivery.success || delivery.statusCode === 401));
await mathub.deleteWebhook(webhook.id);
await assert.rejects(mathub.getWebhook(webhook.id), { status: 404 });

await connection.close();
server.closeAllConnections();
server.close();
