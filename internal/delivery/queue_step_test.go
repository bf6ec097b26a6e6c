package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func rows(n int) (rows []history.Row) {
	for i := range n {
		rows = append(rows, history.Row{EventID: fmt.Sprintf("e%d", i+1), Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent})
	}
	return rows
}

func TestNextStep(t *testing.T) {
	manual := []history.Row{{EventID: "t1", Attempt: 1, Trigger: webhook.TriggerTest}}
	for name, c := range map[string]struct {
		state  history.QueueState
		window int
		want   QueueStep
	}{
		"nothing waits":                   {history.QueueState{}, 4, QueueStep{Kind: EndQueue}},
		"the webhook is gone":             {history.QueueState{Gone: true, Waiting: 3, Due: rows(3)}, 4, QueueStep{Kind: EndQueue}},
		"a window's worth":                {history.QueueState{Waiting: 9, Due: rows(9)}, 4, QueueStep{Kind: AttemptRows, Rows: rows(4)}},
		"less than a window":              {history.QueueState{Waiting: 2, Due: rows(2)}, 4, QueueStep{Kind: AttemptRows, Rows: rows(2)}},
		"one while it fails":              {history.QueueState{Waiting: 9, Due: rows(9), FailureCount: 1}, 4, QueueStep{Kind: AttemptRows, Rows: rows(1)}},
		"not before the rest is over":     {history.QueueState{Waiting: 9, Due: rows(1), FailureCount: 5, ResumeIn: 3 * time.Second}, 1, QueueStep{Kind: AwaitTime, Wait: 3 * time.Second}},
		"a person does not wait for that": {history.QueueState{Waiting: 9, Due: manual, FailureCount: 5, ResumeIn: 3 * time.Second}, 1, QueueStep{Kind: AttemptRows, Rows: manual}},
		"due later":                       {history.QueueState{Waiting: 1, NextIn: time.Hour}, 1, QueueStep{Kind: AwaitTime, Wait: time.Hour}},
		"due later, and resting":          {history.QueueState{Waiting: 1, NextIn: time.Second, ResumeIn: 3 * time.Second}, 1, QueueStep{Kind: AwaitTime, Wait: 3 * time.Second}},
		"paused":                          {history.QueueState{Waiting: 9, Due: rows(9), Paused: &history.Pause{}}, 4, QueueStep{Kind: AwaitTime, Wait: pausedSleep}},
		"paused, while it fails":          {history.QueueState{Waiting: 9, Due: rows(9), Paused: &history.Pause{}, FailureCount: 5, ResumeIn: time.Second}, 1, QueueStep{Kind: AwaitTime, Wait: time.Second}},
		"paused, and more due later":      {history.QueueState{Waiting: 9, Due: rows(8), NextIn: time.Minute, Paused: &history.Pause{}}, 4, QueueStep{Kind: AwaitTime, Wait: time.Minute}},
		"paused, and more due at once":    {history.QueueState{Waiting: 9, Due: rows(8), NextIn: 1, Paused: &history.Pause{}}, 4, QueueStep{Kind: AwaitTime, Wait: shortestSleep}},
		"paused, and a person waits":      {history.QueueState{Waiting: 1, Due: manual, Paused: &history.Pause{}}, 1, QueueStep{Kind: AwaitTime, Wait: pausedSleep}},
		"paused, and due later":           {history.QueueState{Waiting: 1, NextIn: time.Second, Paused: &history.Pause{}}, 1, QueueStep{Kind: AwaitTime, Wait: time.Second}},
		"paused, and empty":               {history.QueueState{Paused: &history.Pause{}}, 1, QueueStep{Kind: EndQueue}},
		"due by Postgres's clock alone":   {history.QueueState{Waiting: 1}, 1, QueueStep{Kind: AwaitTime, Wait: shortestSleep}},
	} {
		require.Equal(t, c.want, NextStep(c.state, c.window), name)
	}
}

func TestNextWindow(t *testing.T) {
	require.Equal(t, 1, NextWindow(16, 16, 1), "after a failure")
	require.Equal(t, 16, NextWindow(16, 3, 0), "it was not filled")
	require.Equal(t, 32, NextWindow(16, 16, 0))
	require.Equal(t, LargestWindow, NextWindow(32, 32, 0))
}
