/** Where the API is. */
export interface Api {
	/** Where the API is, such as https://webhooks.example.org. */
	url: string;
	/** Makes the requests. Default: the runtime's own fetch. */
	fetch?: typeof fetch;
}

/** What is wrong with a field of a request. */
export interface FieldError {
	field: string;
	message: string;
}

/** An error that the API answered (RFC 9457). */
export class MathubError extends Error {
	override readonly name = "MathubError";
	/** The HTTP status. */
	readonly status: number;
	/** Why, in the API's words. */
	readonly detail: string;
	/** What is wrong with the request's fields. Of several events, a field names the event by its place: "events[3].data". */
	readonly errors: FieldError[];
	/** The ids of the events of a refused emit. Emitting them again with these delivers each once. */
	readonly eventIds: string[];
	/** How long the API asks to wait before the next call, in seconds, if it does. */
	readonly retryAfter: number | undefined;

	constructor(status: number, problem: { detail?: unknown; errors?: unknown; eventIds?: unknown }, retryAfter?: number) {
		const detail = typeof problem.detail === "string" && problem.detail !== "" ? problem.detail : "The answer is not from the API.";
		const errors = Array.isArray(problem.errors) ? (problem.errors as FieldError[]) : [];
		super([`HTTP ${status}: ${detail}`, ...errors.map(({ field, message }) => `${field} ${message}`)].join("\n  "));
		this.status = status;
		this.detail = detail;
		this.errors = errors;
		this.eventIds = Array.isArray(problem.eventIds) ? (problem.eventIds as string[]) : [];
		this.retryAfter = retryAfter;
	}
}

/** Says that the API did not answer, or not in time: whether it did what was asked is not known. cause says why. */
export class NoAnswerError extends Error {
	override readonly name = "NoAnswerError";

	constructor(url: string, cause: unknown) {
		super(`the API at ${new URL(url).origin} does not answer: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
	}
}

/** A request to the API. */
export interface ApiRequest {
	method: string;
	path: string;
	token: string;
	query?: object | undefined;
	/** Its JSON. */
	body?: string | undefined;
	signal?: AbortSignal | undefined;
	/** How long it may take, in milliseconds. */
	timeout: number;
}

/** An answer of 2xx. */
export interface ApiAnswer {
	headers: Headers;
	/** The parsed JSON; undefined where there is none. */
	body: unknown;
}

/** Makes one request. The error is a MathubError where the API refuses, a NoAnswerError, or the reason of the signal. */
export async function request(api: Api, { method, path, token, query, body, signal, timeout }: ApiRequest): Promise<ApiAnswer> {
	// Of which the runtime's own error quotes the token.
	token = token.trim(); // a file ends with a line break
	if (/[^\x20-\x7e]/.test(token)) throw new TypeError("the key or token has a character that none has, such as a line break");
	const headers: Record<string, string> = { authorization: `Bearer ${token}` };
	if (body !== undefined) headers["content-type"] = "application/json";
	const limit = AbortSignal.timeout(timeout);
	const { href } = address(api.url, path, query);
	let response: Response, text: string;
	try {
		// Not of a Request: another fetch, such as undici's, takes none that is the runtime's.
		response = await (api.fetch ?? fetch)(href, {
			method,
			headers,
			body: body ?? null,
			redirect: "manual", // a key goes to no other host
			signal: signal ? AbortSignal.any([signal, limit]) : limit,
		});
		text = await response.text();
	} catch (error) {
		if (signal?.aborted) throw signal.reason;
		throw new NoAnswerError(api.url, error);
	}
	if (!response.ok) throw refusal(response, text);
	if (text === "") return { headers: response.headers, body: undefined };
	try {
		return { headers: response.headers, body: JSON.parse(text) };
	} catch {
		throw notTheApi(api);
	}
}

/** The error for an answer of 2xx that the API does not give: a proxy before it may give any. */
export function notTheApi(api: Api): TypeError {
	return new TypeError(`the server at ${new URL(api.url).origin} is not the API`);
}

function address(url: string, path: string, query: object = {}): URL {
	const at = new URL(url);
	if (at.protocol !== "http:" && at.protocol !== "https:") throw new TypeError("url must be an http or https URL");
	if (at.username !== "" || at.password !== "") throw new TypeError("url must have no user name and no password"); // which fetch would quote
	at.pathname = at.pathname.replace(/\/$/, "") + path;
	for (const [name, value] of Object.entries(query)) {
		if (Array.isArray(value)) for (const item of value) at.searchParams.append(name, String(item));
		else if (value !== undefined && value !== null) at.searchParams.set(name, String(value));
	}
	return at;
}

function refusal(response: Response, text: string): MathubError {
	let problem: object = {};
	try {
		const parsed: unknown = JSON.parse(text);
		if (typeof parsed === "object" && parsed !== null) problem = parsed;
	} catch {
		// A proxy's page tells no more than its status.
	}
	return new MathubError(response.status, problem, seconds(response.headers.get("retry-after")));
}

/** The seconds of a Retry-After header, which is a number of them or a date. */
function seconds(retryAfter: string | null): number | undefined {
	if (retryAfter === null || retryAfter.trim() === "") return undefined;
	const value = Number(retryAfter);
	const wait = Number.isNaN(value) ? (Date.parse(retryAfter) - Date.now()) / 1000 : value;
	return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

/** Says whether a try may succeed later: no answer, a 408, 429 or 5xx. */
export function mayPass(error: unknown): boolean {
	return error instanceof NoAnswerError || (error instanceof MathubError && (error.status === 408 || error.status === 429 || error.status >= 500));
}

const firstPause = 100;
const longestPause = 10_000;
const longestAsked = 60_000; // by a proxy too, which may answer again at once

/**
 * Tries until it succeeds, or until again says no; again learns the error, how many tries there were, and how long the pause
 * before the next would be, in milliseconds. Pauses get longer and are never shorter than Retry-After asks for, up to a minute.
 */
export async function retry<T>(once: (tries: number) => Promise<T>, again: (error: unknown, tries: number, pause: number) => boolean, signal?: AbortSignal): Promise<T> {
	for (let tries = 1; ; tries++) {
		try {
			return await once(tries);
		} catch (error) {
			const usual = Math.min(firstPause * 2 ** (tries - 1), longestPause);
			const asked = error instanceof MathubError ? Math.min((error.retryAfter ?? 0) * 1000, longestAsked) : 0;
			const pause = Math.max(usual / 2 + (Math.random() * usual) / 2, asked);
			if (signal?.aborted || !again(error, tries, pause)) throw error;
			await sleep(pause, signal);
		}
	}
}

/** Waits. It ends early, with the signal's reason as the error, when that is aborted. */
function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
	return new Promise((done, fail) => {
		if (signal?.aborted) return fail(signal.reason);
		const abort = () => {
			clearTimeout(timer);
			fail(signal?.reason);
		};
		const timer = setTimeout(() => {
			signal?.removeEventListener("abort", abort);
			done();
		}, milliseconds);
		signal?.addEventListener("abort", abort, { once: true });
	});
}
