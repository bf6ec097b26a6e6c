package cli

import (
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
)

func TestBotSet_SuspendsWithoutAnyOtherFlag(t *testing.T) {
	url := dbtest.NewURL(t)
	pool, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	service := &bots.Service{Pool: pool}
	bot, err := service.Create(t.Context(), bots.New{Name: "euler"})
	require.NoError(t, err)
	for _, c := range []struct {
		flag   string
		active bool
	}{{"--no-active", false}, {"--active", true}} {
		var command Bot
		parser := kong.Must(&command)
		_, err := parser.Parse([]string{"set", "euler", c.flag, "--database-url", url})
		require.NoError(t, err)
		require.NoError(t, command.Set.Run(t.Context()))
		bot, err = service.Get(t.Context(), bot.ID)
		require.NoError(t, err)
		require.Equal(t, c.active, bot.IsActive, c.flag)
	}
}
