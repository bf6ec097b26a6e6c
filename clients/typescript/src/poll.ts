import type { EventPage } from "./bot_api.js";
import type { EventType, MathubEvent } from "./events.js";
import { type Api, mayPass, notTheApi, request, retry } from "./http.js";

/** What to poll for. */
export interface PollOptions extends Api {
	/** The bot's key, bot_…. */
	key: string;
	/** The cursor that you kept, or "latest" for events from now on. Default: the oldest event that is kept. */
	after?: string | undefined;
	/** The event types to read. Default: all. */
	types?: readonly EventType[];
	/** Which of them to read: by a field of the events' data, the values of which any will do. Default: all. */
	filter?: Record<string, readonly (string | number | boolean)[]>;
	/** The most events of a page, 1 to 500. Default: 100. */
	limit?: number;
	/** How long a call waits for an event, 1 to 30 whole seconds. Default: 20. */
	wait?: number;
	/** Ends the loop. */
	signal?: AbortSignal;
}

/** Some events, and the cursor behind them. */
export interface PolledPage {
	/** The events, in their order. There may be none. */
	events: MathubEvent[];
	/** Keep it once the events are processed, and pass it as `after` the next time: each event is then read at least once. */
	cursor: string;
}

const slack = 20_000; // beyond what a call waits for events

/**
 * Reads a bot's events in their order, page by page, and waits for further ones, until the signal is aborted. While the API is
 * away or busy, it tries again. Other errors end it: a MathubError of status 401 is for the key, and of 410 for a cursor that is
 * too old: go on without `after`, or with "latest".
 */
export async function* poll(options: PollOptions): AsyncGenerator<PolledPage, void, undefined> {
	const { key: token, types, filter, limit, wait = 20, signal } = options;
	if (!token) throw new TypeError("the key is empty");
	if (!(Number.isInteger(wait) && wait >= 1 && wait <= 30)) throw new RangeError("wait must be 1 to 30 seconds");
	for (const [name, values] of Object.entries(filter ?? {})) {
		if (["after", "limit", "types", "wait"].includes(name)) throw new TypeError(`filter: ${name} is not a field of any event type`);
		if (!Array.isArray(values) || values.length === 0) throw new TypeError(`filter: ${name} needs an array of values`); // none would let every event pass
	}
	for (let after = options.after; ; ) {
		// "latest" does not wait: what happened meanwhile would be lost with its answer.
		const query = { ...filter, after, limit, types: types?.join(","), wait: after === "latest" ? undefined : `${wait}s` };
		let page: EventPage;
		try {
			if (signal?.aborted) return;
			const answer = await retry(
				() => request(options, { method: "GET", path: "/api/bot/v1/events", token, query, signal, timeout: wait * 1000 + slack }),
				mayPass,
				signal,
			);
			page = answer.body as EventPage;
			if (typeof page?.cursor !== "string") throw notTheApi(options);
		} catch (error) {
			if (signal?.aborted) return;
			throw error;
		}
		const moved = page.cursor !== after;
		after = page.cursor;
		if (moved) yield { events: page.events, cursor: page.cursor };
	}
}
