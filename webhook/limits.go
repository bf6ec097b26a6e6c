package webhook

import "time"

// The decisions of the contract, in one place, each with its reason.
const (
	// AttemptTimeout bounds one delivery attempt over the whole exchange: connect, TLS, request, response
	// headers and what is read of the body.
	AttemptTimeout = 5 * time.Second

	// MaxFailures is the run of failed deliveries that disables a webhook. The default schedule makes 8 attempts
	// an event, fewer than this, so that one bad event alone never disables a webhook.
	MaxFailures = 10

	// MaxResponseBody is how many bytes of a receiver's answer are read and kept: enough for an error page's
	// first lines, little enough that an answer can be stored with every delivery.
	MaxResponseBody = 4096

	// MaxDeliveriesListed is how many deliveries of a webhook the history call shows at once.
	MaxDeliveriesListed = 50

	// MaxDeliveriesRead is how many deliveries of a webhook one call reads: to find those that a filter asks for, or to
	// make statistics of. Postgres reads so many in some ten milliseconds.
	MaxDeliveriesRead = 10_000

	// MaxWebhooksPerBot is the default for how many webhooks a bot may have; it bounds what one bot's fan-out costs.
	MaxWebhooksPerBot = 50

	// MostWebhooksPerBot is the most that an operator may set for it: the portal shows all webhooks of a bot at once.
	MostWebhooksPerBot = 1000

	// MaxKeysPerBot is how many keys a bot may have: far more than a rotation needs, and few enough to list all at once.
	MaxKeysPerBot = 100

	// MaxRequestBytes bounds a bot API request's body. The largest legal one (a URL, a secret, a list of event
	// types) is under 4 KiB.
	MaxRequestBytes = 64 << 10

	// MaxEventBytes bounds an emitted event's JSON. Temporal warns at 256 KiB a payload and refuses 2 MB.
	MaxEventBytes = 256 << 10
	// maxCompletionBytes is what the id and the timestamp that acceptance fills in may add to it.
	maxCompletionBytes = 256

	// MaxBatchEvents bounds the events of one call or workflow.
	MaxBatchEvents = 100
	// MaxBatchBytes bounds the JSON of a batch: half of the 2 MB that Temporal takes as a workflow's input.
	MaxBatchBytes = 1 << 20

	// MaxJSONDepth is how deep an emitted event may nest, itself counted. Common receivers refuse more than 100 (Ruby's
	// parser), and the API's answers wrap an event twice: in an object of a list, as the history and polling do.
	MaxJSONDepth = 98
	// maxDataDepth is how deep its data may.
	maxDataDepth = MaxJSONDepth - 1

	// MaxNumberBytes bounds a number in an event's data. Common receivers refuse longer ones: Java's Jackson from 1,001 characters on,
	// Python integers from 4,301 digits on.
	MaxNumberBytes = 1000

	// MaxIDBytes bounds ids of events and bots, which become headers, workflow ids and signed content.
	MaxIDBytes = 128

	// MaxBotIDs bounds an event's named audience.
	MaxBotIDs = 1000

	// MaxURLBytes bounds an endpoint URL, before and after normalisation; intermediaries refuse longer ones.
	MaxURLBytes = 2048

	// MaxSecretBytes bounds a signing secret. HMAC-SHA256 hashes keys over 64 bytes first, so length beyond that
	// adds nothing.
	MaxSecretBytes = 256

	// JitterFraction is the largest part by which a retry's delay is moved either way, so that the failures of one
	// outage do not come back at one instant.
	JitterFraction = 0.2

	// MaxRetryAfter bounds how far a receiver's Retry-After can push an attempt: the schedule's own longest delay.
	MaxRetryAfter = 10 * time.Hour
)
