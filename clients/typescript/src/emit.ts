import type { NewEvent, Receipt } from "./events.js";
import { type Api, mayPass, notTheApi, request, retry } from "./http.js";
import { canonicalId, newId } from "./id.js";

/** The service API. */
export interface Service extends Api {
	/** The service token. */
	token: string;
}

/** Options of emitting. */
export interface EmitOptions {
	/** Gives the call up. */
	signal?: AbortSignal;
	/** For how long to try, in milliseconds. Default: a minute. */
	timeout?: number;
}

const tryTimeout = 20_000; // the service answers within 15 s
const maxBatchEvents = 100;
const maxBatchBytes = 1 << 20;
const utf8 = new TextEncoder();

/**
 * Accepts an event for delivery: once it returns, the event is durable and will be delivered at least once. While the service is
 * away or busy (no answer, 408, 429, 5xx), it tries again with the same id. The error is a MathubError, such as of status 422 where
 * the event is invalid, a NoAnswerError, or a TypeError where the server is not the API. After any, the event may be emitted again with
 * the id that you gave it.
 */
export async function emit(service: Service, event: NewEvent, options?: EmitOptions): Promise<Receipt> {
	const complete = identified(event);
	return receiptsOf(service, [complete], [await post(service, "/api/internal/v1/events", complete, options)])[0] as Receipt;
}

/**
 * Accepts 1 to 100 events of at most 1 MiB of JSON in all, as emit does: all of them, or none. Receipts are in their order. No id
 * may stand twice. For a longer list, see batches.
 */
export async function emitBatch(service: Service, events: readonly NewEvent[], options?: EmitOptions): Promise<Receipt[]> {
	const complete = events.map(identified);
	return receiptsOf(service, complete, await post(service, "/api/internal/v1/events/batch", { events: complete }, options));
}

/** What the service answered, if it is the receipts of these events. */
function receiptsOf(service: Service, events: readonly { id: string }[], answer: unknown): Receipt[] {
	const receipts = (Array.isArray(answer) ? answer : []) as (Receipt | null | undefined)[];
	if (receipts.length !== events.length || events.some(({ id }, i) => receipts[i]?.id !== canonicalId(id))) throw notTheApi(service);
	return receipts as Receipt[];
}

/** Divides a list of events into batches that emitBatch takes. Events without an id get one. An id that stands twice begins another batch. */
export function* batches(events: Iterable<NewEvent>): Generator<NewEvent[], void, undefined> {
	let batch: NewEvent[] = [];
	let ids = new Set<string>();
	const around = '{"events":[]}'.length;
	let size = around;
	for (const given of events) {
		const event = identified(given);
		const id = canonicalId(event.id);
		const bytes = utf8.encode(JSON.stringify(event)).length + 1;
		if (batch.length > 0 && (batch.length === maxBatchEvents || size + bytes > maxBatchBytes || ids.has(id))) {
			yield batch;
			[batch, ids, size] = [[], new Set(), around];
		}
		batch.push(event);
		ids.add(id);
		size += bytes;
	}
	if (batch.length > 0) yield batch;
}

/** An event with an id, so that each try has the same. */
export function identified<Event extends NewEvent>(event: Event): Event & { id: string } {
	return { ...event, id: event.id ?? newId() };
}

async function post(service: Service, path: string, content: object, { signal, timeout = 60_000 }: EmitOptions = {}): Promise<unknown> {
	if (!service.token) throw new TypeError("the service token is empty");
	const body = JSON.stringify(content); // once: every try is the same to the byte
	const end = Date.now() + timeout;
	const { body: answer } = await retry(
		() => request(service, { method: "POST", path, token: service.token, body, signal, timeout: Math.max(1, Math.min(tryTimeout, end - Date.now())) }),
		(error, _tries, pause) => mayPass(error) && Date.now() + pause < end,
		signal,
	);
	return answer;
}
