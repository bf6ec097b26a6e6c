package portal_test

import (
	"os"
	"regexp"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// walk is the way to what a row of the operators' table wants: the clicks from a page, which is the overview or the result of a
// search, and what is there.
type walk struct {
	from   string
	clicks []string
	there  string
}

// commandAlone is what no page does.
var commandAlone = map[string]bool{"go on after a restore": true}

// walksOf are the ways for the rows of docs/operations.md's table, by their first words.
func walksOf(bot, event string) map[string]walk {
	firstHook, search := "main table.rows a.go", "/ops/bots?search="+bot
	return map[string]walk{
		"what is wrong now":             {"/ops", nil, "#failing.card"},
		"who fails":                     {"/ops", []string{"#failing .btn"}, firstHook},
		"whom failures disabled":        {"/ops", []string{"#disabled a"}, "main"},
		"what is late":                  {"/ops", []string{".head a[href='/ops/late']"}, "main"},
		"the longest queues":            {"/ops", []string{"#waiting .btn"}, firstHook},
		"what waits for a webhook":      {"/ops", []string{"#waiting li a"}, "#waits table.rows"},
		"what became of an event":       {"/ops/events?id=" + event, nil, "main table.rows"},
		"find a bot":                    {"/ops", []string{"nav a[href='/ops/bots']"}, "#search"},
		"whose webhooks are at a host":  {"/ops/webhooks?host=127.0.0.1", nil, firstHook},
		"stop a bot that floods":        {search, []string{firstHook}, "a[href^='/ops/pauses?scope=bot']"},
		"suspend a bot":                 {search, []string{firstHook}, "a[href$='/suspend']"},
		"delete a bot":                  {search, []string{firstHook}, "a[href$='/delete']"},
		"the bot of a leaked key":       {"/ops", []string{"nav a[href='/ops/bots']", ".head a[href='/ops/keys']"}, "#key"},
		"enable or disable a webhook":   {"/ops", []string{"#failing .btn", firstHook}, "a[href$='/disable']"},
		"deliver what a webhook missed": {"/ops", []string{"#failing li a"}, "a[href$='/recover']"},
		"attempt now what waits":        {"/ops", []string{"#waiting li a"}, "form[action$='/retry-now'] button"},
		"pause deliveries":              {"/ops", []string{"nav a[href='/ops/pauses']"}, "form[action='/ops/pauses'] .danger"},
		"what is paused":                {"/ops", []string{"nav a[href='/ops/pauses']"}, "main"},
		"reset a blown fuse":            {"/ops", []string{"#fuses li .btn"}, "form[action='/ops/fuses/dns/reset'] .danger"},
		"undo an incident":              {"/ops", []string{"nav a[href='/ops/incidents']"}, "#disabledSince"},
		"who changed what":              {"/ops", []string{"nav a[href='/ops/audit']"}, "main table.rows"},
	}
}

// atMostTwoClicks from the overview, or from a search, lead to each thing that the table of docs/operations.md is about.
func (s *site) atMostTwoClicks(b *tab, event string) {
	t := s.t
	read, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	table := regexp.MustCompile(`(?s)\| what you want \| command \|\n(.*?)\n\n`).FindSubmatch(read)
	require.NotNil(t, table)
	ways := walksOf(s.bot.ID, event)
	rows := regexp.MustCompile(`(?m)^\| (.+?) \| `).FindAllSubmatch(table[1], -1)
	for _, row := range rows {
		wanted := regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`).ReplaceAllString(string(row[1]), "$1")
		way, found := walk{}, false
		for name, w := range ways {
			if len(wanted) >= len(name) && wanted[:len(name)] == name {
				way, found = w, true
				delete(ways, name)
				break
			}
		}
		if commandAlone[wanted] {
			continue
		}
		if !assert.True(t, found, "no way on /ops to: %s", wanted) {
			continue
		}
		assert.LessOrEqual(t, len(way.clicks), 2, wanted)
		b.Go(way.from)
		for _, click := range way.clicks {
			require.True(t, b.Has(click), "%s: %s has no %s", wanted, b.Here(), click)
			b.Submit(click)
		}
		assert.True(t, b.Has(way.there), "%s: %s has no %s", wanted, b.Here(), way.there)
	}
	assert.Empty(t, ways, "rows that the table does not have")
}
