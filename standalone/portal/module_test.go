package portal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestTheModule: what it adds to a page. The focus comes back from a dialog to where it was.
func TestTheModule(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill()
	b := s.signedIn(t, "manage", tabOptions{})
	require.Equal(t, "/portal/webhooks", b.Here(), "what an action left in the address is gone")
	require.True(t, eval[bool](b, `[...document.querySelectorAll("time[datetime]")].every(time => time.title === time.dateTime && !time.textContent.includes("UTC"))`))
	b.Keys("j")
	first := eval[string](b, focused)
	require.Contains(t, first, "/portal/webhooks/")
	b.Keys("?")
	b.Await("dialog[open]")
	b.Keys("\x1b")
	require.False(t, b.Has("dialog[open]"))
	require.Equal(t, first, eval[string](b, focused))
	b.Keys("gs")
	b.AwaitText("Notification URL")
	b.Click("form[action*='/sessions/'] button")
	b.AwaitText("You are signed out.")
}

// focused is what has the focus: where it leads, or what it says.
const focused = `(document.activeElement.getAttribute("href") ?? document.activeElement.textContent.trim())`

// TestADialogKeepsTheFocus: it goes in, where it stays, and Escape gives it back to what asked. Nothing was sent.
func TestADialogKeepsTheFocus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ok, _, _ := s.fill()
	delivery := s.bot.AwaitDeliveries(t, ok.ID, 1)[0]
	b := s.signedIn(t, "manage", tabOptions{})
	b.Go("/portal/webhooks/" + ok.ID + "/deliveries/" + delivery.ID)
	inDialog := `document.querySelector("dialog[open]").contains(document.activeElement)`
	for _, open := range []func(){
		func() { keyboard{b}.press("form[action$=redeliver] button") },
		func() { b.Keys("r") },
	} {
		open()
		b.Await("dialog[open]")
		require.Equal(t, "Cancel", eval[string](b, focused), "what changes nothing is first")
		require.True(t, eval[bool](b, inDialog))
		b.Keys(kb.Tab)
		require.True(t, eval[bool](b, inDialog))
		b.Keys(kb.Escape)
		require.False(t, b.Has("dialog[open]"))
		require.Equal(t, "Redeliver", eval[string](b, focused))
	}
	require.Len(t, s.receiver.Requests("/ok"), 1)
	b.Keys("r")
	b.Await("dialog[open]")
	keyboard{b}.follow("dialog .primary")
	b.AwaitText("Sent again, and delivered.")
	require.Len(t, s.receiver.Requests("/ok"), 2)
}

// TestADialogOutlivesWhatIsShownAnew: what it asks about is still sent when the part of the page with its form has changed.
func TestADialogOutlivesWhatIsShownAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hook := s.bot.CreateWebhook(t, s.receiver.URL("/ok"), "", "post.created")
	s.bot.SetActive(t, hook.ID, false)
	s.api.EmitBatch(t, slices.Repeat([]testkit.Event{{Type: "post.created", BotIDs: []string{s.bot.ID}, Data: json.RawMessage(`{}`)}}, 100))
	b := s.signedIn(t, "manage", tabOptions{})
	path := "/portal/webhooks/" + hook.ID
	b.Go(path)
	b.AwaitText("100 events missed.") // they are stored a moment after they are accepted
	s.api.PauseBot(t, s.bot.ID)
	s.bot.SetActive(t, hook.ID, true)
	s.bot.Recover(t, hook.ID, nil)
	b.Go(path + "/recover")
	b.Click("form[action$=cancel] button")
	b.Await("dialog[open]")
	s.api.ResumeBot(t, s.bot.ID)
	s.receiver.Await(t, "/ok", 1)
	s.api.PauseBot(t, s.bot.ID) // so that there is still something to cancel
	asked := `performance.getEntriesByType("resource").filter((one) => one.initiatorType === "xmlhttprequest").length`
	before := eval[int](b, asked)
	require.Eventually(t, func() bool { return eval[int](b, asked) >= before+2 }, patience, 50*time.Millisecond, "the page looks for what is new")
	b.Submit("dialog .primary")
	b.AwaitText("The recovery was cancelled.")
	require.Equal(t, "cancelled", s.bot.AwaitRecovery(t, hook.ID).State)
}

