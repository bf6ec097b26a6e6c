// A bot and a backend on the types that openapi-typescript makes.
import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const { MATHUB_API: baseUrl = "", MATHUB_BOT_KEY, MATHUB_SERVICE_TOKEN, RECEIVER: url = "", DATA = "", LAST_TYPE } = process.env;
const bot = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${MATHUB_BOT_KEY}` } });
const backend = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${MATHUB_SERVICE_TOKEN}` } });

/** The answer's body, or else its problem as an error. */
function read<T>({ data, error }: { data?: T; error?: { detail: string } }): T {
	if (data === undefined) throw new Error(error?.detail ?? "no answer");
	return data;
}

const { id } = read(await bot.POST("/api/bot/v1/webhooks", { body: { url, events: ["post.created"] } }));
const webhooks = read(await bot.GET("/api/bot/v1/webhooks"));
assert(webhooks.some((webhook) => webhook.id === id && webhook.events.includes("post.created")));
const path = { id };
read(await bot.GET("/api/bot/v1/webhooks/{id}", { params: { path } }));
read(await bot.PATCH("/api/bot/v1/webhooks/{id}", { params: { path }, body: { isActive: true, secret: null } }));
read(await backend.POST("/api/internal/v1/events", { body: { event: "post.created", data: { postId: "p1" } } }));

let deliveries = read(await bot.GET("/api/bot/v1/webhooks/{id}/deliveries", { params: { path } }));
for (const end = Date.now() + 30_000; deliveries.length === 0 && Date.now() < end; await setTimeout(50)) {
	deliveries = read(await bot.GET("/api/bot/v1/webhooks/{id}/deliveries", { params: { path } }));
}
const [delivery] = deliveries;
assert(delivery !== undefined, "nothing is delivered");
assert.deepEqual(delivery.payload.data, JSON.parse(DATA));
read(await bot.GET("/api/bot/v1/webhooks/{id}/deliveries/{deliveryId}", { params: { path: { id, deliveryId: delivery.id } } }));

const { events } = read(await bot.GET("/api/bot/v1/events", { params: { query: { limit: 500 } } }));
const last = events.at(-1);
assert.equal(last?.data.postId, "p1");
assert.equal(last?.event, LAST_TYPE);
