package db

// The text of queries, for tests that ask Postgres how it carries them out.
const (
	AddressEventsSQL       = addressEvents
	InsertEventsSQL        = insertEvents
	InsertSuccessesSQL     = insertSuccesses
	PageOfDeliveriesSQL    = pageOfDeliveries
	SeqsOfSpanSQL          = seqsOfSpan
	StatsOfSQL             = statsOf
	WebhookSummariesSQL    = webhookSummaries
	ListExpiredSQL         = listExpired
	RemoveDeliveriesOfSQL  = removeDeliveriesOf
	RemoveExpiredEventsSQL = removeExpiredEvents
	ReadEventsSQL          = readEvents
	EventLogStateSQL       = eventLogState
	MarkOfSQL              = markOf
	TakeDueSQL             = takeDue
	QueueStateSQL          = queueState
	SetDirectSQL           = setDirect
	UnwokenSQL             = unwoken
	OverdueQueuesSQL       = overdueQueues
	ListMissedSQL          = listMissed
	RecordedDeliverySQL    = recordedDelivery
	GetTargetSQL           = getTarget
	CountEventWebhooksSQL  = countEventWebhooks
	ListEventWebhooksSQL   = listEventWebhooks

	WebhooksOfBotAfterSQL     = webhooksOfBotAfter
	WebhooksAtHostAfterSQL    = webhooksAtHostAfter
	QueuedWebhooksSQL         = queuedWebhooks
	SuspendedWebhooksAfterSQL = suspendedWebhooksAfter
	DisabledBeforeSQL         = disabledBefore
	DisabledForBeforeSQL      = disabledForBefore
	CountDisabledSinceSQL     = countDisabledSince
	QueuesSQL                 = queues
	CountQueuesSQL            = countQueues
	WebhookTroublesSQL        = webhookTroubles
	BotsAfterSQL              = botsAfter
	SuspendedBotsAfterSQL     = suspendedBotsAfter
	CountWebhooksOfBotsSQL    = countWebhooksOfBots
	KeysByPrefixSQL           = keysByPrefix
	IncidentToRecoverSQL      = incidentToRecover
)