// TestNewRowsWaitForTheirReader: who is further down, or in the list, is offered them; who is at its top sees them.
func TestNewRowsWaitForTheirReader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ok := s.bot.CreateWebhook(t, s.receiver.URL("/ok"), "", "post.created")
	emitted := 0
	emit := func(n int) {
		for range n {
			s.bot.Emit(t, testkit.Event{Type: "post.created", Data: json.RawMessage(`{}`)})
		}
		emitted += n
		s.bot.AwaitDeliveries(t, ok.ID, emitted)
	}
	emit(30)
	b := s.signedIn(t, "view", tabOptions{})
	rows := func() int { return eval[int](b, `document.querySelectorAll("#rows tr").length`) }
	b.Go("/portal/deliveries")
	require.Equal(t, 30, rows())
	eval[any](b, `scrollTo(0, document.body.scrollHeight) ?? null`)
	emit(3)
	b.Await("[data-new]")
	b.AwaitText("3 new")
	require.Equal(t, 30, rows(), "nothing moves under who reads")
	emit(1)
	b.AwaitText("4 new")
	b.Click("[data-new]")
	require.Equal(t, 34, rows())
	require.False(t, b.Has("[data-new]"))
	newest := s.bot.AwaitDeliveries(t, ok.ID, emitted)[0]
	require.Contains(t, eval[string](b, focused), newest.ID, "the focus is at the newest")
	require.Equal(t, "4 new", b.Text("[role=status]"))

	emit(1)
	b.AwaitText("1 new")
	require.Equal(t, 34, rows(), "the focus is in the list")
	b.Click("[data-new]")
	eval[any](b, `document.activeElement.blur() ?? null`)
	emit(1)
	require.Eventually(t, func() bool { return rows() == 36 }, patience, 50*time.Millisecond, "who is at the top sees them come")
}

// TestWhatIsShownAnewKeepsTheFocus: it stays at the same link or button, in each part of a page that renews itself.
func TestWhatIsShownAnewKeepsTheFocus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.receiver.Answer("/moody", testkit.Content(http.StatusInternalServerError, "no"))
	hook := s.bot.CreateWebhook(t, s.receiver.URL("/moody"), "", "post.created")
	b := s.signedIn(t, "manage", tabOptions{})
	path := "/portal/webhooks/" + hook.ID
	for i, c := range []struct{ page, at, part string }{
		{path, "#recent .pager a", "#recent"},
		{path, "#charts .seg a[aria-current]", "#charts"},
		{"/portal/webhooks", "#list a.go", "#list"},
	} {
		if i == 0 { // so that the parts have what is focused
			s.bot.Test(t, hook.ID)
		}
		b.Go(c.page)
		eval[any](b, `document.querySelector(`+quoted(c.at)+`).focus() ?? null`)
		eval[any](b, `(document.querySelector(`+quoted(c.part)+`).firstElementChild.before_ = true) && null`)
		before := eval[string](b, focused)
		s.bot.Test(t, hook.ID)
		require.Eventually(t, func() bool {
			return !eval[bool](b, `document.querySelector(`+quoted(c.part)+`).firstElementChild.before_ ?? false`)
		}, patience, 50*time.Millisecond, "%s is shown anew", c.part)
		require.Equal(t, before, eval[string](b, focused), c.part)
		require.True(t, eval[bool](b, `document.querySelector(`+quoted(c.part)+`).contains(document.activeElement)`), c.part)
	}
}

// TestADisabledWebhook: each of its pages says what it missed or offers, under one name, to enable and recover.
func TestADisabledWebhook(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hook := s.bot.CreateWebhook(t, s.receiver.URL("/ok"), "", "post.created")
	s.bot.SetActive(t, hook.ID, false)
	for range 3 {
		s.bot.Emit(t, testkit.Event{Type: "post.created", Data: json.RawMessage(`{}`)})
	}
	b := s.signedIn(t, "manage", tabOptions{})
	path := "/portal/webhooks/" + hook.ID
	b.Go(path)
	b.AwaitText("3 events missed.") // they are stored a moment after they are accepted
	require.Equal(t, "Enable and recover…", b.Text(".banner form .btn"))
	b.Go(path + "/recover")
	require.Equal(t, "Enable and recover…", b.Text("form[action$=enable] .btn"))
	b.Go(path + "/test")
	require.Contains(t, b.Text("main form"), "unsigned, as this webhook has no secret")
	b.Submit("main form .primary")
	b.AwaitText("The test arrived.")
	require.Equal(t, "Enable and recover…", b.Text(".banner form .btn"))
	b.Submit(".banner form .btn")
	require.Equal(t, path+"/recover", b.Here())
	require.Contains(t, b.Text("main"), "3 events missed")
	require.Contains(t, b.Text("form[action$=recover] .primary"), "Recover all 3")
	for _, width := range []int64{1280, 360} {
		b.Size(width)
		b.fits(width, fmt.Sprintf("recover, %d px", width))
	}
}

// TestANotificationIsTried from the settings, which say what the receiver answered.
func TestANotificationIsTried(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.signedIn(t, "manage", tabOptions{})
	b.Go("/portal/settings")
	require.False(t, b.Has("form[action$=notify-test]"), "there is no URL yet")
	b.Fill("#notifyUrl", s.receiver.URL("/owner"))
	b.Submit("form[action$='/settings/notify'] button")
	b.Go("/portal/settings")
	b.Submit("form[action$=notify-test] button")
	require.Contains(t, b.Text("#notifications [role=status]"), "your endpoint answered HTTP 204")
	s.receiver.Answer("/owner", testkit.Content(http.StatusForbidden, "no"))
	b.Submit("form[action$=notify-test] button")
	require.Contains(t, b.Text("#notifications [role=status]"), "the receiver refused us (HTTP 403).")
	require.Contains(t, string(s.receiver.Await(t, "/owner", 2)[0].Body), `"test":true`)
	b.Check("notification test")
}
