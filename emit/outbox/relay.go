package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/pgsession"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

const (
	// maxRows bounds what one transaction takes, and so what a crash has to emit again, and the relay's memory.
	maxRows = 10 * webhook.MaxBatchEvents
	// takeTime bounds how long a transaction emits. It keeps Postgres from clearing away dead rows meanwhile.
	takeTime = 5 * time.Second
	// callTime bounds one call, should Emit not do so.
	callTime = 30 * time.Second
	// answerTimeout is how long Postgres has to answer: a server that hangs closes no connection.
	answerTimeout = 8 * time.Second
	// idleLimit is when Postgres gives up a transaction whose relay says nothing, so that another can have its rows: more
	// than takeTime and callTime.
	idleLimit = 60 * time.Second
	// pollInterval is how long a row waits at most where no notification comes.
	pollInterval = time.Second
	// longestPause bounds the pause while Postgres or the service is away, which begins at a second.
	longestPause = 30 * time.Second
	// longestAsked bounds a pause that is asked for: a proxy before the service may say anything, and all events wait.
	longestAsked = time.Minute
	// stopGrace is what calls in progress get when the relay stops.
	stopGrace = 5 * time.Second
	// maxErrorBytes bounds what is kept of an error.
	maxErrorBytes = 2000
	// dialTimeout bounds the wait for a connection to Postgres.
	dialTimeout = 10 * time.Second
)

// Relay emits the rows of an outbox, oldest first, and deletes what was accepted. Several may run at once: each takes
// rows that no other has in hand.
type Relay struct {
	// URL is the backend's database, in which Schema has been run.
	URL string
	// Emit makes one attempt to have events accepted, all or none, such as emit.HTTP's TryEvents. They are a batch as
	// webhook.ValidateBatch takes it. Rows whose event is at fault, see emit.IsInvalid, are set aside; any other error holds
	// the outbox up, and is tried again.
	Emit func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error)
	// AtOnce is how many calls of Emit may be in progress at once. With 1, the default, a single relay emits in the order of
	// insertion. Up to 10 get full batches.
	AtOnce int
	// Logger logs failures; slog.Default() when nil.
	Logger *slog.Logger
}

// Run emits rows until ctx ends, which is no error: calls in progress are brought to their end first, for 5 s at most.
// Trouble with Postgres or the service is waited out, with pauses of up to 30 s, or of a minute where the service asks for it. The
// error says what is wrong with URL.
func (r *Relay) Run(ctx context.Context) error {
	config, err := r.config()
	if err != nil {
		return err
	}
	for failures := 0; ctx.Err() == nil; failures++ {
		worked, err := r.session(ctx, config)
		if ctx.Err() != nil {
			break
		}
		if worked {
			failures = 0
		}
		wait := pauseAfter(failures, err)
		r.log().Warn("emitting from the outbox failed; retrying", "in", wait.Round(time.Millisecond), "error", err)
		sleep.For(ctx, wait)
	}
	return nil //nolint:nilerr // ctx has ended, which is no error
}

// Counts are what became of rows.
type Counts struct {
	// Accepted are the rows whose events were accepted. Of these, Conflicts have an id accepted before with other content,
	// which is what is delivered, and UnknownBots name a bot that does not exist.
	Accepted, Conflicts, UnknownBots int
	// SetAside are the rows with invalid events.
	SetAside int
}

func (c *Counts) add(o Counts) {
	c.Accepted, c.Conflicts, c.UnknownBots, c.SetAside = c.Accepted+o.Accepted, c.Conflicts+o.Conflicts, c.UnknownBots+o.UnknownBots, c.SetAside+o.SetAside
}

// Drain emits the rows that are there when it begins, and returns what became of them. The error is the first trouble met; rows
// that were set aside are none.
func (r *Relay) Drain(ctx context.Context) (sum Counts, err error) {
	config, err := r.config()
	if err != nil {
		return sum, err
	}
	conn, err := connect(ctx, config)
	if err != nil {
		return sum, err
	}
	defer closeConn(conn)
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var last int64 // else it would never end where rows come faster than they are emitted
	if err := conn.QueryRow(asking, "SELECT coalesce(max(seq), 0) FROM mathub_outbox").Scan(&last); err != nil {
		return sum, err
	}
	for {
		done, more, err := r.transaction(ctx, conn, last)
		sum.add(done)
		if err != nil || !more {
			return sum, err
		}
	}
}

