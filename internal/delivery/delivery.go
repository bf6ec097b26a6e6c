// Package delivery makes delivery attempts: it accepts events and finds their webhooks, sends what is direct, and sends
// what stands in a webhook's queue.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/admission"
	"github.com/mathub/webhooks/internal/allowance"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

const (
	// ownFaultDelay is when an attempt is made that our own side could not make.
	ownFaultDelay = 5 * time.Second
	// clockFaultDelay is when one is made again that was refused while our clocks disagreed: it came to the receiver.
	clockFaultDelay = time.Minute
)

// errClocks is the fault of an attempt that a receiver refused, perhaps for the time that it was signed with.
var errClocks = errors.New("our clocks disagree, so that its refusal may be about the time")

// Config is what a Deliverer needs. All is required but what says otherwise.
type Config struct {
	Pool   *pgxpool.Pool
	Egress *egress.Client
	// Clock is the time that deliveries are signed with. Nil means this machine's.
	Clock  *db.Clock
	Keyset *db.Keyset
	// Schedule is the retry schedule. Empty means one attempt.
	Schedule webhook.Schedule
	// Retention is the age from which events are not attempted any more, as they may be removed at any time. 0 means that
	// they are kept for ever.
	Retention webhook.Retention
	// Unverified is how much a bot may send to an endpoint that has not agreed to it. The zero value is no limit.
	Unverified webhook.Rate
	// Verification says what else may be sent to such an endpoint.
	Verification webhook.Verification
	// Attributes say whether workflows may use the search attributes. Nil means that they may not.
	Attributes *searchattr.Attributes
	// Version is the program's: sent in User-Agent.
	Version string
	Logger  *slog.Logger
	// Meter and Tracer measure and trace. Nil measures and traces nothing.
	Meter  metric.Meter
	Tracer trace.Tracer
	// TraceReceivers: receivers get a traceparent header.
	TraceReceivers bool
	// Wake is called when a webhook's queue has got something to do. It must not block.
	Wake func(Target)
	// Begun, if not nil, is called for each event accepted here when its direct deliveries begin or wait for their
	// receivers, or that it has none. It must not block.
	Begun func(eventID string)
	// HasEnded says whether a workflow run was ended before its work was done: terminated, cancelled, failed or timed out.
	HasEnded func(ctx context.Context, workflowID, runID string) (bool, error)
	// StartRecovery starts the workflow of a webhook's recovery, which is stored.
	StartRecovery func(ctx context.Context, t Target) error
	// StartBatch starts the workflow of all.Pages[n], or leaves the one that runs.
	StartBatch func(ctx context.Context, all Batches, n int) error
	// StartKnown starts the workflow of the known events of a group, or leaves it.
	StartKnown func(ctx context.Context, in KnownEvents) error
}

// Deliverer makes attempts. It is safe for concurrent use.
type Deliverer struct {
	cfg      Config
	queries  *db.Queries
	recorder *history.Recorder
	queue    *history.Queue
	metrics  *metrics
	reporter *reporter
	gate     *gate
	limiter  *allowance.Limiter
	lag      lag
	prefetch *prefetch
	attempts runOnce
	rounds   *botRounds
	group    chan struct{} // one for each delivery of a group in flight
	batch    chan struct{} // one for each that is of a large audience
	stint    time.Duration // groupStint
	starts   chan struct{} // one for each batch that is being started

	// base outlives each activity: a POST that was begun is brought to its end and recorded, whoever waits for it.
	base   context.Context
	cancel context.CancelFunc
}

