package ops

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
)

func TestService_ListBots(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, id := range []string{"euler", "lemma", "noether", "100_percent"} {
		b.bot(id)
	}
	b.hook(1, "lemma", "one.example", "")
	b.hook(2, "lemma", "one.example", fmt.Sprintf(disabled, 1, "failures"))
	b.hook(3, "lemma", "one.example", fmt.Sprintf(disabled, 1, "owner"))
	off, why := false, "leaked its key"
	_, err := b.Bots.Update(b.ctx(), "noether", bots.Change{IsActive: &off, SuspendedReason: &why})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		filter BotFilter
		want   []string
	}{
		"All":            {BotFilter{}, []string{"100_percent", "euler", "lemma", "noether"}},
		"ByAPartOfAName": {BotFilter{Search: "bot LEM"}, []string{"lemma"}},
		"ByAPartOfAnID":  {BotFilter{Search: "ULE"}, []string{"euler"}},
		"NoPattern":      {BotFilter{Search: "0_p"}, []string{"100_percent"}},
		"NoWildcard":     {BotFilter{Search: "%"}, nil},
		"Suspended":      {BotFilter{State: "suspended"}, []string{"noether"}},
		"Active":         {BotFilter{State: "active"}, []string{"100_percent", "euler", "lemma"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			c.filter.Limit = 2
			for range 10 {
				page, next, err := b.ListBots(t.Context(), c.filter)
				require.NoError(t, err)
				for _, bot := range page {
					got = append(got, bot.ID)
				}
				if c.filter.After = next; next == "" {
					break
				}
			}
			require.Equal(t, c.want, got)
		})
	}
	lemma, err := b.Bot(t.Context(), "lemma")
	require.NoError(t, err)
	require.Equal(t, []int{3, 1, 1}, []int{lemma.Webhooks, lemma.ActiveWebhooks, lemma.DisabledByFailures})
	noether, err := b.Bot(t.Context(), "noether")
	require.NoError(t, err)
	require.Equal(t, why, *noether.SuspendedReason)
	require.NotNil(t, noether.SuspendedAt)
	_, err = b.Bot(t.Context(), "nobody")
	require.Equal(t, problem.NotFound, problem.Of(err).Kind)
	_, _, err = b.ListBots(t.Context(), BotFilter{State: "asleep", After: "no id!", Limit: -1})
	require.ErrorContains(t, err, "state: must be one of: active, suspended")
	require.ErrorContains(t, err, "after: ")
	require.ErrorContains(t, err, "limit: ")
}
