package simulation

import "testing"

// rule is one that can be taken out, to see that the simulation notices.
type rule uint64

const (
	planApart              rule = 1 << iota // the next attempt is planned by a transaction of its own
	noSweep                                 // nobody looks for queues that were not woken
	noSettledCheck                          // an attempt is made whether or not it is recorded or planned
	noEarlyFailures                         // all failures count
	allEarly                                // all failures are taken for early
	noGeneration                            // what began before the webhook was enabled counts
	noRest                                  // a failing webhook is attempted again at once
	wideWhileFailing                        // with as many attempts as its window has
	noWake                                  // who inserts a row wakes nobody
	directWithRowsDue                       // a webhook turns direct although rows are due
	directWhileFailing                      // and although it fails
	queueOutlivesDisabling                  // a disabled webhook keeps its queue
	waitersStay                             // who waits for a place stays when the webhook turns queued
	servedNotLeftOut                        // a repeated acceptance, and what follows, does not ask what was done
	recoveryIgnoresSuccess                  // a recovery sends what was taken
	recordedTwice                           // a recording does not ask whether the attempt is recorded
	failureStaysDirect                      // a failure does not turn the webhook queued
	dueRowStaysDirect                       // nor does a row that is due
	successKeepsCount                       // a success leaves the failure count
	anyOlderRowWakes                        // an older row is trusted to wake the queue whenever it is due
	noPatience                              // who waits for a place waits for ever
	attemptedRowStays                       // recording leaves the row in the queue
	roundNotRepeated                        // a round that a crash ended is not made again

	// What the first version of these rules had wrong.
	recordedRowStays       // the row of an attempt that proves to be recorded stays in the queue
	runReadByRow           // each attempt of a round reads for itself whether the webhook fails
	restByCount            // the rests go by all failures, not by those that were known
	redeliveryEndsSchedule // a redelivery is made beside the planned retry, and ends the schedule by failing
	recoveryTakesInFlight  // a recovery sends at once what is in flight

	// Of ordered webhooks.
	orderNotLocked     // rows are added without a lock
	headIsDelayed      // a retry is a row that is due later, as of others
	orderedTurnsDirect // with nothing due, it turns direct
	wideInOrder        // its window grows
	recoveryNotAwaited // what is newer does not wait for what a recovery finds
	recoveryCountsAll  // a recovery waits for all that it has planned, also where that waits for it
	orderNotSettled    // it begins at once when it becomes ordered
	hurryJumps         // an attempt that a person asks for goes before all
	postponedMoves     // what our own side could not attempt is due later
	roundNotReadAgain  // a round begins with what was first when the queue was read

	// Of pauses and suspensions.
	pausedStaysDirect // an event for a paused webhook is direct
	pausedIsSent      // who makes an attempt of a queue does not ask whether the webhook is paused
	suspendedIsSent   // nor whether the webhook's bot is suspended
	resumeWakesNobody // the end of a pause is no reason for a sweep
)

// TestEachRuleIsNeeded takes rules out, one after another, and requires that some schedule shows it soon. Where two rules
// guard the same, both are taken out.
func TestEachRuleIsNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		broken rule
		kind   profile
	}{
		"plan in the transaction of the record": {planApart, storm},
		"sweep":                                 {noSweep, storm},
		"nothing recorded is sent":              {noSettledCheck, storm},
		"five early failures":                   {noEarlyFailures, restart},
		"known failures count":                  {allEarly, storm},
		"generation":                            {noGeneration, storm},
		"rest":                                  {noRest, restart},
		"one at a time while failing":           {wideWhileFailing | runReadByRow, storm},
		"wake after insert":                     {noWake, storm},
		"direct when nothing is due":            {directWithRowsDue, storm},
		"direct when nothing fails":             {directWhileFailing, storm},
		"disabling clears the queue":            {queueOutlivesDisabling, storm},
		"waiting deliveries leave":              {waitersStay, storm},
		"repeated acceptance":                   {servedNotLeftOut, storm},
		"recovery of what was not taken":        {recoveryIgnoresSuccess, people},
		"recording is idempotent":               {recordedTwice, people},
		"failure turns queued":                  {failureStaysDirect, storm},
		"due row turns queued":                  {dueRowStaysDirect, forGood},
		"success ends the run":                  {successKeepsCount, storm},
		"older rows wake when due":              {anyOlderRowWakes, storm},
		"half a second of patience":             {noPatience, storm},
		"recording removes the row":             {attemptedRowStays, storm},
		"rounds are repeated":                   {roundNotRepeated, storm},
		"recorded rows are removed":             {recordedRowStays, people},
		"a round knows one run of failures":     {runReadByRow, restart},
		"rests by known failures":               {restByCount, restart},
		"redelivery keeps the schedule":         {redeliveryEndsSchedule, people},
		"recovery leaves what is in flight":     {recoveryTakesInFlight, people},
		"order by a lock":                       {orderNotLocked, inOrder},
		"a retry holds up the others":           {headIsDelayed, inOrder},
		"ordered stays queued":                  {orderedTurnsDirect, inOrder},
		"ordered is one at a time":              {wideInOrder, inOrder},
		"recovery goes first":                   {recoveryNotAwaited, inOrder},
		"a recovery does not wait for itself":   {recoveryCountsAll, inOrder},
		"order begins when all has ended":       {orderNotSettled, inOrder},
		"nothing jumps the order":               {hurryJumps, inOrder},
		"own faults keep the place":             {postponedMoves, inOrder},
		"a round reads what is first":           {roundNotReadAgain, inOrder},
		"a paused webhook is as good as queued": {pausedStaysDirect, storm},
		"what is paused is not sent":            {pausedIsSent, storm},
		"the end of a pause wakes":              {resumeWakesNobody, storm},
		"what is suspended is not sent":         {suspendedIsSent, storm},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const most = 2000
			for i := range uint64(most) {
				if violation, _, _ := try(i+1, []profile{c.kind}, c.broken, false); violation != "" {
					if without, _, _ := try(i+1, []profile{c.kind}, 0, false); without == "" {
						t.Logf("seed %d: %s", i+1, violation)
						return
					}
				}
			}
			t.Errorf("no schedule of %d shows it", most)
		})
	}
}
