import type { MathubEvent } from "./events.js";
import { type Body, type HeadersLike, type Secret, secretsOf, VerificationError, verify, type VerifyOptions } from "./signature.js";

/**
 * What a receiver does with an event. The request is answered when it returns: with 204, or an error status if it throws, after
 * which the event comes again later. Mathub waits 5 seconds: store the event and do slow work afterwards. The same event may come
 * twice: drop what you have handled by its id.
 */
export type EventHandler = (event: MathubEvent) => unknown;

/** Options of the handlers. */
export interface HandlerOptions extends VerifyOptions {
	/** The most bytes of a body. Default: 300 KiB; events have at most 256 KiB, and their envelope. */
	limit?: number;
}

const defaultLimit = 300 << 10;

interface Answer {
	status: number;
	text: string;
}

/** Verifies a request and has its event handled. What the handler throws is thrown. */
async function answer(body: Body, headers: HeadersLike, secret: Secret, handle: EventHandler, options: HandlerOptions): Promise<Answer> {
	let event: MathubEvent;
	try {
		event = await verify(body, headers, secret, options);
	} catch (error) {
		if (!(error instanceof VerificationError)) throw error;
		return { status: 401, text: error.message };
	}
	// Yes, this endpoint wants the webhook's deliveries: whoever knows the secret asks.
	if (event.event === "webhook.verify") return { status: 200, text: event.data.nonce };
	await handle(event);
	return { status: 204, text: "" };
}

const tooLarge: Answer = { status: 413, text: "the body is too large" };

/** A handler of the Fetch API: Deno, Bun, Cloudflare Workers, Next.js, Hono. Its promise is rejected with what handle throws. */
export function fetchHandler(secret: Secret, handle: EventHandler, options: HandlerOptions = {}): (request: Request) => Promise<Response> {
	secretsOf(secret);
	return async (request) => {
		if (request.method !== "POST") return new Response("send a POST", { status: 405, headers: { allow: "POST" } });
		const body = await collect(chunksOf(request.body), options.limit);
		const { status, text } = body === undefined ? tooLarge : await answer(body, request.headers, secret, handle, options);
		return new Response(text === "" ? null : text, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
	};
}

/** What expressHandler needs of a request: one of Express, or of Node itself. */
export interface NodeRequest {
	readonly headers: Record<string, string | string[] | undefined>;
	readonly readableDidRead: boolean;
	iterator(options: { destroyOnReturn: boolean }): AsyncIterator<Uint8Array>;
	resume(): unknown;
	/** What a parser before it has made of the body. */
	body?: unknown;
	/** The bytes of the body, where something before it has kept them. */
	rawBody?: unknown;
}

/** What expressHandler needs of a response. */
export interface NodeResponse {
	statusCode: number;
	setHeader(name: string, value: string): unknown;
	end(text?: string): unknown;
}

/**
 * A handler for Express: app.post("/mathub", expressHandler(secret, handle)). It reads the raw body by itself: mount it before
 * express.json(), or behind express.raw(). It serves a server of node:http too, whose errors it then answers with 500.
 */
export function expressHandler(secret: Secret, handle: EventHandler, options: HandlerOptions = {}): (request: NodeRequest, response: NodeResponse, next?: (error?: unknown) => void) => Promise<void> {
	secretsOf(secret);
	return async (request, response, next) => {
		try {
			const body = await rawBody(request, options.limit);
			if (body === undefined) request.resume(); // a sender reads the answer only once it has sent its body
			reply(response, body === undefined ? tooLarge : await answer(body, request.headers, secret, handle, options));
		} catch (error) {
			if (next) return next(error);
			console.error(error);
			reply(response, { status: 500, text: "" });
		}
	};
}

function reply(response: NodeResponse, { status, text }: Answer): void {
	response.statusCode = status;
	response.setHeader("content-type", "text/plain; charset=utf-8");
	response.end(text);
}

async function rawBody(request: NodeRequest, limit: number | undefined): Promise<Uint8Array | undefined> {
	for (const kept of [request.rawBody, request.body]) {
		if (ArrayBuffer.isView(kept)) return kept as Uint8Array;
		if (typeof kept === "string") return new TextEncoder().encode(kept);
	}
	if (request.readableDidRead) throw new TypeError("the raw body is gone: mount the handler before express.json(), or use express.raw()");
	// Without destroying it, which would take the answer's connection away.
	return collect({ [Symbol.asyncIterator]: () => request.iterator({ destroyOnReturn: false }) }, limit);
}

interface FastifyRequest {
	readonly headers: Record<string, string | string[] | undefined>;
	readonly body: unknown;
}

interface FastifyReply {
	code(status: number): FastifyReply;
	type(contentType: string): FastifyReply;
	send(text: string): unknown;
}

/** What fastifyPlugin needs of Fastify. */
export interface FastifyLike {
	removeAllContentTypeParsers(): unknown;
	addContentTypeParser(type: string, options: { parseAs: "buffer"; bodyLimit?: number }, parser: (request: never, body: never, done: (error: Error | null, body?: unknown) => void) => void): unknown;
	route(options: { method: "POST"; url: string; handler(request: FastifyRequest, reply: FastifyReply): Promise<unknown> }): unknown;
}

/**
 * A plugin for Fastify: app.register(fastifyPlugin(secret, handle), { prefix: "/mathub" }). It takes the raw body; other routes
 * keep their parsers. What handle throws goes to Fastify's error handler.
 */
export function fastifyPlugin(secret: Secret, handle: EventHandler, options: HandlerOptions = {}): (instance: FastifyLike) => Promise<void> {
	secretsOf(secret);
	return async (instance) => {
		instance.removeAllContentTypeParsers();
		instance.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: options.limit ?? defaultLimit }, (_request, body, done) => done(null, body));
		instance.route({
			method: "POST",
			url: "/",
			async handler(request, reply) {
				const body = ArrayBuffer.isView(request.body) ? (request.body as Uint8Array) : ""; // there is none
				const { status, text } = await answer(body, request.headers, secret, handle, options);
				return reply.code(status).type("text/plain; charset=utf-8").send(text);
			},
		});
	};
}

/** The bytes of a body, or undefined where they are more than the limit. */
async function collect(chunks: AsyncIterable<Uint8Array>, limit = defaultLimit): Promise<Uint8Array | undefined> {
	const parts: Uint8Array[] = [];
	let size = 0;
	for await (const chunk of chunks) {
		size += chunk.length;
		if (size > limit) return undefined;
		parts.push(chunk);
	}
	const body = new Uint8Array(size);
	let at = 0;
	for (const part of parts) {
		body.set(part, at);
		at += part.length;
	}
	return body;
}

/** Not every runtime can iterate a stream. */
async function* chunksOf(stream: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array, void, undefined> {
	if (stream === null) return;
	const reader = stream.getReader();
	try {
		for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
	} finally {
		await reader.cancel();
	}
}
