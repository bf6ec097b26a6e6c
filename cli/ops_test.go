package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	foundBot     = `{"id":"euler","name":"Euler","isActive":false,"suspendedAt":"2025-03-20T10:30:00.000Z","suspendedReason":"Leaked.","createdAt":"2025-03-20T10:00:00.000Z","notifyUrl":null,"webhooks":3,"activeWebhooks":2,"disabledByFailures":1}`
	foundHook    = `{"id":"w1","botId":"euler","host":"a.example","name":null,"state":"disabled","failureCount":10,"waiting":0,"oldestDueAt":null,"lastError":"timeout","errorClass":"timeout","disabledAt":"2025-03-20T10:30:00.000Z","disabledReason":"operator","disabledNote":"Floods.","createdAt":"2025-03-20T10:00:00.000Z"}`
	foundKey     = `{"id":"k1","botId":"euler","name":"laptop","prefix":"bot_x7KqAb","createdAt":"2025-03-20T10:00:00.000Z","createdBy":{"kind":"portal","name":"Ada"},"lastUsedAt":null}`
	shownBot     = "BOT    NAME   ACTIVE  WEBHOOKS  ACTIVE WEBHOOKS  DISABLED BY FAILURES  SUSPENDED                 REASON\neuler  Euler  no      3         2                1                     2025-03-20T10:30:00.000Z  Leaked.\n"
	shownHook    = "WEBHOOK  BOT    HOST       STATE     FAILURES  WAITING  OLDEST DUE  LAST ERROR  DISABLED                  BY\nw1       euler  a.example  disabled  10        0        -           timeout     2025-03-20T10:30:00.000Z  operator: Floods.\n"
	shownKey     = "KEY  BOT    NAME    BEGINS      CREATED                   BY          LAST USED\nk1   euler  laptop  bot_x7KqAb  2025-03-20T10:00:00.000Z  portal Ada  -\n"
	waitingRows  = `{"position":1,"eventId":"e1","eventType":"mention","acceptedAt":"2025-03-20T10:30:00.000Z","attempt":2,"trigger":"retry","nextAttemptAt":"2025-03-20T10:31:00.000Z"},{"position":2,"eventId":"e2","eventType":"mention","acceptedAt":"2025-03-20T10:30:01.000Z","attempt":1,"trigger":"event","nextAttemptAt":null}`
	shownWaiting = "POSITION  EVENT  TYPE     ACCEPTED                  ATTEMPT  TRIGGER  NEXT ATTEMPT\n1         e1     mention  2025-03-20T10:30:00.000Z  2        retry    2025-03-20T10:31:00.000Z\n2         e2     mention  2025-03-20T10:30:01.000Z  1        event    after those before it\n"
	recovery     = `{"state":"running","found":120,"delivered":79,"failed":1,"remaining":40,"lookedThrough":true,"lastError":null,"since":"2025-03-19T10:30:00.000Z","until":"2025-03-20T10:30:00.000Z","eventType":null,"error":null,"statusClass":null,"startedAt":"2025-03-20T10:30:00.000Z","endedAt":null}`
)

// TestOpsCommandsCallTheServiceAPI, each once, and show what it answers.
func TestOpsCommandsCallTheServiceAPI(t *testing.T) {
	const path = "/api/internal/v1/"
	for args, c := range map[string]struct{ call, answer, printed string }{
		"bots list --limit 1 eul":                            {"GET " + path + "bots?limit=1&search=eul", "[" + foundBot + "]", shownBot + "\nMore follow: --after=y\n"},
		"bots list --suspended --after a --limit 1":          {"GET " + path + "bots?after=a&limit=1&state=suspended", "[" + foundBot + "]", shownBot + "\nMore follow: --after=y\n"},
		"bots list --limit 1 --json":                         {"GET " + path + "bots?limit=1", "[" + foundBot + "]", "[" + foundBot + "]\n"},
		"bots get euler":                                     {"GET " + path + "bots/euler", foundBot, shownBot},
		"bots suspend euler --reason Leaked.":                {"PATCH " + path + `bots/euler {"isActive":false,"suspendedReason":"Leaked."}`, foundBot, "BOT    NAME   ACTIVE  REASON\neuler  Euler  no      Leaked.\n"},
		"bots resume euler --json":                           {"PATCH " + path + `bots/euler {"isActive":true}`, foundBot, foundBot + "\n"},
		"bots delete euler --yes":                            {"DELETE " + path + "bots/euler", "", ""},
		"keys list euler":                                    {"GET " + path + "bots/euler/keys", "[" + foundKey + "]", shownKey},
		"keys find bot_x7Kq":                                 {"POST " + path + `keys/find {"key":"bot_x7Kq"}`, "[" + foundKey + "]", shownKey},
		"keys revoke euler k1":                               {"DELETE " + path + "bots/euler/keys/k1", "", ""},
		"webhooks list --state failing --limit 1":            {"GET " + path + "webhooks?limit=1&state=failing", "[" + foundHook + "]", shownHook + "\nMore follow: --after=y\n"},
		"webhooks list --disabled-reason failures --limit 1": {"GET " + path + "webhooks?disabledReason=failures&limit=1", "[" + foundHook + "]", shownHook + "\nMore follow: --after=y\n"},
		"webhooks list --bot b --host h --error-class dns --sort oldest --limit 1 --json": {"GET " + path + "webhooks?botId=b&errorClass=dns&host=h&limit=1&sort=oldest", "[" + foundHook + "]", "[" + foundHook + "]\n"},
		"webhooks delete w1 --yes":                         {"DELETE " + path + "webhooks/w1", "", ""},
		"webhooks waiting w1":                              {"GET " + path + "webhooks/w1/waiting", "[" + waitingRows + "]", shownWaiting},
		"webhooks retry-now w1 --event e1":                 {"POST " + path + `webhooks/w1/retry-now {"eventId":"e1"}`, `{"attempts":3}`, "ATTEMPTS\n3\n"},
		"webhooks recover w1 --since 2025-03-20T10:30:00Z": {"POST " + path + `webhooks/w1/recover {"since":"2025-03-20T10:30:00Z"}`, recovery, "STATE    FOUND  DELIVERED  FAILED  REMAINING  LAST ERROR\nrunning  120    79         1       40         -\n"},
		"webhooks recover w1 --status --json":              {"GET " + path + "webhooks/w1/recover", recovery, recovery + "\n"},
		"webhooks recover w1 --cancel":                     {"DELETE " + path + "webhooks/w1/recover", "", ""},
		"late --minutes 15":                                {"GET " + path + "late?minutes=15", `{"since":"2025-03-20T10:30:00Z","queues":[],"moreQueues":false,"workflows":[],"moreWorkflows":false,"temporalAway":false}`, "Nothing is late.\n"},
		"late":                                             {"GET " + path + "late?minutes=5", `{"since":"2025-03-20T10:30:00Z","queues":[],"moreQueues":false,"workflows":[],"moreWorkflows":false,"temporalAway":true}`, "Temporal does not answer: workflows are not known.\n"},
	} {
		t.Run(args, func(t *testing.T) {
			calls, printed, err := opsRun(t, args, c.answer)
			require.NoError(t, err)
			require.Equal(t, []string{c.call}, calls)
			require.Equal(t, c.printed, printed)
		})
	}
}

