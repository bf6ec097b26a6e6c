package db

// The text of queries, for tests that ask Postgres how it carries them out.
const (
	ListSubscribersSQL = listSubscribers
	InsertSuccessesSQL = insertSuccesses
	ReadEventsSQL      = readEvents
	EventLogStateSQL   = eventLogState
)
