package db

// The text of queries, for tests that ask Postgres how it carries them out.
const (
	ListSubscribersSQL    = listSubscribers
	InsertSuccessesSQL    = insertSuccesses
	PageOfDeliveriesSQL   = pageOfDeliveries
	RecentStatsSQL        = recentStats
	ListExpiredSQL        = listExpired
	RemoveDeliveriesOfSQL = removeDeliveriesOf
	RemoveEventsSQL       = removeEvents
	ReadEventsSQL         = readEvents
	EventLogStateSQL      = eventLogState
)