func (r *Relay) config() (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(r.URL)
	if err != nil {
		return nil, fmt.Errorf("outbox URL: %w", err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // which works through a pooler as well
	config.RuntimeParams["client_encoding"] = "UTF8"             // whatever the backend's database has
	pgsession.New(config)
	return config, nil
}

func (r *Relay) log() *slog.Logger { return cmp.Or(r.Logger, slog.Default()) }

// session emits over one connection until there is trouble or ctx ends, and says whether anything worked. The connection
// also hears of new rows. However many notifications come during a batch, they mean one look: kept one by one, as pgx does,
// they would fill the memory of a relay that always has rows to emit.
func (r *Relay) session(ctx context.Context, config *pgx.ConnConfig) (worked bool, err error) {
	heard := false // since the rows were last looked for
	config = config.Copy()
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { heard = true }
	conn, err := connect(ctx, config)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	for ctx.Err() == nil {
		heard = false
		done, more, err := r.transaction(ctx, conn, math.MaxInt64)
		worked = worked || done.Accepted > 0 || err == nil
		if err != nil {
			return worked, err
		}
		if more || heard {
			continue
		}
		wait, cancel := context.WithTimeout(ctx, pollInterval)
		_, err = conn.WaitForNotification(wait)
		cancel()
		if err != nil && wait.Err() == nil {
			return worked, err
		}
	}
	return worked, nil
}

// row is an event of the outbox.
type row struct {
	Seq                        int64
	ID, Event, Data, Timestamp string
	BotIDs                     []string
}

func (r row) event() webhook.Event {
	return webhook.Event{
		ID: r.ID, Type: webhook.EventType(r.Event), Timestamp: r.Timestamp, Data: []byte(r.Data), BotIDs: r.BotIDs,
	}
}

// outcome is what became of a row; without either, it is left for the next transaction.
type outcome struct {
	accepted bool
	receipt  emit.Receipt
	fault    error // the event's own
}

// transaction takes rows that no other relay has, up to the seq last, emits them and commits what became of them. more says that it is
// worth looking again at once. The error is trouble that made it stop early, what was accepted until then is committed.
//
// A crash before the commit gives the rows back: they are emitted again, and known by their ids.
func (r *Relay) transaction(ctx context.Context, conn *pgx.Conn, last int64) (done Counts, more bool, trouble error) {
	// What was begun is brought to its end though ctx ends.
	finish, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep.For(finish, stopGrace)
		cancel()
	})()
	taking, cancelTaking := context.WithTimeout(ctx, answerTimeout)
	defer cancelTaking()
	tx, err := conn.BeginTx(taking, pgx.TxOptions{
		BeginQuery: fmt.Sprintf("BEGIN; SET LOCAL idle_in_transaction_session_timeout = %d", idleLimit.Milliseconds()),
	})
	if err != nil {
		return done, false, err
	}
	defer func() { // nothing once it is committed
		ending, done := context.WithTimeout(finish, answerTimeout)
		defer done()
		_ = tx.Rollback(ending)
	}()
	rows, err := take(taking, tx, last, min(max(1, r.AtOnce)*webhook.MaxBatchEvents, maxRows))
	if err != nil || len(rows) == 0 {
		return done, false, err
	}
	outcomes, trouble := r.emit(ctx, finish, rows)
	// The commit gets time of its own, or what was accepted would be emitted again.
	finishing, end := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer end()
	if done, err = r.finish(finishing, tx, rows, outcomes); err != nil {
		return Counts{}, false, errors.Join(err, trouble)
	}
	return done, trouble == nil && ctx.Err() == nil, trouble
}

// take locks the oldest rows that nobody has locked, up to the seq last and so many. Whatever a row holds, it can be read, be it
// to be found at fault: an absurd time or size, or a null among the bots, must not hold up the others. So of each column only
// enough is read to find that out, and data that is too large as it lies on the disk is not even unpacked.
func take(ctx context.Context, tx pgx.Tx, last int64, most int) ([]row, error) {
	found, err := tx.Query(ctx, `
		SELECT seq, left(id, $4), left(event, $4), CASE WHEN pg_column_size(data) > 2 * $2 THEN repeat('x', $2) ELSE left(data::text, $2) END,
			coalesce(to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'infinity'),
			CASE WHEN bot_ids IS NOT NULL THEN ARRAY(SELECT coalesce(left(bot, $4), '') FROM unnest(bot_ids) AS bot LIMIT $5) END
		FROM mathub_outbox WHERE failed_at IS NULL AND seq <= $3 ORDER BY seq LIMIT $1 FOR UPDATE SKIP LOCKED`,
		most, webhook.MaxEventBytes+1, last, webhook.MaxIDBytes+1, webhook.MaxBotIDs+1)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowToStructByPos[row])
}