// TestOpsListsGoOnUntilTheyHaveWhatIsAskedFor: the API may answer with short pages.
func TestOpsListsGoOnUntilTheyHaveWhatIsAskedFor(t *testing.T) {
	calls, printed, err := opsRun(t, "bots list --limit 2 --json", "["+foundBot+"]", "[]", "["+foundBot+"]")
	require.NoError(t, err)
	require.Equal(t, []string{"GET /api/internal/v1/bots?limit=2", "GET /api/internal/v1/bots?after=y&limit=1", "GET /api/internal/v1/bots?after=y&limit=1"}, calls)
	require.Equal(t, "["+foundBot+","+foundBot+"]\n", printed)
	_, _, err = opsRun(t, "bots list --limit 0", "[]")
	require.ErrorContains(t, err, "--limit must be at least 1")
	_, _, err = opsRun(t, "late --minutes 0", "[]")
	require.ErrorContains(t, err, "--minutes must be at least 1")
}

func TestOpsStatusFailsIfSomethingIsWrong(t *testing.T) {
	const late = `{"name":"late","isWrong":true,"count":1,"atLeast":false,"summary":"Late: 1","items":[{"webhookId":"w1","botId":"euler","host":"a.example","text":"oldest due long ago","url":null}],"command":"mathub-webhooks ops late"}`
	const told = `{"name":"suspended","isWrong":false,"count":1,"atLeast":false,"summary":"Suspended bots: 1","items":[],"command":"mathub-webhooks ops bots list --suspended"}`
	const well = `{"name":"fuses","isWrong":false,"count":0,"atLeast":false,"summary":"Blown fuses: 0","items":[],"command":"mathub-webhooks fuse"}`
	calls, printed, err := opsRun(t, "status", `{"at":"2025-03-20T10:30:00Z","isWrong":true,"findings":[`+late+`,`+told+`,`+well+`]}`)
	require.Equal(t, []string{"GET /api/internal/v1/overview"}, calls)
	require.Equal(t, `WRONG  Late: 1
         w1  euler  a.example  oldest due long ago
         > mathub-webhooks ops late
-      Suspended bots: 1
         > mathub-webhooks ops bots list --suspended
ok     Blown fuses: 0
`, printed)
	require.ErrorIs(t, err, errWrong)
	_, _, err = opsRun(t, "status", `{"at":"2025-03-20T10:30:00Z","isWrong":false,"findings":[`+told+`,`+well+`]}`)
	require.NoError(t, err)
}

// TestWhatCannotBeUndoneIsConfirmed: where no terminal is, as here, by a flag.
func TestWhatCannotBeUndoneIsConfirmed(t *testing.T) {
	for _, args := range []string{"bots delete euler", "webhooks delete w1"} {
		calls, _, err := opsRun(t, args, "")
		require.ErrorContains(t, err, "give --yes", args)
		require.Empty(t, calls, args)
	}
}

func TestAKeyThatIsNotFoundIsAnError(t *testing.T) {
	_, _, err := opsRun(t, "keys find bot_x7Kq", "[]")
	require.EqualError(t, err, "no key begins so, or the key was revoked")
}

func TestACommandWaitsForTheEndOfARecovery(t *testing.T) {
	completed := strings.Replace(recovery, "running", "completed", 1)
	calls, printed, err := opsRun(t, "webhooks recover w1 --wait", recovery, "away", recovery, completed)
	require.ErrorIs(t, err, errFailed, "one delivery failed")
	require.Len(t, calls, 4)
	require.Contains(t, printed, "completed  120")
	_, _, err = opsRun(t, "webhooks recover w1 --status --wait", strings.Replace(completed, `"failed":1`, `"failed":0`, 1))
	require.NoError(t, err)
}
