package history

import (
	"context"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

// batchOutcome is what recording a batch came to, for after its commit.
type batchOutcome struct {
	disabled []disabled
	blown    []string // classes of failure whose fuse has blown
	notices  int64
	planned  db.UnwokenParams // rows of queues that may have to be woken
	planners map[uuid.UUID]Webhook
}

type disabled struct {
	attempt  Attempt
	botID    string
	host     string
	failures int32
}

// batchState is a batch while it is recorded: the webhooks as they were and are, and what is to be written.
type batchState struct {
	tx       pgx.Tx
	webhooks map[uuid.UUID]db.WebhookHealthRow
	before   map[uuid.UUID]Health
	after    map[uuid.UUID]Health
	disabled map[uuid.UUID]disabled
	known    map[uuid.UUID]bool    // deliveries that are in the history
	fuses    map[string]*fuseState // by class
	// retryIn is when the heads of ordered webhooks are attempted again, for which their queues wait.
	retryIn map[uuid.UUID]time.Duration

	rows      db.InsertDeliveriesParams
	attempted db.RemoveAttemptedParams
	recovered db.CountRecoveredParams
	plans     map[planKey]*recording
	out       *batchOutcome
}

type planKey struct {
	webhookID uuid.UUID
	eventID   string
}

// record writes the batch within tx.
//
// failureCount must follow the history, in the order of recording (seq), and a success on a webhook whose counter is 0
// must not touch the webhook's row. So each webhook has an advisory lock, which costs no write: a failure takes it
// exclusively, successes and plans share it. Otherwise a success could read the counter as 0 beside a failure that is not
// yet committed, and stand above it in the history of a webhook whose counter is 1. Locks are taken in the order of their
// keys, rows in the order of their ids: no two recordings wait for each other in a circle.
func (r *Recorder) record(ctx context.Context, tx pgx.Tx, batch []*recording) (*batchOutcome, error) {
	s, err := r.lock(ctx, tx, batch)
	if err != nil {
		return nil, err
	}
	for _, rec := range batch {
		if err := r.tally(ctx, s, rec); err != nil {
			return nil, err
		}
	}
	if len(s.rows.Ids) > 0 {
		if err := r.queries.InsertDeliveries(ctx, tx, s.rows); err != nil {
			return nil, err
		}
	}
	if err := r.updateHealth(ctx, s); err != nil {
		return nil, err
	}
	failpoint.Here("before-removal")
	return s.out, r.updateQueues(ctx, s)
}

// lock takes the locks that the batch needs and reads what it changes.
func (r *Recorder) lock(ctx context.Context, tx pgx.Tx, batch []*recording) (*batchState, error) {
	var locks db.LockWebhooksParams
	all, changing, deliveryIDs := make([]uuid.UUID, 0, len(batch)), make([]uuid.UUID, 0, len(batch)), make([]uuid.UUID, 0, len(batch))
	for _, rec := range batch {
		id := rec.webhookID()
		all = append(all, id)
		if rec.plan != nil {
			changing = append(changing, id)
		} else {
			deliveryIDs = append(deliveryIDs, rec.attempt.DeliveryID)
		}
		if rec.plan == nil && !rec.attempt.Success {
			locks.Exclusive, changing = append(locks.Exclusive, id), append(changing, id)
		} else {
			locks.Shared = append(locks.Shared, id)
		}
	}
	if err := r.queries.LockWebhooks(ctx, tx, locks); err != nil {
		return nil, err
	}
	// Only statements that begin after the locks are held see what was recorded under them before.
	if err := r.queries.LockChangingWebhooks(ctx, tx, db.LockChangingWebhooksParams{Ids: all, Changing: changing}); err != nil {
		return nil, err
	}
	healths, err := r.queries.WebhookHealth(ctx, tx, all)
	if err != nil {
		return nil, err
	}
	recorded, err := r.queries.ExistingDeliveries(ctx, tx, deliveryIDs)
	if err != nil {
		return nil, err
	}
	return newBatchState(tx, healths, recorded), nil
}

func newBatchState(tx pgx.Tx, healths []db.WebhookHealthRow, recorded []uuid.UUID) *batchState {
	s := &batchState{
		tx: tx, webhooks: map[uuid.UUID]db.WebhookHealthRow{}, before: map[uuid.UUID]Health{}, disabled: map[uuid.UUID]disabled{},
		known: make(map[uuid.UUID]bool, len(recorded)), fuses: map[string]*fuseState{}, retryIn: map[uuid.UUID]time.Duration{}, plans: map[planKey]*recording{}, out: &batchOutcome{planners: map[uuid.UUID]Webhook{}},
	}
	for _, w := range healths {
		s.webhooks[w.ID] = w
		s.before[w.ID] = Health{
			Active: w.IsActive, Queued: w.Queued, FailureCount: w.FailureCount, EarlyFailures: w.EarlyFailures,
			Generation: w.Generation, FailureRun: w.FailureRun, FailureClass: w.FailureClass,
		}
	}
	s.after = maps.Clone(s.before)
	for _, id := range recorded {
		s.known[id] = true
	}
	return s
}

func (rec *recording) webhookID() uuid.UUID {
	if rec.plan != nil {
		return rec.plan.WebhookID
	}
	return rec.attempt.WebhookID
}

// tally works out what one recording changes.
func (r *Recorder) tally(ctx context.Context, s *batchState, rec *recording) error {
	id := rec.webhookID()
	was, exists := s.after[id]
	if !exists {
		rec.after = Recorded{Gone: true}
		return nil
	}
	rec.after = Recorded{Active: was.Active, Suspended: s.webhooks[id].Suspended, FailureCount: int(was.FailureCount)}
	if rec.plan == nil {
		if s.known[rec.attempt.DeliveryID] { // and so is what was planned after it
			return s.findPlan(ctx, rec)
		}
		s.known[rec.attempt.DeliveryID] = true
		if err := r.tallyAttempt(ctx, s, rec.attempt, was); err != nil {
			return err
		}
	}
	now := s.after[id]
	rec.after.Active, rec.after.FailureCount = now.Active, int(now.FailureCount)
	plan := rec.next()
	if plan == nil || rec.after.Suspended || !now.Active && !plan.Trigger.Manual() {
		return nil
	}
	if wanted, err := r.retryHead(ctx, s, rec, plan); !wanted || err != nil {
		return err
	}
	rec.after.Planned = true
	key := planKey{id, plan.EventID}
	if s.plans[key] == nil {
		s.plans[key] = &recording{attempt: rec.attempt, plan: plan}
	}
	if plan.Delay <= 0 && now.Active && !now.Queued {
		now.Queued = true
		s.after[id] = now
	}
	return nil
}

// retryHead has the queue of an ordered webhook wait for the retry of its head; false: it is not to be made, as the event was
// unsubscribed in flight. Other plans are.
func (r *Recorder) retryHead(ctx context.Context, s *batchState, rec *recording, plan *Plan) (wanted bool, err error) {
	if rec.plan != nil || !s.webhooks[plan.WebhookID].Ordered {
		return true, nil
	}
	gone, err := r.queries.IsUnsubscribed(ctx, s.tx, db.IsUnsubscribedParams{EventID: plan.EventID, WebhookID: plan.WebhookID})
	if gone || err != nil {
		return false, err
	}
	s.retryIn[plan.WebhookID] = max(s.retryIn[plan.WebhookID], plan.Delay)
	return true, nil
}

func (r *Recorder) tallyAttempt(ctx context.Context, s *batchState, a Attempt, was Health) error {
	now := was.After(a, false)
	if was.Active && !now.Active && egress.CouldBeOurs(a.Class) {
		held, err := r.isHeld(ctx, s, a.Class, s.webhooks[a.WebhookID])
		if err != nil {
			return err
		}
		now = was.After(a, held)
	}
	if a.Success && was.FailureCount > 0 && egress.CouldBeOurs(was.FailureClass) && disproves(was.FailureClass, webhook.HostOf(s.webhooks[a.WebhookID].Origin)) {
		if _, err := r.queries.ResetFuse(ctx, s.tx, was.FailureClass); err != nil {
			return err
		}
	}
	s.after[a.WebhookID] = now
	if was.Active && !now.Active {
		w := s.webhooks[a.WebhookID]
		d := disabled{attempt: a, botID: w.BotID, host: webhook.HostOf(w.Origin), failures: now.FailureCount}
		s.disabled[a.WebhookID], s.out.disabled = d, append(s.out.disabled, d)
	}
	s.addRow(a)
	return nil
}

// next is the plan that a recording makes, or nil.
func (rec *recording) next() *Plan {
	a := rec.attempt
	if rec.plan != nil || a.Success || a.RetryIn <= 0 {
		return rec.plan
	}
	return &Plan{WebhookID: a.WebhookID, EventID: a.EventID, Number: a.Number + 1, Step: a.Step + 1, Trigger: webhook.TriggerRetry, Delay: a.RetryIn}
}

func (s *batchState) addRow(a Attempt) {
	r := &s.rows
	r.Ids = append(r.Ids, a.DeliveryID)
	r.WebhookIds = append(r.WebhookIds, a.WebhookID)
	r.EventIds = append(r.EventIds, a.EventID)
	r.Attempts = append(r.Attempts, int32(a.Number))
	r.Triggers = append(r.Triggers, string(a.Trigger))
	r.Successes = append(r.Successes, a.Success)
	r.StatusCodes = append(r.StatusCodes, int32(a.StatusCode))
	r.ResponseBodies = append(r.ResponseBodies, a.ResponseBody)
	r.Errors = append(r.Errors, a.Error)
	r.DurationsMs = append(r.DurationsMs, wholeMs(a.Duration))
	r.AttemptedAts = append(r.AttemptedAts, a.StartedAt)
	r.Exchanges = append(r.Exchanges, a.Exchange)

	s.attempted.WebhookIds = append(s.attempted.WebhookIds, a.WebhookID)
	s.attempted.EventIds = append(s.attempted.EventIds, a.EventID)
	s.attempted.Attempts = append(s.attempted.Attempts, int32(a.Number))
	if a.RecoveryID != uuid.Nil {
		s.recovered.Ids = append(s.recovered.Ids, a.RecoveryID)
		s.recovered.Successes = append(s.recovered.Successes, a.Success)
		s.recovered.Errors = append(s.recovered.Errors, a.Error)
	}
}

// wholeMs rounds up: a delivery took no less than any part of it.
func wholeMs(d time.Duration) int32 { return int32((d + time.Millisecond - 1) / time.Millisecond) }

// updateHealth writes what has changed of the webhooks, and notices of those that are disabled.
func (r *Recorder) updateHealth(ctx context.Context, s *batchState) (err error) {
	var u db.UpdateHealthParams
	for id, now := range s.after {
		if now == s.before[id] && s.retryIn[id] == 0 {
			continue
		}
		d, disables := s.disabled[id] // later attempts of the batch may count as well
		u.Ids = append(u.Ids, id)
		u.FailureCounts = append(u.FailureCounts, now.FailureCount)
		u.EarlyFailures = append(u.EarlyFailures, now.EarlyFailures)
		u.FailureRuns = append(u.FailureRuns, now.FailureRun)
		u.Queueds = append(u.Queueds, now.Queued)
		u.RestsSeconds = append(u.RestsSeconds, max(spread(now.Rest()), s.retryIn[id]).Seconds())
		u.Disables = append(u.Disables, disables)
		u.DeliveryIds = append(u.DeliveryIds, d.attempt.DeliveryID)
		u.Failures = append(u.Failures, d.failures)
		u.Classes = append(u.Classes, now.FailureClass)
		u.EventIds, u.Errors = append(u.EventIds, d.attempt.EventID), append(u.Errors, d.attempt.Error)
		u.Hosts = append(u.Hosts, webhook.HostOf(s.webhooks[id].Origin))
	}
	if len(u.Ids) > 0 {
		s.out.notices, err = r.queries.UpdateHealth(ctx, s.tx, u)
	}
	return err
}

// updateQueues removes the rows of attempts that were made, and adds those of the attempts that are planned.
func (r *Recorder) updateQueues(ctx context.Context, s *batchState) error {
	if len(s.attempted.EventIds) > 0 {
		if err := r.queries.RemoveAttempted(ctx, s.tx, s.attempted); err != nil {
			return err
		}
	}
	if err := r.addPlans(ctx, s); err != nil {
		return err
	}
	if err := r.countRecovered(ctx, s); err != nil {
		return err
	}
	if len(s.out.disabled) == 0 {
		return nil
	}
	ids, changes := make([]uuid.UUID, len(s.out.disabled)), make([]audit.Change, len(s.out.disabled))
	for i, d := range s.out.disabled {
		a := d.attempt
		ids[i] = a.WebhookID
		changes[i] = audit.Change{
			Action: audit.WebhookDisabled, BotID: d.botID, Subject: a.WebhookID.String(), Before: audit.Fields{"isActive": true},
			After: audit.Fields{"isActive": false, "failureCount": d.failures, "deliveryId": a.DeliveryID, "error": a.Error},
		}
	}
	if err := audit.Write(ctx, s.tx, changes...); err != nil {
		return err
	}
	return StopWebhooks(ctx, s.tx, ids)
}

// countRecovered counts the attempts that recoveries asked for.
func (r *Recorder) countRecovered(ctx context.Context, s *batchState) error {
	if len(s.recovered.Ids) == 0 {
		return nil
	}
	if err := r.queries.LockCounted(ctx, s.tx, s.recovered.Ids); err != nil {
		return err
	}
	return r.queries.CountRecovered(ctx, s.tx, s.recovered)
}

func (r *Recorder) addPlans(ctx context.Context, s *batchState) error {
	var rows db.EnqueueParams
	own := map[uuid.UUID]bool{} // webhooks whose queue made the attempt, and looks again by itself
	for key, rec := range s.plans {
		if now := s.after[key.webhookID]; !now.Active && !rec.plan.Trigger.Manual() {
			continue // disabled by a later attempt of the batch
		}
		addPlan(&rows, *rec.plan)
		own[key.webhookID] = own[key.webhookID] || rec.attempt.Queued
	}
	if len(rows.EventIds) == 0 {
		return nil
	}
	planned, err := r.queries.Enqueue(ctx, s.tx, rows)
	for _, row := range planned {
		if !own[row.WebhookID] {
			w, u := s.webhooks[row.WebhookID], &s.out.planned
			s.out.planners[w.ID] = Webhook{w.ID, w.BotID, webhook.HostOf(w.Origin)}
			u.WebhookIds, u.Seqs, u.DueAts = append(u.WebhookIds, row.WebhookID), append(u.Seqs, row.Seq), append(u.DueAts, row.DueAt)
		}
	}
	return err
}

func addPlan(rows *db.EnqueueParams, p Plan) {
	rows.WebhookIds, rows.EventIds = append(rows.WebhookIds, p.WebhookID), append(rows.EventIds, p.EventID)
	rows.Attempts, rows.Steps = append(rows.Attempts, int32(p.Number)), append(rows.Steps, int32(p.Step))
	rows.Triggers, rows.DelaysSeconds = append(rows.Triggers, string(p.Trigger)), append(rows.DelaysSeconds, p.Delay.Seconds())
	rows.RecoveryIds = append(rows.RecoveryIds, p.RecoveryID)
}

// report logs and counts what a batch came to, and has notices handed over.
func (r *Recorder) report(done *batchOutcome) {
	for _, d := range done.disabled {
		a := d.attempt
		r.log.Warn("webhook disabled", "webhook", a.WebhookID, "bot", d.botID, "host", d.host, "event", a.EventID, "delivery", a.DeliveryID, "error", a.Error, "failures", d.failures)
	}
	r.metrics.disabled.Add(r.ctx, int64(len(done.disabled)))
	for _, class := range done.blown {
		r.log.Error("fuse blown: too many webhooks fail in one way, and none is disabled for it; check outbound access", "class", class)
	}
	if done.notices > 0 {
		failpoint.Here("disabled")
		select {
		case r.noticed <- struct{}{}:
		default: // they will be found with those before
		}
	}
}