// New returns a Deliverer; Close stops it.
func New(cfg Config) *Deliverer {
	d := &Deliverer{
		cfg: cfg, queries: db.New(), queue: &history.Queue{Pool: cfg.Pool, Log: cfg.Logger},
		recorder: history.NewRecorder(cfg.Pool, cfg.Logger, cfg.Meter, func(w history.Webhook) { cfg.Wake(Target(w)) }),
		metrics:  newMetrics(cfg.Meter), reporter: newReporter(cfg.Logger),
		gate: newGate(), limiter: allowance.New(cfg.Pool, cfg.Unverified), prefetch: newPrefetch(), rounds: newBotRounds(), group: make(chan struct{}, groupRoom),
		batch: make(chan struct{}, batchRoom), stint: groupStint, starts: make(chan struct{}, startsAtOnce),
	}
	d.lag.isScarce, d.lag.waiting = new(processors).scarce, d.gate.waitingOf
	d.attempts.log, d.attempts.inFlight = cfg.Logger, map[uuid.UUID]*attemptRun{}
	d.base, d.cancel = context.WithCancel(context.Background())
	d.measureLoad(cfg.Meter)
	return d
}

// Recorder is what the attempts are recorded by.
func (d *Deliverer) Recorder() *history.Recorder { return d.recorder }

// Queue is the queue that the attempts are planned in.
func (d *Deliverer) Queue() *history.Queue { return d.queue }

// Close waits until the deliveries in flight have ended and are recorded. When ctx ends first they are cut off: no
// row, no count; the workflow attempts them again.
func (d *Deliverer) Close(ctx context.Context) {
	ended := d.attempts.close()
	select {
	case <-ended:
	case <-ctx.Done():
		d.cancel()
	}
	d.recorder.Close(ctx)
	<-ended
	d.cancel()
}

// Run makes the attempt, or waits for the one already in flight. An error means that our own side failed: nothing was
// recorded or counted, and calling again goes on with a POST already made.
func (d *Deliverer) Run(ctx context.Context, a Attempt) (Result, error) {
	if err := a.Check(); err != nil {
		return Result{}, err
	}
	return d.attempts.do(ctx, a.key(), func() (Result, error) {
		r, err := d.run(d.carried(ctx), a)
		d.metrics.ended(d.base, r, err)
		return r, err
	})
}

// run is an attempt's course: what it needs, its place, the exchange, the record, and what follows from it.
func (d *Deliverer) run(ctx context.Context, a Attempt) (Result, error) {
	in, done, err := d.prepare(ctx, &a)
	switch {
	case err != nil:
		return Result{}, err
	case done != nil:
		return *done, nil
	}
	a.acceptedAt = in.event.StoredAt
	permit, ok := d.admit(ctx, a, in)
	if !ok {
		return d.leaveToQueue(ctx, a, ctx.Err())
	}
	outcome := admission.NotMade
	defer func() { permit.release(outcome) }()
	if wait, err := d.allow(ctx, a, in); err != nil || wait > 0 {
		return d.notAllowed(ctx, a, wait, err)
	}
	resp, header, done, err := d.exchange(ctx, a, &in)
	switch {
	case err != nil:
		return d.leaveToQueue(ctx, a, err)
	case done != nil:
		return *done, nil
	}
	outcome = admission.Failed
	if resp.Success() {
		// That Postgres is slow or away must not look as if the receiver hung. A failure keeps its place until it counts, and
		// those who wait for one have left.
		permit.release(admission.Taken)
	}
	after, err := d.record(ctx, a, in, resp, header)
	if err != nil {
		return Result{}, err
	}
	return d.plan(a, resp, after), nil
}

// admit gives the attempt a place. false: none came in time. What the queue sends, which has a window of its own, and what a
// person asked for need none.
func (d *Deliverer) admit(ctx context.Context, a Attempt, in attemptInput) (*permit, bool) {
	if a.row != nil || a.Trigger.Manual() {
		return nil, true
	}
	asked := time.Since(in.acceptedAt)
	p, ok := d.gate.enter(ctx, a.WebhookID, in.botID)
	if !in.acceptedAt.IsZero() {
		d.lag.sample(in.botID, asked)
	}
	return p, ok
}

