import { identified } from "./emit.js";
import type { NewEvent, Receipt } from "./events.js";
import { canonicalId, newId, validId } from "./id.js";

/** What emitting needs of a Client of @temporalio/client. */
export interface TemporalClient {
	readonly workflow: {
		start(workflowType: string, options: StartOptions): Promise<unknown>;
		getHandle(workflowId: string): { describe(): Promise<{ type: string; taskQueue: string; status: { name: string } }> };
	};
}

/** How the workflow of events is started. */
export interface StartOptions {
	workflowId: string;
	taskQueue: string;
	args: [unknown];
	workflowIdReusePolicy: "ALLOW_DUPLICATE_FAILED_ONLY" | "ALLOW_DUPLICATE";
	typedSearchAttributes?: { key: { name: string; type: "KEYWORD_LIST" }; value: string[] }[];
}

const taskQueue = "mathub-webhooks";
const single = "DeliverEvent";
const maxEventBytes = 256 << 10;
const maxBatchBytes = 1 << 20;
const completionBytes = 256; // of id and timestamp, which an event may lack

/**
 * Accepts an event for delivery by starting the workflow DeliverEvent: once it returns, the event is durable in Temporal and will
 * be delivered at least once. An id is accepted once: of one that Temporal knows, the receipt says that it is a duplicate.
 * client is one of @temporalio/client, in the namespace of Mathub Webhooks.
 */
export async function emitWorkflow(client: TemporalClient, event: NewEvent): Promise<Receipt> {
	const complete = completed(event);
	checkSize(complete, maxEventBytes + completionBytes, "an event has at most 256 KiB of JSON");
	const workflowId = `event-${canonicalId(complete.id)}`;
	const begin = (workflowIdReusePolicy: StartOptions["workflowIdReusePolicy"]) =>
		start(client, single, { workflowId, taskQueue, workflowIdReusePolicy, args: [complete] }, [complete]);
	// Only the workflow of an invalid event fails: that one may be emitted again, corrected.
	let duplicate = !(await begin("ALLOW_DUPLICATE_FAILED_ONLY"));
	if (duplicate) {
		const there = await client.workflow.getHandle(workflowId).describe();
		const running = there.status.name === "RUNNING";
		const delivers = there.type === single && there.taskQueue === taskQueue;
		if (running && !delivers) throw new Error(`the workflow ${workflowId}, of type ${there.type} on the task queue ${there.taskQueue}, delivers no event: terminate it`);
		// The service's database decides: it may have been restored to a time before the event. Where it has the event, nothing is delivered.
		if (!running) await begin("ALLOW_DUPLICATE");
		duplicate = delivers;
	}
	return { id: canonicalId(complete.id), workflowId, duplicate };
}

/**
 * Accepts 1 to 100 events of at most 1 MiB of JSON in all by starting one workflow DeliverEvents, which costs little more than that
 * of one event. Events that were accepted before are not delivered again, but no receipt says so.
 */
export async function emitWorkflowBatch(client: TemporalClient, events: readonly NewEvent[]): Promise<Receipt[]> {
	if (events.length < 1 || events.length > 100) throw new RangeError("a batch has 1 to 100 events");
	const all = events.map(completed);
	checkSize(all, maxBatchBytes + all.length * completionBytes, "a batch has at most 1 MiB of JSON");
	const workflowId = `events-${newId()}`;
	await start(client, "DeliverEvents", { workflowId, taskQueue, workflowIdReusePolicy: "ALLOW_DUPLICATE_FAILED_ONLY", args: [all] }, all);
	return all.map(({ id }) => ({ id: canonicalId(id), workflowId, duplicate: false }));
}

/** An event with id and time. What is no event would only make its workflow fail. */
function completed(event: NewEvent): NewEvent & { id: string } {
	const complete = { ...identified(event), timestamp: event.timestamp ?? new Date().toISOString() };
	if (!validId(complete.id)) throw new RangeError("id must be 1 to 128 of the characters A-Z a-z 0-9 _ -");
	if (typeof event.data !== "object" || event.data === null || Array.isArray(event.data)) throw new TypeError("data must be an object");
	return complete;
}

/** Throws for what is too large: its workflow would only fail. */
function checkSize(content: unknown, most: number, message: string): void {
	if (new TextEncoder().encode(JSON.stringify(content)).length > most) throw new RangeError(message);
}

/** Starts the workflow of events. False: one of that id is there. */
async function start(client: TemporalClient, type: string, options: StartOptions, events: NewEvent[]): Promise<boolean> {
	const types = [...new Set(events.map(({ event }) => event))];
	const searchable: StartOptions = { ...options, typedSearchAttributes: [{ key: { name: "MathubEventType", type: "KEYWORD_LIST" }, value: types }] };
	try {
		try {
			await client.workflow.start(type, searchable);
		} catch (error) {
			if (!isRefused(error)) throw error;
			await client.workflow.start(type, options); // the namespace lacks the attribute: the workflow is only harder to find
		}
	} catch (error) {
		if (error instanceof Error && error.name === "WorkflowExecutionAlreadyStartedError") return false;
		throw error;
	}
	return true;
}

/** Says whether Temporal answered INVALID_ARGUMENT. */
function isRefused(error: unknown): boolean {
	const invalidArgument = 3; // gRPC's number
	return (error as { cause?: { code?: unknown } } | null)?.cause?.code === invalidArgument;
}