// emit emits rows in their order until ctx ends, time is up or there is trouble.
func (r *Relay) emit(ctx, finish context.Context, rows []row) ([]outcome, error) {
	outcomes := make([]outcome, len(rows))
	deadline := time.Now().Add(takeTime)
	calls, stopped := errgroup.WithContext(ctx)
	calls.SetLimit(max(1, r.AtOnce))
	e := emission{emit: r.Emit, finish: finish, rows: rows, outcomes: outcomes, over: func() bool {
		return stopped.Err() != nil || time.Now().After(deadline)
	}}
	for _, batch := range e.batches() {
		calls.Go(func() error { return e.send(batch) }) // Go waits for its turn
	}
	return outcomes, calls.Wait()
}

// finish deletes what was accepted, sets aside what never will be, and commits.
func (r *Relay) finish(ctx context.Context, tx pgx.Tx, rows []row, outcomes []outcome) (done Counts, err error) {
	var gone, faulty []int64
	var faults []string
	for i, o := range outcomes {
		switch {
		case o.accepted:
			gone = append(gone, rows[i].Seq)
		case o.fault != nil:
			faulty, faults = append(faulty, rows[i].Seq), append(faults, storable(o.fault))
		}
	}
	if len(gone) > 0 {
		if _, err := tx.Exec(ctx, "DELETE FROM mathub_outbox WHERE seq = ANY ($1)", gone); err != nil {
			return done, err
		}
	}
	if len(faulty) > 0 {
		_, err := tx.Exec(ctx, `
			UPDATE mathub_outbox AS o SET failed_at = now(), error = f.error
			FROM unnest($1::bigint[], $2::text[]) AS f (seq, error) WHERE o.seq = f.seq`, faulty, faults)
		if err != nil {
			return done, err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return done, err
	}
	for i, seq := range faulty {
		r.log().Error("outbox row set aside: invalid event", "seq", seq, "error", faults[i])
	}
	done = Counts{Accepted: len(gone), SetAside: len(faulty)}
	for i, o := range outcomes {
		if o.receipt.Conflict {
			done.Conflicts++
			r.log().Warn("event id was accepted before with other content; that content is delivered", "seq", rows[i].Seq, "event", o.receipt.ID)
		}
		if len(o.receipt.SchemaFaults) > 0 {
			r.log().Warn("the event's data does not fit its schema", "seq", rows[i].Seq, "event", o.receipt.ID, "faults", o.receipt.SchemaFaults)
		}
		if len(o.receipt.UnknownBotIDs) > 0 {
			done.UnknownBots++
			r.log().Warn("event names bots that do not exist", "seq", rows[i].Seq, "event", o.receipt.ID, "bots", o.receipt.UnknownBotIDs)
		}
	}
	return done, nil
}

// storable is an error as Postgres can keep it.
func storable(err error) string {
	text := err.Error()
	text = text[:min(len(text), maxErrorBytes)]
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}

func connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("outbox database: %w", err)
	}
	// Through a pooler no notification would arrive, as the session that listens may be anyone's: rows wait for the next look.
	pooled, err := pgsession.IsPooled(ctx, conn.PgConn())
	if err == nil && !pooled {
		_, err = conn.Exec(ctx, "LISTEN mathub_outbox")
	}
	if err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("outbox database: %w", err)
	}
	return conn, nil
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // what matters is committed
}

// pauseAfter doubles from 1 s, with jitter so that several relays do not return at once, and is longer if the service asks
// for it.
func pauseAfter(failures int, err error) time.Duration {
	wait := min(time.Second<<min(failures, 10), longestPause)
	wait = wait*3/4 + rand.N(wait/4)
	var refused *emit.RefusedError
	if errors.As(err, &refused) {
		wait = max(wait, min(refused.RetryAfter, longestAsked))
	}
	return wait
}
