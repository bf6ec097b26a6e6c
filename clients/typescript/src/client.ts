import { BotAPI, type Call, type CallOptions, type Page } from "./bot_api.js";
import { type Api, MathubError, mayPass, request, retry } from "./http.js";

/** Settings of a client. */
export interface MathubOptions extends Api {
	/** The bot's key, bot_…. */
	key: string;
	/** How often a call is tried again that may be. Default: 3. */
	retries?: number;
}

const callTimeout = 45_000; // the API itself may wait 30 s
const longestWait = 30_000;

/**
 * A client of the bot API. Calls throw a MathubError where the API refuses, and a NoAnswerError where it does not answer. Calls
 * that read or delete are tried again after no answer, a 429 or a 5xx; others only after a 429, which does nothing. To be asked
 * to wait for more than 30 s is an error at once.
 */
export class Mathub extends BotAPI {
	readonly #options: MathubOptions;

	constructor(options: MathubOptions) {
		super();
		if (!options.key) throw new TypeError("the key is empty");
		this.#options = options;
	}

	protected async send<T>({ method, path, query, body }: Call, { signal }: CallOptions = {}): Promise<T> {
		const { key: token, retries = 3 } = this.#options;
		const json = body === undefined ? undefined : JSON.stringify(body);
		const repeatable = method === "GET" || method === "DELETE";
		const { headers, body: answer } = await retry(
			async (tries) => {
				try {
					return await request(this.#options, { method, path, token, query, body: json, signal, timeout: callTimeout });
				} catch (error) {
					const gone = method === "DELETE" && tries > 1 && error instanceof MathubError && error.status === 404;
					if (!gone) throw error;
					return { headers: new Headers(), body: undefined }; // an earlier try has deleted it, and its answer was lost
				}
			},
			(error, tries, pause) => tries <= retries && pause <= longestWait && (repeatable ? mayPass(error) : error instanceof MathubError && error.status === 429),
			signal,
		);
		const next = nextCursor(headers.get("link"));
		return (next === undefined ? answer : Object.assign(answer as object, { next })) as T;
	}

	protected async *pages<T>(list: (cursor?: string) => Promise<Page<T>>, first?: string): AsyncGenerator<T, void, undefined> {
		for (let cursor = first; ; ) {
			const page = await list(cursor);
			yield* page;
			if (page.next === undefined) return;
			cursor = page.next;
		}
	}
}

/** The cursor of the page to which a Link header leads (RFC 8288). */
function nextCursor(link: string | null): string | undefined {
	const target = link?.match(/<([^>]*)>\s*;\s*rel="next"/)?.[1];
	if (target === undefined) return undefined;
	const query = new URL(target, "http://localhost").searchParams;
	return query.get("after") ?? query.get("before") ?? undefined;
}