func (d *Deliverer) begun(eventID string) {
	if d.cfg.Begun != nil {
		d.cfg.Begun(eventID)
	}
}

// Behind says that this process has more to deliver than it can, so that no more should be taken in for now.
func (d *Deliverer) Behind() bool { return d.lag.behind() }

// exchange waits for the host's turn and sends what is to be sent by then. done is not nil where that is nothing.
func (d *Deliverer) exchange(ctx context.Context, a Attempt, in *attemptInput) (resp egress.Response, header map[string][]string, done *Result, err error) {
	turn, err := d.turn(ctx, a, *in)
	switch {
	case err != nil:
		return resp, nil, nil, fmt.Errorf("attempt %v was not made: %w", a, err)
	case turn == nil:
		return resp, nil, &Result{Status: Queued}, nil // in its place
	}
	defer turn.Release()
	if *in, done, err = d.renew(ctx, a, *in); done != nil || err != nil {
		return resp, nil, done, err
	}
	if !a.until.IsZero() && time.Until(a.until) < webhook.AttemptTimeout || isClosed(a.stopping) {
		return resp, nil, &Result{Status: Queued}, nil // in its place
	}
	resp, header, err = d.send(ctx, a, *in, turn)
	return resp, header, nil, err
}

// roundPatience is how long an attempt of a round waits for its turn, so that the round ends in its activity's time.
const roundPatience = webhook.AttemptTimeout

// turn waits for a turn. Nil: of a round's attempt, it did not come soon.
func (d *Deliverer) turn(ctx context.Context, a Attempt, in attemptInput) (*egress.Turn, error) {
	if a.row == nil {
		return d.cfg.Egress.Turn(ctx, in.botID, in.url)
	}
	soon, cancel := context.WithTimeout(ctx, roundPatience)
	defer cancel()
	turn, err := d.cfg.Egress.Turn(soon, in.botID, in.url)
	if err != nil && ctx.Err() == nil {
		return nil, nil //nolint:nilnil // it stays planned
	}
	return turn, err
}

// send makes the POST. An error means that our own side failed.
func (d *Deliverer) send(ctx context.Context, a Attempt, in attemptInput, turn *egress.Turn) (resp egress.Response, header map[string][]string, err error) {
	failpoint.Here("admitted")
	failpoint.Here("before-post")
	header = webhook.Headers(webhook.Delivery{
		Version: d.cfg.Version, Type: webhook.SentType(in.event.Type, in.event.Body), EventID: a.EventID, ID: a.deliveryID(), At: d.cfg.Clock.Now(), Secrets: in.secrets, Keys: in.keys, Custom: in.headers, Body: in.event.Body,
	})
	ctx, span := d.span(ctx, a, in)
	d.traceParent(ctx, header)
	resp, err = turn.Post(ctx, header, in.event.Body)
	if err == nil && !a.Trigger.Manual() && resp.CouldComeOfClock(len(in.secrets)+len(in.keys) > 0) && d.cfg.Clock.InDoubt() {
		err = fmt.Errorf("%w: %s", errClocks, resp.Error)
	}
	d.endSpan(span, resp, err)
	if err != nil {
		return resp, nil, fmt.Errorf("attempt %v was not made: %w", a, err)
	}
	failpoint.Here("after-post")
	if a.Trigger == webhook.TriggerVerify && resp.Success() && !webhook.Agrees(in.event.Body, resp.Body) {
		resp.Error = NoNonce
	}
	return resp, header, nil
}

