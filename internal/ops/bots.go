package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// Bot is a bot and what webhooks it has. Of each, mostCounted webhooks are counted.
type Bot struct {
	bots.Bot
	Webhooks, ActiveWebhooks, DisabledByFailures int
}

// BotFilter says which bots are wanted.
type BotFilter struct {
	// Search is a part of an id or name, in either case; "": all.
	Search string
	// State is one of BotStates; "": any.
	State string
	// After is the id after which the page begins.
	After string
	Limit int // 0: DefaultListed
}

// BotStates are what bots can be asked for.
var BotStates = []string{string(Active), string(Suspended)}

// maxSearch bounds what is searched for, in characters.
const maxSearch = 200

func (f *BotFilter) check() error {
	faults := &problem.Faults{}
	if utf8.RuneCountInString(f.Search) > maxSearch {
		faults.Add("search", fmt.Sprintf("must have at most %d characters", maxSearch))
	}
	if f.State != "" && !slices.Contains(BotStates, f.State) {
		faults.Add("state", "must be one of: "+strings.Join(BotStates, ", "))
	}
	if f.After != "" && !webhook.ValidID(f.After) {
		faults.Add("after", "must be the id of a bot")
	}
	checkLimit(&f.Limit, faults)
	return faults.Err()
}

func checkLimit(limit *int, faults *problem.Faults) {
	if *limit == 0 {
		*limit = DefaultListed
	}
	if *limit < 1 || *limit > MaxListed {
		faults.Add("limit", fmt.Sprintf("must be from 1 to %d", MaxListed))
	}
}

func (f *BotFilter) wants(b *db.Bot) bool {
	if f.State != "" && (f.State == string(Active)) != b.IsActive {
		return false
	}
	search := strings.ToLower(f.Search)
	return strings.Contains(strings.ToLower(b.ID), search) || strings.Contains(strings.ToLower(b.Name), search)
}

// ListBots lists bots in the order of their ids. next is the After of the next page; "": this is the last. A page may be short,
// and still have a next one.
func (s *Service) ListBots(ctx context.Context, f BotFilter) (page []Bot, next string, err error) {
	if err := f.check(); err != nil {
		return nil, "", err
	}
	q := db.New()
	rows, last, err := scan(f.Limit, func(after *db.Bot, most int32) ([]db.Bot, error) {
		id := f.After
		if after != nil {
			id = after.ID
		}
		if f.State == string(Suspended) {
			return q.SuspendedBotsAfter(ctx, s.Pool, db.SuspendedBotsAfterParams{After: id, Most: most})
		}
		return q.BotsAfter(ctx, s.Pool, db.BotsAfterParams{After: id, Most: most})
	}, f.wants)
	if err != nil {
		return nil, "", err
	}
	if last != nil {
		next = last.ID
	}
	listed := make([]bots.Bot, len(rows))
	for i, row := range rows {
		listed[i] = s.Bots.Of(row)
	}
	page, err = s.withWebhooks(ctx, listed)
	return page, next, err
}

// Bot finds a bot by its id.
func (s *Service) Bot(ctx context.Context, id string) (Bot, error) {
	found, err := s.Bots.Get(ctx, id)
	if err != nil {
		return Bot{}, err
	}
	counted, err := s.withWebhooks(ctx, []bots.Bot{found})
	if err != nil {
		return Bot{}, err
	}
	return counted[0], nil
}

func (s *Service) withWebhooks(ctx context.Context, listed []bots.Bot) ([]Bot, error) {
	ids := make([]string, len(listed))
	for i, b := range listed {
		ids[i] = b.ID
	}
	counts, err := db.New().CountWebhooksOfBots(ctx, s.Pool, db.CountWebhooksOfBotsParams{BotIds: ids, MostCounted: mostCounted})
	if err != nil {
		return nil, err
	}
	of := make(map[string]db.CountWebhooksOfBotsRow, len(counts))
	for _, n := range counts {
		of[n.BotID] = n
	}
	page := make([]Bot, len(listed))
	for i, b := range listed {
		n := of[b.ID]
		page[i] = Bot{Bot: b, Webhooks: int(n.Webhooks), ActiveWebhooks: int(n.Active), DisabledByFailures: int(n.DisabledByFailures)}
	}
	return page, nil
}
