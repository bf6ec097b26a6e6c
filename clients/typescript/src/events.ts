import type { directEventTypes, EventData, targetedEventTypes } from "./catalog.js";

/** The event types that this version of the package knows. */
export type KnownEventType = keyof EventData;

/** The types of which events go to the bots that they name, and to no others. */
export type TargetedEventType = (typeof targetedEventTypes)[number];

/** The types that can be emitted and subscribed to. */
export type EmittedEventType = Exclude<KnownEventType, (typeof directEventTypes)[number]>;

/** An event type: one of those known, or one that a later version of the service has. */
export type EventType = EmittedEventType | (string & {});

/**
 * The type of an event that this version of the package does not know: a string. It is declared as an enum, which nothing ever has a
 * value of, so that a known type narrows to its own event.
 */
declare enum UnknownEventType {
	any = "",
}

/** An event as a bot receives it, be it by a webhook or by polling. */
export interface Received<Type, Data> {
	/** The event's id, the same on every attempt: drop what you have handled. */
	id: string;
	event: Type;
	/** When it happened: RFC 3339 in UTC, with milliseconds. */
	timestamp: string;
	data: Data;
	/** True for the sample of a type that the webhook's owner asked for. */
	test?: boolean;
}

/** An event of a type: EventOf<"post.created">. */
export type EventOf<Type extends KnownEventType> = Received<Type, EventData[Type]>;

/** An event of a type that this version of the package does not know. */
export type UnknownEvent = Received<UnknownEventType, Record<string, unknown>>;

/** Any event. A switch over its `event` gives `data` its type; the default is an event of a type not known. */
export type MathubEvent = { [Type in KnownEventType]: EventOf<Type> }[KnownEventType] | UnknownEvent;

/** An event to emit. */
export type NewEvent = { [Type in EmittedEventType]: NewEventOf<Type> }[EmittedEventType];

/** An event of a type to emit. */
export type NewEventOf<Type extends EmittedEventType> = {
	/**
	 * 1 to 128 of the characters A-Z a-z 0-9 _ -. Derive it from what happened: an id is accepted once, so that the event can be
	 * emitted again after an error or a crash. Without one, each call of emit makes a new event.
	 */
	id?: string;
	event: Type;
	/** When it happened: RFC 3339. Default: now. */
	timestamp?: string;
	/** What it says. Fields beyond those documented are forwarded too. */
	data: EventData[Type] & Record<string, unknown>;
} & (Type extends TargetedEventType
	? {
			/** The bots that the event concerns. */
			botIds: string[];
		}
	: {
			/** The only bots that the event goes to. Default: all. */
			botIds?: string[];
		});

/** What became of an emitted event. */
export interface Receipt {
	id: string;
	/** The workflow that delivers the event. Events that are emitted together share one. */
	workflowId: string;
	/** Whether the id was accepted before, be it by an earlier try of the same call: nothing is delivered twice. */
	duplicate: boolean;
	/** True when the id was accepted before with other content, which stands. */
	conflict?: boolean;
	/** The first 20 of the event's botIds that are no bots. */
	unknownBotIds?: string[];
	/** What of data does not fit its schema, if the service's operator had it look. */
	schemaFaults?: { field: string; message: string }[];
}
