package history

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// payloadBytes is how much of events' payloads one statement reads for a filter.
	payloadBytes = 4 << 20
	// mostJudged is how much a person waits for. It takes a processor some 30 ms, as a bot may ask ten times at once.
	mostJudged = 8 << 20
	// previewed is how many events a preview is of, and previewLooked how many it looks at, whosesoever they are.
	previewed     = 100
	previewLooked = 20_000
)

// filterOf is the filter of a webhook; nil: it has none, or is gone.
func filterOf(ctx context.Context, pool *pgxpool.Pool, id uuid.UUID) (webhook.Filter, error) {
	w, err := db.New().WebhookOfAny(ctx, pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	filter, err := webhook.StoredFilter(w.Filter)
	if err != nil {
		return nil, fmt.Errorf("the filter of webhook %s: %w", id, err)
	}
	return filter, nil
}

// leaveOut takes of rows those for missed no longer that a filter leaves out. It ends after so many bytes of payload at least;
// judged is how many of the rows it came to.
func leaveOut(ctx context.Context, pool *pgxpool.Pool, filter webhook.Filter, rows []db.ListMissedRow, bytes int64) (judged int, err error) {
	if len(filter) == 0 {
		return len(rows), nil
	}
	var ids []string
	var places []int
	for i, e := range rows {
		if e.Missed {
			ids, places = append(ids, e.ID), append(places, i)
			rows[i].Missed = false
		}
	}
	last := -1
	whole, err := eachPayload(ctx, pool, ids, bytes, func(n int, payload []byte) {
		last = n
		rows[places[n]].Missed = filter.Match(webhook.FieldsOf(payload))
	})
	if whole || err != nil {
		return len(rows), err
	}
	return places[last] + 1, nil
}

// eachPayload gives what some events say to judge, each with its place in ids. What is no longer kept is left out. It ends after so
// many bytes at least; whole: it came to the end.
func eachPayload(ctx context.Context, pool *pgxpool.Pool, ids []string, bytes int64, judge func(n int, payload []byte)) (whole bool, err error) {
	for from := 0; from < len(ids); {
		if bytes <= 0 {
			return false, nil
		}
		rows, err := db.New().Payloads(ctx, pool, db.PayloadsParams{Ids: ids[from:], Bytes: payloadBytes})
		if err != nil {
			return false, fmt.Errorf("read what events say: %w", err)
		}
		if len(rows) == 0 { // none of the rest is kept
			return true, nil
		}
		for _, row := range rows {
			judge(from+int(row.N)-1, row.Payload)
			bytes -= int64(len(row.Payload))
		}
		from += int(rows[len(rows)-1].N)
	}
	return true, nil
}

// Preview is what a filter would have done to the last events of some types that concern a bot.
type Preview struct{ Events, Matching int }

// Preview counts the last 100 events of the types that concern a bot, among the last 20,000 of all bots, and those of them that
// pass the filter.
func (r *Reader) Preview(ctx context.Context, botID string, types []string, filter webhook.Filter) (p Preview, err error) {
	ids, err := db.New().LastBotEvents(ctx, r.Pool, db.LastBotEventsParams{BotID: botID, Types: types, MostRead: previewLooked, Most: previewed})
	if err != nil {
		return p, err
	}
	_, err = eachPayload(ctx, r.Pool, ids, mostJudged, func(_ int, payload []byte) {
		p.Events++
		if filter.Match(webhook.FieldsOf(payload)) {
			p.Matching++
		}
	})
	return p, err
}
