package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
)

func TestClocksThatAreOffAreFound(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		off, took time.Duration
		status    string
	}{
		"together":            {0, time.Millisecond, statusOK},
		"as NTP leaves them":  {time.Second, time.Millisecond, statusOK},
		"a slow answer":       {4 * time.Second, 8 * time.Second, statusOK},
		"ahead":               {10 * time.Second, time.Millisecond, statusWarning},
		"behind":              {-10 * time.Second, time.Millisecond, statusWarning},
		"signatures too old":  {-5 * time.Minute, time.Millisecond, statusFailed},
		"signatures too soon": {5 * time.Minute, time.Millisecond, statusFailed},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := begin.Add(c.took/2 + c.off)
			require.Equal(t, c.status, judgeClock("Postgres", theirs, begin, begin.Add(c.took)).Status)
		})
	}
}

func TestAWrongCodecKeysetIsFound(t *testing.T) {
	keyset, err := db.NewKeyset()
	require.NoError(t, err)
	require.Equal(t, statusOK, (&Doctor{CodecKeyset: keyset}).judgeCodec().Status)
	require.Equal(t, statusWarning, (&Doctor{CodecKeyset: keyset, Keyset: keyset}).judgeCodec().Status)
	require.Equal(t, statusFailed, (&Doctor{CodecKeyset: keyset[:40]}).judgeCodec().Status)
}

func TestOldPostgresIsFound(t *testing.T) {
	require.Equal(t, statusOK, judgePostgres(150000, "15.0").Status)
	require.Equal(t, statusFailed, judgePostgres(149999, "14.99").Status)
}

func TestMissingOutboundAccessIsFound(t *testing.T) {
	const yes, no, unknown = egress.AccessOK, egress.AccessFailed, egress.AccessUnknown
	for name, c := range map[string]struct {
		known         egress.Access
		status, about string
	}{
		"all well":        {egress.Access{DNS: yes, Network: yes}, statusOK, ""},
		"addresses only":  {egress.Access{DNS: unknown, Network: yes}, statusOK, ""},
		"nobody to ask":   {egress.Access{DNS: unknown, Network: unknown}, statusNote, ""},
		"no resolver":     {egress.Access{DNS: no, Network: no, Cause: "dns: timeout"}, statusWarning, "/etc/resolv.conf"},
		"behind firewall": {egress.Access{DNS: yes, Network: no, Cause: "connect timeout"}, statusWarning, "TCP 443"},
	} {
		t.Run(name, func(t *testing.T) {
			f := judgeOutboundAccess(c.known)
			require.Equal(t, c.status, f.Status)
			require.Contains(t, f.Detail, c.known.Cause)
			require.Contains(t, f.Fix, c.about)
		})
	}
}

func TestPausesAreNamed(t *testing.T) {
	require.Empty(t, judgePauses(nil, false))
	p := history.Pause{Scope: history.PauseHost, Value: "example.com", Reason: "We move.", By: "ada", Since: time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC)}
	found := judgePauses([]history.Pause{p}, false)
	require.Equal(t, []finding{{Check: "pauses", Status: statusNote, Detail: "deliveries to host example.com are paused by ada since 2025-03-20T10:30:00.000Z: We move."}}, found)
	many := judgePauses([]history.Pause{p}, true)
	require.Len(t, many, 2)
	require.Contains(t, many[1].Detail, "others")
}

func TestJudgeProxies(t *testing.T) {
	proxy, err := egress.ParseProxy("http://u:hunter2@proxy:3128")
	require.NoError(t, err)
	require.Equal(t, []finding{ok("proxy", "deliveries go through http://proxy:3128, with a user and password")}, judgeProxies(proxy, nil))
	found := judgeProxies(nil, []string{"https_proxy=http://u:hunter2@other:1", "NO_PROXY=x"})
	require.Len(t, found, 2)
	require.Equal(t, ok("proxy", "none: deliveries connect directly"), found[0])
	require.Equal(t, statusNote, found[1].Status)
	require.NotContains(t, found[1].Detail, "hunter2")
}

func TestJudgeClientCertificate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]string{0: statusFailed, -time.Hour: statusFailed, time.Hour: statusWarning, 29 * 24 * time.Hour: statusWarning, 31 * 24 * time.Hour: statusOK} {
		found := judgeClientCertificate("CN=mathub", now, now.Add(left))
		require.Equal(t, want, found.Status, left)
		require.Contains(t, found.Detail, "CN=mathub")
		require.Contains(t, found.Detail, now.Add(left).Format(time.RFC3339))
	}
}
