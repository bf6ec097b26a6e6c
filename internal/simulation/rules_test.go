package simulation

// rule is one that can be taken out, to see that the simulation notices.
type rule uint64

const (
	planApart rule = 1 << iota
	noSweep
	noSettledCheck
	noEarlyFailures
	allEarly
	noGeneration
	noPause
	wideWhileFailing
	noWake
	directWithRowsDue
	directWhileFailing
	queueOutlivesDisabling
	waitersStay
	servedNotLeftOut
	recoveryIgnoresSuccess
	recoveryNotLocked
	recordedTwice
	failureStaysDirect
	dueRowStaysDirect
	successKeepsCount
	anyOlderRowWakes
	noPatience
	attemptedRowStays
	roundNotRepeated

	recordedRowStays
	wakeSwallowed
	runReadByRow
	pauseByCount
	redeliveryEndsSchedule
	recoveryTakesInFlight
)

// asCommitted are rules that the first version of the core did not have.
const asCommitted = recordedRowStays | wakeSwallowed | runReadByRow | pauseByCount | redeliveryEndsSchedule | recoveryTakesInFlight
