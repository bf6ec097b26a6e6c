// What a developer writes, and what the compiler refuses. It is compiled, not run.
import type { Client } from "@temporalio/client";
import express from "express";
import fastify from "fastify";
import type { IncomingMessage } from "node:http";
import type { PoolClient } from "pg";
import { emit, emitBatch, emitWorkflow, type EventOf, type EventType, expressHandler, fastifyPlugin, fetchHandler, type MathubEvent, Mathub, type NewEvent, poll, storeEvent, verify } from "@mathub/webhooks";

const service = { url: "http://127.0.0.1:8080", token: "t" };

export async function receive(request: IncomingMessage, body: Buffer): Promise<string | undefined> {
	const event = await verify(body, request.headers, ["a", "b"], { tolerance: 60 });
	await verify(await new Request("x").arrayBuffer(), new Headers(), "a", { signature: "body" });
	switch (event.event) {
		case "post.created":
			return event.data.body;
		case "webhook.disabled":
			return event.data.enable.body.isActive ? event.data.host : event.data.failureCount.toFixed();
		case "wiki.edited":
			// @ts-expect-error another type's field
			return event.data.postId;
		// @ts-expect-error no type of the catalog
		case "post.deleted":
			return undefined;
		default: {
			const rest: Exclude<MathubEvent["event"], "post.created" | "webhook.disabled" | "wiki.edited"> = event.event;
			return rest;
		}
	}
}

export function unknown(event: MathubEvent): unknown {
	switch (event.event) {
		case "thread.created":
		case "post.created":
		case "effort.created":
		case "effort.status_changed":
		case "wiki.edited":
		case "mention":
		case "review.requested":
		case "review.submitted":
		case "test":
		case "webhook.verify":
		case "webhook.disabled":
		case "webhook.failing":
		case "webhook.recovered":
			return event.timestamp;
		default: {
			const type: string = event.event;
			return type.startsWith("comment.") ? event.data.anything : event.id;
		}
	}
}

export async function emitting(client: Client): Promise<void> {
	await emit(service, { event: "post.created", data: { postId: "p1", more: [1] } });
	await emit(service, { event: "mention", data: {}, botIds: ["b"] }, { signal: AbortSignal.timeout(1), timeout: 1 });
	await emitBatch(service, [{ event: "post.created", data: {} }, { event: "mention", data: {}, botIds: [] }]);
	await emitWorkflow(client, { id: "i", event: "wiki.edited", data: { title: "Notation" }, timestamp: new Date().toISOString() });
	// @ts-expect-error a targeted event without its audience
	await emit(service, { event: "mention", data: {} });
	// @ts-expect-error a field of another type
	await emit(service, { event: "post.created", data: { postId: 1 } });
	// @ts-expect-error it cannot be emitted
	await emit(service, { event: "test", data: {} });
	// @ts-expect-error without data
	const none: NewEvent = { event: "post.created" };
	void none;
}

export async function calls(): Promise<void> {
	const mathub = new Mathub({ url: "u", key: "k" });
	const later: EventType = "comment.created";
	const webhook = await mathub.createWebhook({ url: "u", events: ["post.created", later], name: "n" });
	await mathub.updateWebhook(webhook.id, { secret: null, name: null, isActive: true });
	const page = await mathub.listDeliveries(webhook.id, { limit: 2 });
	const next: string | undefined = page.next;
	for await (const delivery of mathub.deliveries(webhook.id, { before: next ?? "" })) delivery.statusCode?.toFixed();
	const done: void = await mathub.deleteWebhook(webhook.id, { signal: AbortSignal.timeout(1) });
	// @ts-expect-error url is required
	await mathub.createWebhook({ events: [] });
	for await (const { events } of poll({ url: "u", key: "k" })) {
		for (const event of events) if (event.event === "mention") mentioned(event);
	}
	return done;
}

function mentioned(event: EventOf<"mention">): string | undefined {
	return event.data.body;
}

export function handlers(): unknown[] {
	const handle = (event: MathubEvent) => void event;
	const app = express();
	app.post("/", expressHandler("s", handle));
	app.use(expressHandler("s", handle));
	const server = fastify();
	server.register(fastifyPlugin("s", handle, { limit: 1, signature: "body" }), { prefix: "/mathub" });
	const serve: (request: Request) => Promise<Response> = fetchHandler("s", handle);
	return [serve];
}

export async function inTransaction(client: PoolClient): Promise<string> {
	// @ts-expect-error a targeted event names its bots
	await storeEvent(client, { event: "mention", data: { postId: "p" } });
	return storeEvent(client, { event: "post.created", data: { postId: "p" } });
}
