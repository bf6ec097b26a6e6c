package e2e_test

import (
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestReference_CallsWorkAsPasted pastes every call of /docs into bash and into zsh, after the lines that set its variables.
func TestReference_CallsWorkAsPasted(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	api, receiver := stack.API(), testkit.NewReceiver(t)
	answer, err := api.Do(t.Context(), "GET", "/docs", "", nil)
	require.NoError(t, err)
	require.Equal(t, 200, answer.Status)
	page := string(answer.Body)
	blocks := func(attributes string) (found []string) {
		for _, m := range regexp.MustCompile(`(?s)<pre `+attributes+`>(.*?)</pre>`).FindAllStringSubmatch(page, -1) {
			found = append(found, html.UnescapeString(m[1]))
		}
		return found
	}
	setup, calls := blocks(`class="setup" tabindex="0"`), blocks(`class="call" tabindex="0"`)
	require.Len(t, setup, 1)
	require.Greater(t, len(calls), 25)

	incident := openIncident(t, stack, receiver.URL("/incident"))
	for _, shell := range []string{"bash", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			terminal := openTerminal(t, stack, api.CreateBot(t, "reference"))
			for _, call := range calls {
				bot := api.CreateBot(t, "reference") // a call may delete it
				script := filledIn(t, setup[0], api, bot, receiver.URL("/"), incident)
				if strings.Contains(call, "/pauses?scope=$SCOPE") { // it ends what there is
					pauseAll(t, api)
				}
				if strings.Contains(call, "/fuses/$CLASS") {
					_, err := stack.Database(t).Exec(t.Context(), "INSERT INTO fuses (class) VALUES ('reference') ON CONFLICT (class) DO UPDATE SET reset_at = NULL")
					require.NoError(t, err)
				}
				// Of the answer, its status.
				cmd := terminal.command(t.Context(), testkit.Tool(t, shell), "-c", `curl() { command curl -sS -o /dev/null -w '%{http_code}' "$@"; }`+"\n"+script+"\n"+call)
				printed, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s\n%s", call, printed)
				if strings.Contains(call, `"id": "bot-euler"`) && shell == "zsh" {
					require.Equal(t, "409", string(printed), "bash has created it")
					continue
				}
				require.Regexp(t, "^20[0124]$", string(printed), call)
			}
		})
	}
}

// filledIn is the page's first block with what the reader is to set.
func filledIn(t *testing.T, setup string, api *testkit.API, bot *testkit.Bot, url, incident string) string {
	t.Helper()
	hook := bot.CreateWebhook(t, url, "", post)
	delivery := bot.Test(t, hook.ID)
	bot.Recover(t, hook.ID, nil)
	bot.AwaitRecovery(t, hook.ID)
	event := bot.Emit(t, testkit.Event{Type: post})
	require.Eventually(t, func() bool { // others' events come too
		return slices.ContainsFunc(bot.Deliveries(t, hook.ID), func(d testkit.Delivery) bool { return d.EventID == event.ID })
	}, time.Minute, 20*time.Millisecond)
	told, err := api.Do(t.Context(), http.MethodPatch, "/api/bot/v1/bot", bot.Key, map[string]string{"notifyUrl": url})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, told.Status, string(told.Body))
	service, err := mathub.NewService(api.URL, api.ServiceToken)
	require.NoError(t, err)
	key, err := service.CreateKey(t.Context(), bot.ID, nil)
	require.NoError(t, err)
	ownKey, err := service.CreateKey(t.Context(), bot.ID, nil)
	require.NoError(t, err)
	for name, value := range map[string]string{
		"MATHUB_API": api.URL, "MATHUB_BOT_KEY": bot.Key, "MATHUB_SERVICE_TOKEN": api.ServiceToken, "WEBHOOK_URL": url,
		"WEBHOOK_ID": hook.ID, "DELIVERY_ID": delivery.ID, "EVENT_ID": event.ID, "BOT_ID": bot.ID, "KEY_ID": key.Value.ID,
		"OWN_KEY_ID": ownKey.Value.ID, "SESSION_ID": session(t, api, service, bot), "RECOVERY_ID": incident, "SCOPE": "all", "TYPE": post, "CLASS": "reference",
	} {
		line := regexp.MustCompile(`(?m)^export ` + name + `=.*$`)
		require.Regexp(t, line, setup, name)
		setup = line.ReplaceAllLiteralString(setup, "export "+name+"="+value)
	}
	require.NotContains(t, setup, "…", "a variable that the test does not set")
	return setup
}

func pauseAll(t *testing.T, api *testkit.API) {
	t.Helper()
	service, err := mathub.NewService(api.URL, api.ServiceToken)
	require.NoError(t, err)
	_, err = service.PauseDeliveries(t.Context(), mathub.NewPause{Scope: "all", Reason: "the reference is tried"})
	require.NoError(t, err)
}

// openIncident is the id of an incident that goes on until the deliveries of its bot are no longer paused.
func openIncident(t *testing.T, stack *testkit.Stack, url string) string {
	t.Helper()
	bot := stack.API().CreateBot(t, "incident")
	hook := bot.CreateWebhook(t, url, "", post)
	service, err := mathub.NewService(stack.API().URL, stack.API().ServiceToken)
	require.NoError(t, err)
	_, err = service.PauseDeliveries(t.Context(), mathub.NewPause{Scope: "bot", Value: bot.ID, Reason: "the reference is tried"})
	require.NoError(t, err)
	_, err = stack.Database(t).Exec(t.Context(), `UPDATE webhooks SET is_active = false, failure_count = 10, failure_class = 'timeout', disabled_reason = 'failures', disabled_at = now()
		WHERE id = $1`, hook.ID)
	require.NoError(t, err)
	incident, err := service.RecoverIncident(t.Context(), mathub.NewIncident{DisabledSince: time.Now().Add(-time.Minute), BotIDs: []string{bot.ID}})
	require.NoError(t, err)
	require.NotNil(t, incident.Value.ID)
	return *incident.Value.ID
}

// session is the id of one that is signed in to the bot's portal.
func session(t *testing.T, api *testkit.API, service *mathub.Service, bot *testkit.Bot) string {
	t.Helper()
	link, err := service.CreatePortalLink(t.Context(), bot.ID, nil)
	require.NoError(t, err)
	_, code, _ := strings.Cut(link.Value.URL, "#")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, api.URL+"/portal/session", strings.NewReader("code="+code))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultTransport.RoundTrip(request)
	require.NoError(t, err)
	defer answer.Body.Close() //nolint:errcheck // not read
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	sessions, err := service.ListPortalSessions(t.Context(), bot.ID)
	require.NoError(t, err)
	require.NotEmpty(t, sessions.Value, "the newest first")
	return sessions.Value[0].ID
}