// leaveToQueue has the webhook's queue make an attempt that could not be made here: for want of a place, or, with an error,
// by a fault of our own. A person's attempt fails with that.
func (d *Deliverer) leaveToQueue(ctx context.Context, a Attempt, fault error) (Result, error) {
	var delay time.Duration
	switch {
	case d.base.Err() != nil, fault != nil && a.row == nil && a.Trigger.Manual():
		return Result{}, errors.Join(fault, d.base.Err())
	case fault != nil:
		d.metrics.ownFaults.Add(ctx, 1)
		d.reporter.ownFault(ctx, a, fault)
		if delay = ownFaultDelay; errors.Is(fault, errClocks) {
			delay = clockFaultDelay
		}
		delay = time.Duration(float64(delay) * (0.8 + 0.4*rand.Float64()))
	}
	if a.row != nil {
		return Result{Status: Queued}, d.queue.Postpone(ctx, a.WebhookID, *a.row, delay)
	}
	after, err := d.recorder.Enqueue(ctx, history.Plan{
		WebhookID: a.WebhookID, EventID: a.EventID, Number: a.Number, Step: a.step(), Trigger: a.Trigger, Delay: delay,
	})
	if err != nil {
		return Result{}, fmt.Errorf("queue attempt %v: %w", a, err)
	}
	failpoint.Here("queued")
	if fault == nil {
		d.gate.leave(a.WebhookID)
	}
	switch {
	case after.Gone:
		return Result{Status: Skipped, Error: WebhookGone}, nil
	case after.Suspended:
		return Result{Status: Skipped, Error: BotSuspended}, nil
	case !after.Active:
		return Result{Status: Skipped, Error: WebhookDisabled}, nil
	}
	return Result{Status: Queued}, nil
}

// record has the outcome recorded, and with it the plan of the next attempt.
func (d *Deliverer) record(ctx context.Context, a Attempt, in attemptInput, resp egress.Response, header map[string][]string) (history.Recorded, error) {
	sent := history.Sent{Header: header, URL: in.url, Secrets: in.secrets, Custom: in.headers}
	out := history.Attempt{
		DeliveryID: a.deliveryID(), WebhookID: a.WebhookID, EventID: a.EventID, Number: a.Number, Trigger: a.Trigger,
		Generation: in.generation, FailureRun: in.failureRun,
		Success: resp.Success(), StatusCode: resp.StatusCode, ResponseBody: history.HideSecrets(resp.Body, sent), Error: resp.Error, Class: resp.Class(),
		Duration: resp.Duration, StartedAt: d.cfg.Clock.At(resp.StartedAt), Exchange: history.EncodeExchange(sent, resp),
		Queued: a.row != nil || a.Trigger.Manual(), Step: a.step(),
	}
	if a.row != nil {
		out.RecoveryID = a.row.RecoveryID
	}
	if delay, more := d.cfg.Schedule.Delay(out.Step, resp.RetryAfter, 2*rand.Float64()-1); more && !resp.Success() {
		out.RetryIn = max(time.Millisecond, delay)
	}
	if err := d.setVerified(ctx, a, in, resp); err != nil {
		return history.Recorded{}, err
	}
	after, err := d.recorder.Record(ctx, out)
	if err != nil {
		return after, fmt.Errorf("attempt %v was made but not recorded: %w", a, err)
	}
	d.report(ctx, a, in, resp)
	return after, nil
}

// plan is what follows from a recorded attempt.
func (d *Deliverer) plan(a Attempt, resp egress.Response, after history.Recorded) Result {
	if resp.Success() {
		return Result{Status: Delivered, StatusCode: resp.StatusCode}
	}
	if a.Trigger != webhook.TriggerVerify { // which does not make the webhook queued
		d.gate.leave(a.WebhookID)
	}
	return failed(a, resp.StatusCode, resp.Error, after)
}

// failed is the result of an attempt that failed, as things stand after it.
func failed(a Attempt, status int, text string, after history.Recorded) Result {
	r := Result{Status: Failed, StatusCode: status, Error: text, Retrying: after.Planned}
	switch {
	case a.Trigger.Manual() || r.Retrying:
	case after.Gone:
		r.NoRetryReason = WebhookGone
	case after.Suspended:
		r.NoRetryReason = BotSuspended
	case !after.Active:
		r.NoRetryReason = WebhookDisabled
	}
	return r
}
